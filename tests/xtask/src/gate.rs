//! Checks of a built driver image: what Windows 10 and later, and memory integrity (HVCI), demand
//! of it, and what this project forbids itself.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail};
use object::{
    LittleEndian as LE,
    pe::{
        IMAGE_DIRECTORY_ENTRY_BASERELOC, IMAGE_DIRECTORY_ENTRY_EXCEPTION,
        IMAGE_DIRECTORY_ENTRY_IAT, IMAGE_DIRECTORY_ENTRY_IMPORT,
        IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
        IMAGE_DLLCHARACTERISTICS_NX_COMPAT, IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64,
        IMAGE_FILE_RELOCS_STRIPPED, IMAGE_SCN_MEM_DISCARDABLE, IMAGE_SCN_MEM_EXECUTE,
        IMAGE_SCN_MEM_WRITE, IMAGE_SUBSYSTEM_NATIVE, ImageNtHeaders64, ImageSectionHeader, Machine,
    },
    read::pe::{ImageNtHeaders, Import, PeFile, PeFile64},
};

use crate::{
    exports::Exports,
    shell::{Arch, bad, good, warn},
};

pub(crate) mod resources;
mod stack;

/// The only modules that a driver of this project may import from.
const MODULES: &[&str] = &["ntoskrnl.exe", "hal.dll", "usbd.sys"];

/// Page size of x64 and ARM64, in bytes.
const PAGE: u32 = 0x1000;

/// Does a panic path in parscan.sys fail `cargo xtask build`? A panic stops the machine, so nothing
/// in the driver may be able to.
pub(crate) const DENY_PANIC: bool = true;

/// Parts of symbol names that a reachable panic leaves in the map.
const PANIC_SYMBOLS: &[&str] = &[
    "rust_begin_unwind",
    "4core9panicking",
    "begin_panic_handler",
];

/// Parts of symbol names that allocation without a way to report failure leaves in the map.
const ALLOCATION_SYMBOLS: &[&str] = &[
    "handle_alloc_error",
    "__rust_alloc_error_handler",
    "rust_oom",
];

/// The result of a group of checks.
pub(crate) struct Group {
    name: &'static str,
    /// What was found to be right, in a line.
    summary: String,
    violations: Vec<String>,
    warnings: Vec<String>,
}

impl Group {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            summary: String::new(),
            violations: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Notes a violation unless `right`.
    fn expect(&mut self, right: bool, violation: impl FnOnce() -> String) {
        if !right {
            self.violations.push(violation());
        }
    }
}

/// Checks the image at `path`, with the map beside it if there is one, and prints one line for each
/// group of checks. Without `arch` it may be for any processor that the driver is built for. Fails
/// if there is any violation, after having printed all.
pub(crate) fn run(
    path: &Path,
    arch: Option<Arch>,
    exports: &Exports,
    deny_panic: bool,
) -> Result<()> {
    let image = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let map = fs::read_to_string(path.with_extension("map")).ok();
    let groups = check(&image, arch, map.as_deref(), exports, deny_panic)
        .with_context(|| format!("{} is not a PE32+ image", path.display()))?;
    let mut count = 0;
    for group in &groups {
        if group.violations.is_empty() {
            good("  ok  ", format!("{}: {}", group.name, group.summary));
        }
        for violation in &group.violations {
            bad("  FAIL", format!("{}: {violation}", group.name));
            count += 1;
        }
        for warning in &group.warnings {
            warn("  note", format!("{}: {warning}", group.name));
        }
    }
    if count != 0 {
        bail!(
            "{} does not pass the gate: {count} violation(s)",
            path.display()
        );
    }
    Ok(())
}

/// All checks. Fails only when the image cannot be read at all.
pub(crate) fn check(
    image: &[u8],
    arch: Option<Arch>,
    map: Option<&str>,
    exports: &Exports,
    deny_panic: bool,
) -> Result<Vec<Group>> {
    let file = PeFile64::parse(image)?;
    let imports = imports(&file)?;
    let arch = arch.unwrap_or_else(|| {
        let its = |arch: &Arch| machine(*arch) == file.nt_headers().file_header.machine.get(LE);
        Arch::ALL.into_iter().find(its).unwrap_or(Arch::X64)
    });
    Ok(vec![
        check_header(&file, arch, image),
        check_sections(&file),
        check_memory_integrity(&file),
        check_imports(&imports, arch, exports),
        check_panic(&imports, map, deny_panic),
        check_allocation(map),
        stack::check(&file, map),
    ])
}

