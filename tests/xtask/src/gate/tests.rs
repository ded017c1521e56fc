//! Each check is shown an image that breaks it and nothing else.

use super::*;

/// A section of a made-up image.
#[derive(Clone)]
struct Section {
    name: &'static str,
    address: u32,
    flags: u32,
    data: Vec<u8>,
}

/// A made-up driver image. Without changes it passes every check.
#[derive(Clone)]
struct Image {
    machine: u16,
    subsystem: u16,
    entry: u32,
    flags: u16,
    characteristics: u16,
    section_alignment: u32,
    imports: Vec<(&'static str, Vec<&'static str>)>,
    /// Which section holds the imports.
    import_section: usize,
    /// Which one has the import addresses, if not that one.
    address_section: Option<usize>,
    /// Offset in its page of the one relocation.
    relocation: u16,
    sections: Vec<Section>,
}

const CODE: u32 = 0x6000_0020;
const READ: u32 = 0x4000_0040;
const WRITE: u32 = 0xc000_0040;

impl Default for Image {
    fn default() -> Self {
        let section = |name, address, flags| Section {
            name,
            address,
            flags,
            data: vec![0; 16],
        };
        Self {
            machine: 0x8664,
            subsystem: 1,
            entry: 0x1000,
            flags: 0x01e0,
            characteristics: 0x2022,
            section_alignment: PAGE,
            imports: vec![("ntoskrnl.exe", vec!["IoCreateDevice"])],
            import_section: 1,
            address_section: None,
            relocation: 0x10,
            sections: vec![
                section(".text", 0x1000, CODE),
                section(".rdata", 0x2000, READ),
                section(".data", 0x3000, WRITE),
                section(".reloc", 0x4000, 0x4200_0040),
            ],
        }
    }
}

