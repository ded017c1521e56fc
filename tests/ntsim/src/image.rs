//! Loading a PE32+ driver: mapping, relocations, imports.

use core::ops::Range;
use std::path::Path;
use std::sync::Arc;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{Import, PeFile64};

use crate::mem::{PAGE, Va, peek, poke};
use crate::nt;
use crate::patch::Plan;
use crate::state::Rng;

/// An import that the simulated kernel does not export.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnknownImport {
    /// Module, such as `ntoskrnl.exe`.
    pub module: String,
    /// Function name, or `#n` for an ordinal.
    pub name: String,
}

/// A mapped driver.
pub(crate) struct Image {
    pub base: Va,
    pub size: usize,
    pub entry: Va,
    code: Vec<(Va, Va)>,
    /// Exception directory: RVA and length.
    pub pdata: (usize, usize),
    /// Sections whose name starts with PAGE: address, length, protection.
    pub paged: Vec<(Va, usize, i32)>,
    stubs: Va,
    stubs_len: usize,
    /// Behind the image.
    plan: Arc<Plan>,
}

#[derive(Debug)]
pub(crate) enum ImageError {
    Unreadable(String),
    UnknownImports(Vec<UnknownImport>),
}

impl From<object::read::Error> for ImageError {
    fn from(error: object::read::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Drivers run on the host's processor.
const MACHINE: pe::Machine = if cfg!(target_arch = "aarch64") {
    pe::IMAGE_FILE_MACHINE_ARM64
} else {
    pe::IMAGE_FILE_MACHINE_AMD64
};

const STUB: usize = 32;

fn map(hint: Va, len: usize) -> Option<Va> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: NOREPLACE: nothing that is mapped already is touched.
    let at = unsafe {
        libc::mmap(
            core::ptr::with_exposed_provenance_mut(hint),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return None;
    }
    let at = at.expose_provenance();
    if at != hint {
        // NOREPLACE is no more than a hint to an old kernel, and to QEMU 7.
        // SAFETY: the mapping made just now.
        unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(at), len) };
        return None;
    }
    Some(at)
}

fn protect(va: Va, len: usize, prot: i32) {
    // SAFETY: called for this image's own mapping only.
    unsafe { libc::mprotect(core::ptr::with_exposed_provenance_mut(va), len, prot) };
}

impl Image {
    /// The entry of the exception directory, whose entries have `size` bytes, for the function that
    /// holds an RVA; `function` tells where an entry's function is.
    pub(crate) fn search_pdata(
        &self,
        size: usize,
        rva: u32,
        function: impl Fn(Va) -> Range<u32>,
    ) -> Option<Va> {
        let (table, len) = self.pdata;
        let (mut low, mut high) = (0, len / size);
        while low < high {
            let middle = usize::midpoint(low, high);
            let at = self.base + table + size * middle;
            let function = function(at);
            if rva < function.start {
                high = middle;
            } else if rva >= function.end {
                low = middle + 1;
            } else {
                return Some(at);
            }
        }
        None
    }