/// The machine in the header of an image for a processor.
const fn machine(arch: Arch) -> Machine {
    match arch {
        Arch::X64 => IMAGE_FILE_MACHINE_AMD64,
        Arch::Arm64 => IMAGE_FILE_MACHINE_ARM64,
    }
}

/// What the loader wants of the headers.
fn check_header(file: &PeFile64<'_>, arch: Arch, image: &[u8]) -> Group {
    let mut group = Group::new("header");
    let header: &ImageNtHeaders64 = file.nt_headers();
    let its = header.file_header.machine.get(LE);
    group.expect(its == machine(arch), || {
        format!(
            "machine {:#06x}, not {} ({:#06x})",
            its.0,
            arch.name(),
            machine(arch).0
        )
    });
    let optional = &header.optional_header;
    let subsystem = optional.subsystem.get(LE);
    group.expect(subsystem == IMAGE_SUBSYSTEM_NATIVE, || {
        format!("subsystem {}, not native (1)", subsystem.0)
    });

    let entry = optional.address_of_entry_point.get(LE);
    let code = |section: &&ImageSectionHeader| executable(section);
    group.expect(
        entry != 0 && containing(file, entry).as_ref().is_some_and(code),
        || format!("entry point {entry:#x} is not in a section with code"),
    );

    let stripped = header.file_header.characteristics.get(LE).0 & IMAGE_FILE_RELOCS_STRIPPED.0 != 0;
    let relocations = file
        .data_directory(IMAGE_DIRECTORY_ENTRY_BASERELOC)
        .map_or(0, |directory| directory.size.get(LE));
    group.expect(!stripped && relocations != 0, || {
        "no relocations: the image cannot be moved".to_owned()
    });

    let stated = optional.check_sum.get(LE);
    let actual = checksum(image, checksum_offset(file));
    group.expect(stated == actual, || {
        format!("header checksum {stated:#x}, should be {actual:#x} (linker option /RELEASE)")
    });

    let flags = optional.dll_characteristics.get(LE).0;
    for (name, flag) in [
        ("NX_COMPAT", IMAGE_DLLCHARACTERISTICS_NX_COMPAT),
        ("DYNAMIC_BASE", IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE),
        ("FORCE_INTEGRITY", IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY),
    ] {
        group.expect(flags & flag.0 != 0, || {
            format!("DllCharacteristics {flags:#06x} lack {name}")
        });
    }
    group.summary = format!(
        "{} ({:#06x}), native, movable, valid checksum, NX_COMPAT, DYNAMIC_BASE, FORCE_INTEGRITY",
        arch.name(),
        its.0
    );
    group
}

/// What this project allows of sections: no code and no data of the driver that is thrown away or
/// paged out. Microsoft's linker puts the import descriptors and names of a driver (`/DRIVER`) into a
/// discardable section INIT, which only the loader reads; that may be, as long as nothing else is in
/// it.
fn check_sections(file: &PeFile64<'_>) -> Group {
    let mut group = Group::new("sections");
    let mut names = Vec::new();
    let functions = functions(file);
    for section in file.section_table().iter() {
        let name = name(section);
        let start = section.virtual_address.get(LE);
        let inside = start..start.saturating_add(section.virtual_size.get(LE));
        if name == "INIT" {
            let imports = file
                .data_directory(IMAGE_DIRECTORY_ENTRY_IMPORT)
                .map_or(0, |directory| directory.virtual_address.get(LE));
            let discardable = section.characteristics.get(LE).0 & IMAGE_SCN_MEM_DISCARDABLE.0 != 0;
            group.expect(discardable && inside.contains(&imports), || {
                "section INIT is there for imports, discardable, and for nothing else".to_owned()
            });
            group.expect(!functions.iter().any(|it| inside.contains(it)), || {
                "section INIT has code of the driver: all of it stays resident".to_owned()
            });
        } else {
            group.expect(
                !name.starts_with("INIT") && !name.starts_with("PAGE"),
                || {
                    format!(
                        "section {name}: all of the driver stays resident, no INIT and no PAGE \
                         sections"
                    )
                },
            );
        }
        names.push(name);
    }
    group.summary = names.join(" ");
    group
}