impl Image {
    /// Import descriptors, names and thunks, as they stand at `base`.
    fn import_data(&self, base: u32) -> (Vec<u8>, u32) {
        let word = |value: usize| u32::try_from(value).unwrap();
        let mut data = vec![0; (self.imports.len() + 1) * 20];
        let mut first = 0;
        for (index, (module, names)) in self.imports.iter().enumerate() {
            let mut thunks = Vec::new();
            for name in names {
                thunks.push(u64::from(base + word(data.len())));
                data.extend([0, 0]);
                data.extend(name.as_bytes());
                data.push(0);
            }
            thunks.push(0);
            let module_at = base + word(data.len());
            data.extend(module.as_bytes());
            data.push(0);
            data.resize(data.len().next_multiple_of(8), 0);
            let thunks_at = base + word(data.len());
            if index == 0 {
                first = thunks_at;
            }
            data.extend(thunks.iter().flat_map(|thunk| thunk.to_le_bytes()));
            // OriginalFirstThunk, TimeDateStamp, ForwarderChain, Name, FirstThunk
            let descriptor = [thunks_at, 0, 0, module_at, thunks_at];
            for (field, value) in descriptor.iter().enumerate() {
                let at = index * 20 + field * 4;
                data[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        (data, first)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut sections = self.sections.clone();
        let import_address = sections[self.import_section].address;
        let (mut imports, mut thunks) = self.import_data(import_address);
        if let Some(section) = self.address_section {
            // As with /DRIVER: one module, whose names' thunks are also its addresses' first content.
            let from = (thunks - import_address) as usize;
            sections[section].data = imports[from..].to_vec();
            thunks = sections[section].address;
            imports[16..20].copy_from_slice(&thunks.to_le_bytes());
        }
        sections[self.import_section].data = imports;
        let mut relocations = Vec::new();
        relocations.extend(0x3000_u32.to_le_bytes());
        relocations.extend(12_u32.to_le_bytes());
        relocations.extend((0xa000 | self.relocation).to_le_bytes());
        relocations.extend([0, 0]);
        if let Some(section) = sections.iter_mut().find(|section| section.name == ".reloc") {
            section.data = relocations;
        }

        let mut image = vec![0; 0x40];
        image[..2].copy_from_slice(b"MZ");
        image[0x3c] = 0x40;
        image.extend(b"PE\0\0");
        image.extend(self.machine.to_le_bytes());
        image.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
        image.extend([0; 12]);
        image.extend(240_u16.to_le_bytes());
        image.extend(self.characteristics.to_le_bytes());
        let optional = image.len();
        image.resize(optional + 240, 0);
        let mut put = |at: usize, bytes: &[u8]| {
            image[optional + at..optional + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &0x20b_u16.to_le_bytes());
        put(16, &self.entry.to_le_bytes());
        put(32, &self.section_alignment.to_le_bytes());
        put(36, &0x200_u32.to_le_bytes());
        put(56, &0x8000_u32.to_le_bytes());
        put(60, &0x400_u32.to_le_bytes());
        put(68, &self.subsystem.to_le_bytes());
        put(70, &self.flags.to_le_bytes());
        put(108, &16_u32.to_le_bytes());
        put(112 + 8, &import_address.to_le_bytes());
        put(112 + 8 + 4, &40_u32.to_le_bytes());
        if sections.iter().any(|section| section.name == ".reloc") {
            put(112 + 5 * 8, &0x4000_u32.to_le_bytes());
            put(112 + 5 * 8 + 4, &12_u32.to_le_bytes());
        }
        put(112 + 12 * 8, &thunks.to_le_bytes());
        put(112 + 12 * 8 + 4, &8_u32.to_le_bytes());

        for (index, section) in sections.iter().enumerate() {
            let mut name = [0; 8];
            name[..section.name.len()].copy_from_slice(section.name.as_bytes());
            image.extend(name);
            let raw = 0x400 + u32::try_from(index).unwrap() * 0x200;
            for value in [0x200, section.address, 0x200, raw, 0, 0, 0, section.flags] {
                image.extend(value.to_le_bytes());
            }
        }
        image.resize(0x400, 0);
        for section in &sections {
            let start = image.len();
            image.extend(&section.data);
            image.resize(start + 0x200, 0);
        }
        let sum = checksum(&image, optional + 64);
        image[optional + 64..optional + 68].copy_from_slice(&sum.to_le_bytes());
        image
    }

    /// What the gate says of the image.
    fn violations(&self) -> Vec<String> {
        violations(&self.bytes(), None)
    }
}

fn exports() -> Exports {
    Exports::of(
        "link!(\"ntoskrnl.exe\" \"system\" fn IoCreateDevice(\n\
         link!(\"ntoskrnl.exe\" \"system\" fn KeBugCheckEx(\n\
         link!(\"hal.dll\" \"system\" fn KeStallExecutionProcessor(\n\
         link!(\"ndis.sys\" \"system\" fn NdisOpen(\n",
    )
}

fn violations(image: &[u8], map: Option<&str>) -> Vec<String> {
    check(image, Some(Arch::X64), map, &exports(), true)
        .unwrap()
        .into_iter()
        .flat_map(|group| group.violations)
        .collect()
}

/// Exactly one violation, which contains `part`.
fn assert_one(found: &[String], part: &str) {
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(part), "{found:?}");
}

fn assert_breaks(change: impl FnOnce(&mut Image), part: &str) {
    let mut image = Image::default();
    change(&mut image);
    assert_one(&image.violations(), part);
}

#[test]
fn a_good_image_passes() {
    assert_eq!(Image::default().violations(), Vec::<String>::new());
}

#[test]
fn headers() {
    assert_breaks(|image| image.machine = 0xaa64, "not x64 (0x8664)");
    assert_breaks(|image| image.subsystem = 2, "not native");
    assert_breaks(|image| image.entry = 0, "entry point");
    assert_breaks(|image| image.entry = 0x2000, "entry point");
    assert_breaks(|image| image.flags &= !0x100, "NX_COMPAT");
    assert_breaks(|image| image.flags &= !0x40, "DYNAMIC_BASE");
    assert_breaks(|image| image.flags &= !0x80, "FORCE_INTEGRITY");
    assert_breaks(|image| image.characteristics |= 1, "no relocations");
    assert_breaks(|image| drop(image.sections.pop()), "no relocations");
    assert!(check(b"MZ, but no image", None, None, &exports(), true).is_err());
}

#[test]
fn an_image_is_for_the_processor_that_it_shall_be_for() {
    let found = |machine, arch| -> Vec<String> {
        let image = Image {
            machine,
            ..Image::default()
        };
        check(&image.bytes(), arch, None, &exports(), true)
            .unwrap()
            .into_iter()
            .flat_map(|group| group.violations)
            .collect()
    };
    assert_eq!(found(0xaa64, Some(Arch::Arm64)), [""; 0]);
    assert_eq!(found(0xaa64, None), [""; 0]);
    assert_one(&found(0x8664, Some(Arch::Arm64)), "not ARM64 (0xaa64)");
    assert_one(&found(0x01c4, None), "machine 0x01c4");
    // A name that only the other kernel has.
    let image = Image {
        machine: 0xaa64,
        imports: vec![("ntoskrnl.exe", vec!["IoCreateDevice", "__chkstk"])],
        ..Image::default()
    };
    let groups = check(&image.bytes(), None, None, &exports(), true).unwrap();
    let found: Vec<String> = groups.into_iter().flat_map(|g| g.violations).collect();
    assert_one(&found, "__chkstk");
}

#[test]
fn checksum_covers_the_file() {
    let mut bytes = Image::default().bytes();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_one(&violations(&bytes, None), "checksum");
}

#[test]
fn checksum_by_hand() {
    // Words 0xffff, (two left out), 0x0002 and 0x0003: 0xffff + 2 carries to 2, + 3 = 5; 9 bytes.
    assert_eq!(checksum(&[0xff, 0xff, 9, 9, 9, 9, 2, 0, 3], 2), 5 + 9);
}

#[test]
fn sections() {
    assert_breaks(|image| image.sections[2].name = "INIT", "INIT");
    assert_breaks(|image| image.sections[2].name = "PAGEDATA", "PAGEDATA");
}

/// What link.exe makes of a driver with /DRIVER: import descriptors and names in a section INIT that
/// is code by its flags and discardable, the addresses in .rdata.
fn linked_by_microsoft() -> Image {
    let mut image = Image::default();
    image.sections.push(Section {
        name: "INIT",
        address: 0x5000,
        flags: 0x6200_0020,
        data: vec![0; 16],
    });
    image.import_section = 4;
    image.address_section = Some(1);
    image
}

#[test]
fn a_discardable_section_for_imports_is_what_microsofts_linker_makes() {
    assert_eq!(linked_by_microsoft().violations(), [""; 0]);
    // The same, but kept; with the driver's entry in it; writable, as old linkers made it.
    let broken = |change: fn(&mut Image)| {
        let mut image = linked_by_microsoft();
        change(&mut image);
        image.violations()
    };
    assert_one(&broken(|it| it.sections[4].flags &= !0x0200_0000), "INIT");
    assert_one(&broken(|it| it.entry = 0x5000), "INIT has code");
    assert_one(&broken(|it| it.sections[4].flags |= 0x8000_0000), "0x2003");
    assert_one(&broken(|it| it.address_section = None), "0x2005");
    assert_one(&broken(|it| it.sections[4].name = "INITDATA"), "INITDATA");
}

/// An image without anything special.
pub(super) fn plain_image() -> Vec<u8> {
    Image::default().bytes()
}

#[test]
fn memory_integrity() {
    assert_breaks(|image| image.sections[0].flags |= 0x8000_0000, "0x2003");
    assert_breaks(|image| image.sections[2].address = 0x3200, "0x2004");
    assert_breaks(|image| image.section_alignment = 0x200, "0x2004");
    assert_breaks(|image| image.relocation = 0xffc, "straddle");
    let image = Image {
        import_section: 0,
        ..Image::default()
    };
    // The directory and the thunks of the only module are the same place.
    assert_one(&image.violations(), "0x2005");
}

#[test]
fn imports_must_exist() {
    assert_breaks(|image| image.imports[0].1.push("IoInvented"), "IoInvented");
    assert_breaks(
        |image| image.imports[0].1.push("KeStallExecutionProcessor"),
        "has it in hal.dll",
    );
    assert_breaks(
        |image| image.imports.push(("NDIS.SYS", vec!["NdisOpen"])),
        "only ntoskrnl.exe",
    );
    let mut image = Image::default();
    image
        .imports
        .push(("HAL.dll", vec!["KeStallExecutionProcessor"]));
    assert_eq!(image.violations(), Vec::<String>::new());
}

#[test]
fn panic_paths() {
    assert_breaks(
        |image| image.imports[0].1.push("KeBugCheckEx"),
        "panic path",
    );
    let image = Image::default().bytes();
    let map = "0001:00000010  _RNvNtCs9_4core9panicking5panic  0000000180001010  x.o\n";
    assert_one(&violations(&image, Some(map)), "panic path");
    let groups = check(&image, None, Some(map), &exports(), false).unwrap();
    assert!(groups.iter().all(|group| group.violations.is_empty()));
    assert_eq!(
        groups
            .iter()
            .map(|group| group.warnings.len())
            .sum::<usize>(),
        1
    );
}

#[test]
fn allocation() {
    let image = Image::default().bytes();
    for name in [
        "_RNv5alloc18handle_alloc_error",
        "__rust_alloc_error_handler",
        "rust_oom",
    ] {
        let map = format!("0001:00000010  {name}  0000000180001010  x.o\n");
        assert_one(&violations(&image, Some(&map)), "allocation");
    }
    let harmless = "0001:00000010  DriverEntry  0000000180001010  x.o\n";
    assert_eq!(violations(&image, Some(harmless)), Vec::<String>::new());
}