    #[allow(clippy::too_many_lines, reason = "one step after the other")]
    pub(crate) fn load(
        path: &Path,
        rng: &mut Rng,
        data: &dyn Fn(&str) -> Option<Va>,
        driver: usize,
        patch: bool,
    ) -> Result<Self, ImageError> {
        let file = std::fs::read(path)
            .map_err(|e| ImageError::Unreadable(format!("{}: {e}", path.display())))?;
        let pe = PeFile64::parse(&*file)?;
        let header = pe.nt_headers();
        let optional = &header.optional_header;
        if header.file_header.machine.get(LE) != MACHINE {
            return Err(ImageError::Unreadable(
                "not an image for this host's processor".to_owned(),
            ));
        }
        let size = (optional.size_of_image.get(LE) as usize).next_multiple_of(PAGE);

        // Every import resolved before anything is mapped, so that one error names them all.
        let mut imports: Vec<(u32, Target)> = Vec::new();
        let mut unknown = Vec::new();
        if let Some(table) = pe.import_table()? {
            let mut descriptors = table.descriptors()?;
            while let Some(d) = descriptors.next()? {
                let module = String::from_utf8_lossy(table.name(d.name.get(LE))?).into_owned();
                let mut iat = d.first_thunk.get(LE);
                let lookup = match d.original_first_thunk.get(LE) {
                    0 => iat,
                    original => original,
                };
                let mut thunks = table.thunks(lookup)?;
                while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
                    let name = match table.import::<pe::ImageNtHeaders64>(thunk)? {
                        Import::Name(_, name) => String::from_utf8_lossy(name).into_owned(),
                        Import::Ordinal(n) => format!("#{n}"),
                    };
                    match (nt::find_export(&module, &name), data(&name)) {
                        (Some(index), _) => imports.push((iat, Target::Function(index))),
                        (None, Some(va)) => imports.push((iat, Target::Data(va))),
                        (None, None) => unknown.push(UnknownImport {
                            module: module.clone(),
                            name,
                        }),
                    }
                    iat += 8;
                }
            }
        }
        if !unknown.is_empty() {
            unknown.sort();
            unknown.dedup();
            return Err(ImageError::UnknownImports(unknown));
        }