/// Where the functions begin that have unwind data, and the entry point.
fn functions(file: &PeFile64<'_>) -> Vec<u32> {
    let entry = file
        .nt_headers()
        .optional_header
        .address_of_entry_point
        .get(LE);
    // Entries of 12 bytes on x64, of 8 on ARM64; each begins with the function's address.
    let size = if file.nt_headers().file_header.machine.get(LE) == IMAGE_FILE_MACHINE_ARM64 {
        8
    } else {
        12
    };
    let table = file
        .data_directory(IMAGE_DIRECTORY_ENTRY_EXCEPTION)
        .and_then(|directory| directory.data(file.data(), &file.section_table()).ok())
        .unwrap_or_default();
    table
        .chunks_exact(size)
        .map(|entry| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]))
        .chain([entry])
        .collect()
}

/// The image rules of memory integrity, with the code that Driver Verifier gives (bug check 0xC4).
fn check_memory_integrity(file: &PeFile64<'_>) -> Group {
    let mut group = Group::new("memory integrity");
    for section in file.section_table().iter() {
        let writable = section.characteristics.get(LE).0 & IMAGE_SCN_MEM_WRITE.0 != 0;
        group.expect(!(writable && executable(section)), || {
            format!(
                "section {} is writable and executable (0x2003)",
                name(section)
            )
        });
        let address = section.virtual_address.get(LE);
        group.expect(address.is_multiple_of(PAGE), || {
            format!(
                "section {} at {address:#x} is not page aligned (0x2004)",
                name(section)
            )
        });
    }
    let alignment = file.nt_headers().optional_header.section_alignment.get(LE);
    group.expect(alignment != 0 && alignment.is_multiple_of(PAGE), || {
        format!("section alignment {alignment:#x} is not a multiple of a page (0x2004)")
    });

    // The directory, and where the loader really writes: the thunks of each module.
    let mut tables = BTreeSet::new();
    if let Some(directory) = file.data_directory(IMAGE_DIRECTORY_ENTRY_IAT) {
        tables.insert(directory.virtual_address.get(LE));
    }
    if let Ok(Some(table)) = file.import_table()
        && let Ok(descriptors) = table.descriptors()
    {
        tables.extend(
            descriptors
                .flatten()
                .map(|descriptor| descriptor.first_thunk.get(LE)),
        );
    }
    for address in tables {
        let inside = containing(file, address).filter(|section| executable(section));
        if let Some(section) = inside {
            group.violations.push(format!(
                "import addresses at {address:#x} are in {}, which is executable (0x2005)",
                name(section)
            ));
        }
    }

    match straddling_relocations(file) {
        Ok(0) => {}
        Ok(count) => group.violations.push(format!(
            "{count} relocation(s) straddle two pages, refused before Windows 10 1703"
        )),
        Err(error) => group
            .violations
            .push(format!("relocations cannot be read: {error}")),
    }
    "no writable code, page-aligned sections, import addresses outside code, no relocation across pages"
        .clone_into(&mut group.summary);
    group
}

/// Relocations of 8 bytes that begin in the last 7 of a page.
fn straddling_relocations(file: &PeFile64<'_>) -> object::Result<usize> {
    let blocks = file
        .data_directories()
        .relocation_blocks(file.data(), &file.section_table())?;
    let mut count = 0;
    if let Some(mut blocks) = blocks {
        while let Some(block) = blocks.next()? {
            count += block
                .filter(|relocation| relocation.virtual_address % PAGE > PAGE - 8)
                .count();
        }
    }
    Ok(count)
}

/// Modules and names that the image imports; an ordinal is given as `#number`.
pub(crate) fn imports<Pe: ImageNtHeaders>(file: &PeFile<'_, Pe>) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let Some(table) = file.import_table()? else {
        return Ok(found);
    };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let module = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).into_owned();
        let names = match descriptor.original_first_thunk.get(LE) {
            0 => descriptor.first_thunk.get(LE),
            names => names,
        };
        let mut thunks = table.thunks(names)?;
        while let Some(thunk) = thunks.next::<Pe>()? {
            let name = match table.import::<Pe>(thunk)? {
                Import::Name(_, name) => String::from_utf8_lossy(name).into_owned(),
                Import::Ordinal(ordinal) => format!("#{ordinal}"),
            };
            found.push((module.clone(), name));
        }
    }
    Ok(found)
}