        let plan = if patch {
            Plan::of(&file, &pe)
        } else {
            Arc::default()
        };
        let base = loop {
            // Any free 64K-aligned place in the lower terabytes.
            #[allow(clippy::cast_possible_truncation, reason = "64-bit host")]
            let hint = 0x0100_0000_0000 + (rng.below(0x0100_0000) as usize) * 0x1_0000;
            if let Some(base) = map(hint, size + plan.code.len()) {
                break base;
            }
        };
        let mut image = Self {
            base,
            size,
            entry: base + optional.address_of_entry_point.get(LE) as usize,
            code: Vec::new(),
            pdata: pe
                .data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION)
                .map_or((0, 0), |d| {
                    (d.virtual_address.get(LE) as usize, d.size.get(LE) as usize)
                }),
            paged: Vec::new(),
            stubs: 0,
            stubs_len: 0,
            plan,
        };
        let headers = (optional.size_of_headers.get(LE) as usize).min(file.len());
        crate::mem::poke_bytes(base, &file[..headers]);
        for section in pe.section_table().iter() {
            let bytes = section.pe_data(&*file)?;
            crate::mem::poke_bytes(base + section.virtual_address.get(LE) as usize, bytes);
        }
        image.relocate(&pe, &file)?;
        image.bind(&imports, driver);
        image.patch();
        crate::cpu::sync_code(base, size);
        for section in pe.section_table().iter() {
            let start = base + section.virtual_address.get(LE) as usize;
            let len = (section.virtual_size.get(LE) as usize).next_multiple_of(PAGE);
            let flags = section.characteristics.get(LE);
            let mut prot = libc::PROT_NONE;
            if flags.0 & pe::IMAGE_SCN_MEM_READ.0 != 0 {
                prot |= libc::PROT_READ;
            }
            if flags.0 & pe::IMAGE_SCN_MEM_WRITE.0 != 0 {
                prot |= libc::PROT_WRITE;
            }
            if flags.0 & pe::IMAGE_SCN_MEM_EXECUTE.0 != 0 {
                prot |= libc::PROT_EXEC;
                image.code.push((start, start + len));
            }
            protect(start, len, prot);
            if section.name.starts_with(b"PAGE") {
                image.paged.push((start, len, prot));
            }
        }
        protect(base, PAGE, libc::PROT_READ);
        Ok(image)
    }

    fn relocate(&self, pe: &PeFile64<'_>, file: &[u8]) -> Result<(), ImageError> {
        let preferred = pe.nt_headers().optional_header.image_base.get(LE);
        let delta = (self.base as u64).wrapping_sub(preferred);
        let sections = pe.section_table();
        let Some(mut blocks) = pe.data_directories().relocation_blocks(file, &sections)? else {
            return Ok(());
        };
        while let Some(block) = blocks.next()? {
            for r in block {
                match r.typ {
                    pe::IMAGE_REL_BASED_ABSOLUTE => {}
                    pe::IMAGE_REL_BASED_DIR64 => {
                        let at = self.base + r.virtual_address as usize;
                        poke(at, peek::<u64>(at).wrapping_add(delta));
                    }
                    other => {
                        return Err(ImageError::Unreadable(format!(
                            "relocation type {other:?} is not for 64 bits"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// One stub an import: it hands the export's index (low half) and the driver's number (high
    /// half) to the common entry, which checks the call before the function runs.
    fn bind(&mut self, imports: &[(u32, Target)], driver: usize) {
        let len = (imports.len() * STUB).max(1).next_multiple_of(PAGE);
        let mut hint = self.base + self.extent() + 0x1_0000;
        self.stubs = loop {
            if let Some(at) = map(hint, len) {
                break at;
            }
            hint += 0x1_0000;
        };
        self.stubs_len = len;
        for (i, (iat, target)) in imports.iter().enumerate() {
            let value = match target {
                Target::Data(va) => *va,
                Target::Function(index) => {
                    if let Some(raw) = nt::raw_entry(*index) {
                        raw
                    } else {
                        let at = self.stubs + i * STUB;
                        #[allow(clippy::cast_possible_truncation, reason = "a small table")]
                        crate::cpu::write_stub(at, *index as u32 | (driver as u32) << 16);
                        at
                    }
                }
            };
            poke(self.base + *iat as usize, value);
        }
        crate::cpu::sync_code(self.stubs, len);
        protect(self.stubs, len, libc::PROT_READ | libc::PROT_EXEC);
    }

    /// Carries out the plan.
    fn patch(&self) {
        for (offset, jump) in &self.plan.jumps {
            crate::mem::poke_bytes(self.base + offset, jump);
        }
        #[cfg(target_arch = "x86_64")]
        if !self.plan.code.is_empty() {
            let code = self.base + self.size;
            crate::mem::poke_bytes(code, &self.plan.code);
            poke(code, crate::cpu::port_stub as *const () as usize);
            protect(
                code,
                self.plan.code.len(),
                libc::PROT_READ | libc::PROT_EXEC,
            );
        }
    }

    /// The instruction in whose place a call is that returns to `va`.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn site(&self, va: Va) -> Option<iced_x86::Instruction> {
        self.plan.site(va.checked_sub(self.base)?)
    }

    /// Where the instruction was in the image that lies behind it now, at `va`.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn origin(&self, va: Va) -> Option<Va> {
        let offset = self.plan.origin(va.checked_sub(self.base)?)?;
        Some(self.base + offset)
    }

    /// Bytes of the mapping: the image, and what the plan has behind it.
    fn extent(&self) -> usize {
        self.size + self.plan.code.len()
    }

    /// Offset of an address in the image.
    pub(crate) fn rva(&self, va: Va) -> Option<u32> {
        let offset = va.checked_sub(self.base)?;
        (offset < self.size).then(|| u32::try_from(offset).ok())?
    }

    /// Whether `va` lies in code, or just behind it.
    pub(crate) fn contains(&self, va: Va) -> bool {
        self.code.iter().any(|(a, b)| (*a..=*b).contains(&va))
    }

    /// After unload: a thread that still calls into the driver is caught.
    pub(crate) fn seal(&self) {
        protect(self.base, self.extent(), libc::PROT_NONE);
    }
}

enum Target {
    Function(usize),
    Data(Va),
}

impl Drop for Image {
    fn drop(&mut self) {
        for (at, len) in [(self.base, self.extent()), (self.stubs, self.stubs_len)] {
            if len > 0 {
                // SAFETY: mappings made in `load`; no driver code runs after the machine is gone.
                unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(at), len) };
            }
        }
    }
}