/// Every import must be there on Windows 10.
fn check_imports(imports: &[(String, String)], arch: Arch, exports: &Exports) -> Group {
    let mut group = Group::new("imports");
    for (module, name) in imports {
        if !MODULES.contains(&module.to_lowercase().as_str()) {
            group.violations.push(format!(
                "{name} from {module}: only {} may be used",
                MODULES.join(", ")
            ));
        } else if !exports.has_on(arch, module, name) {
            let homes = exports.homes(name);
            let known = if homes.is_empty() {
                "nowhere".to_owned()
            } else {
                format!("in {}", homes.join(", "))
            };
            group.violations.push(format!(
                "{name}: Microsoft's metadata has it {known}, not in {module}. If Windows 10 {} \
                 does export it, list it with the reason in tests/xtask/src/exports.rs",
                arch.name()
            ));
        }
    }
    let modules: BTreeSet<String> = imports
        .iter()
        .map(|(module, _)| module.to_lowercase())
        .collect();
    group.summary = format!(
        "{} names from {}, all exported by Windows 10 {}",
        imports.len(),
        modules.into_iter().collect::<Vec<_>>().join(", "),
        arch.name()
    );
    group
}

/// No way to a panic. wdk-panic's handler, present only if something can panic, stops the machine.
fn check_panic(imports: &[(String, String)], map: Option<&str>, deny: bool) -> Group {
    let mut group = Group::new("panic");
    let mut found = Vec::new();
    if imports.iter().any(|(_, name)| name == "KeBugCheckEx") {
        found.push("contains a panic path: imports KeBugCheckEx".to_owned());
    }
    for symbol in symbols(map, PANIC_SYMBOLS) {
        found.push(format!("contains a panic path: symbol {symbol}"));
    }
    if deny {
        group.violations = found;
    } else {
        group.warnings = found;
    }
    if group.warnings.is_empty() {
        "no panic path".clone_into(&mut group.summary);
    } else {
        "panic paths are allowed here".clone_into(&mut group.summary);
    }
    group
}

/// No allocation that cannot report failure.
fn check_allocation(map: Option<&str>) -> Group {
    let mut group = Group::new("allocation");
    for symbol in symbols(map, ALLOCATION_SYMBOLS) {
        group.violations.push(format!(
            "allocation that cannot fail politely: symbol {symbol}"
        ));
    }
    if map.is_some() {
        "no allocation without a way to report failure".clone_into(&mut group.summary);
    } else {
        "not checked, there is no map beside the image".clone_into(&mut group.summary);
    }
    group
}

/// Symbols of a linker's map that contain one of `parts`.
fn symbols<'m>(map: Option<&'m str>, parts: &[&str]) -> BTreeSet<&'m str> {
    map.unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter(|symbol| parts.iter().any(|part| symbol.contains(part)))
        .collect()
}

/// File offset of the header's checksum.
fn checksum_offset(file: &PeFile64<'_>) -> usize {
    // e_lfanew + signature (4) + file header (20) + offset of CheckSum in the optional header (64)
    file.dos_header().nt_headers_offset() as usize + 4 + 20 + 64
}

/// The checksum that the loader verifies: the file as 16-bit words without the checksum itself,
/// added with the carry brought back in, plus the length of the file.
fn checksum(image: &[u8], offset: usize) -> u32 {
    let mut sum = 0_u32;
    for (index, pair) in image.chunks(2).enumerate() {
        let position = index * 2;
        if (offset..offset + 4).contains(&position) {
            continue;
        }
        let word = u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum += u32::from(word);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum.wrapping_add(u32::try_from(image.len()).unwrap_or(u32::MAX))
}

fn containing<'data>(file: &PeFile64<'data>, address: u32) -> Option<&'data ImageSectionHeader> {
    file.section_table().section_containing(address)
}

fn executable(section: &ImageSectionHeader) -> bool {
    section.characteristics.get(LE).0 & IMAGE_SCN_MEM_EXECUTE.0 != 0
}

fn name(section: &ImageSectionHeader) -> String {
    String::from_utf8_lossy(section.raw_name()).into_owned()
}

#[cfg(test)]
mod tests;
