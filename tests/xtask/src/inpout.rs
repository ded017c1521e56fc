//! Building the DLLs that programs load in place of `InpOut`'s and `DLPortIO`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use object::{
    LittleEndian as LE,
    pe::{
        IMAGE_DIRECTORY_ENTRY_TLS, IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_I386,
        ImageNtHeaders32, ImageNtHeaders64, Machine,
    },
    read::pe::{ExportTarget, ImageNtHeaders, ImageOptionalHeader, PeFile},
};

use crate::{
    driver::copy,
    exports::Exports,
    program,
    setup::{self, Tool},
    shell::{PROGRAM_32_TARGET, PROGRAM_TARGET, Workspace, good, remove, run, say},
};

/// Functions by the names that programs look for, and how many arguments each has.
const FUNCTIONS: &[(&str, u16)] = &[
    ("DlPortReadPortBufferUchar", 3),
    ("DlPortReadPortBufferUlong", 3),
    ("DlPortReadPortBufferUshort", 3),
    ("DlPortReadPortUchar", 1),
    ("DlPortReadPortUlong", 1),
    ("DlPortReadPortUshort", 1),
    ("DlPortWritePortBufferUchar", 3),
    ("DlPortWritePortBufferUlong", 3),
    ("DlPortWritePortBufferUshort", 3),
    ("DlPortWritePortUchar", 2),
    ("DlPortWritePortUlong", 2),
    ("DlPortWritePortUshort", 2),
    // The loader's entry, which rustc exports by name, too.
    ("DllMain", 3),
    ("GetPhysLong", 2),
    ("Inp32", 1),
    ("IsInpOutDriverOpen", 0),
    ("IsXP64Bit", 0),
    ("MapPhysToLin", 3),
    ("Out32", 2),
    ("SetPhysLong", 2),
    ("UnmapPhysicalMemory", 2),
];

/// A DLL.
struct Kind {
    target: &'static str,
    /// Its folder.
    folder: &'static str,
    /// The names that programs load it by.
    names: [&'static str; 2],
}

const KINDS: &[Kind] = &[
    Kind {
        target: PROGRAM_TARGET,
        folder: "x64",
        names: ["inpoutx64.dll", "dlportio.dll"],
    },
    Kind {
        target: PROGRAM_32_TARGET,
        folder: "x86",
        names: ["inpout32.dll", "dlportio.dll"],
    },
];

/// Builds the DLLs, checks them, and gives the absolute path of the folder that has a folder for
/// each processor.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    if cfg!(windows) {
        bail!("the DLLs are linked by mingw-w64: build them on Linux");
    }
    setup::ensure(workspace, &[Tool::Programs, Tool::Programs32])?;
    let exports = Exports::load_for_programs(workspace)?;
    let folder = workspace.target().join("parscan/inpout");
    remove(&folder)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release", "-p", "parscan-inpout"]);
    for kind in KINDS {
        cargo.args(["--target", kind.target]);
    }
    run(&mut cargo)?;
    for kind in KINDS {
        let built = workspace.target().join(kind.target);
        let built = built.join("release/inpout.dll");
        let image = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        let [name, _] = kind.names;
        let mistakes = if kind.target == PROGRAM_TARGET {
            check::<ImageNtHeaders64>(&image, IMAGE_FILE_MACHINE_AMD64, &exports)
        } else {
            check::<ImageNtHeaders32>(&image, IMAGE_FILE_MACHINE_I386, &exports)
        }
        .with_context(|| format!("{name} cannot be read"))?;
        if !mistakes.is_empty() {
            bail!("{name}:\n  {}", mistakes.join("\n  "));
        }
        let place = folder.join(kind.folder);
        fs::create_dir_all(&place)?;
        for name in kind.names {
            copy(&built, &place.join(name))?;
        }
        good("  ok  ", summary(kind));
    }
    say(format!("{}", folder.display()));
    Ok(folder)
}

fn summary(kind: &Kind) -> String {
    let pops = if kind.target == PROGRAM_32_TARGET {
        ", each pops its arguments"
    } else {
        ""
    };
    format!(
        "{} ({}): {} functions{pops}; imports from Windows' own DLLs only",
        kind.names.join(", "),
        kind.folder,
        FUNCTIONS.len()
    )
}

/// What is wrong with an image.
fn check<Pe: ImageNtHeaders>(
    image: &[u8],
    machine: Machine,
    known: &Exports,
) -> Result<Vec<String>> {
    let file = PeFile::<Pe>::parse(image)?;
    let mut wrong = program::mistakes(&file, machine, known)?;
    if calls_back(&file) != Some(false) {
        wrong.push(
            "it has callbacks for thread-local storage, which take a slot for ever".to_owned(),
        );
    }
    let functions = functions(&file)?;
    let expected: BTreeSet<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
    for name in functions.keys() {
        if !expected.contains(name.as_str()) {
            wrong.push(format!("it exports {name}, which no program looks for"));
        }
    }
    for (name, arguments) in FUNCTIONS {
        let Some(address) = functions.get(*name) else {
            wrong.push(format!("it does not export {name}"));
            continue;
        };
        if machine == IMAGE_FILE_MACHINE_I386 {
            let popped = popped(&file, *address);
            if popped != Some(arguments * 4) {
                wrong.push(format!(
                    "{name} has {arguments} arguments and pops {popped:?} bytes"
                ));
            }
        }
    }
    Ok(wrong)
}

/// Exported functions by name, and where they are.
fn functions<Pe: ImageNtHeaders>(file: &PeFile<'_, Pe>) -> Result<BTreeMap<String, u32>> {
    let table = file.export_table()?.context("it exports nothing")?;
    let mut functions = BTreeMap::new();
    for export in table.exports()? {
        let name = export.name.context("an export without a name")?;
        let ExportTarget::Address(address) = export.target else {
            bail!("an export is forwarded");
        };
        functions.insert(String::from_utf8_lossy(name).into_owned(), address);
    }
    Ok(functions)
}

/// Whether the list of callbacks for thread-local storage has an entry. `None`: it cannot be read.
fn calls_back<Pe: ImageNtHeaders>(file: &PeFile<'_, Pe>) -> Option<bool> {
    let width = if file.nt_headers().is_type_64() { 8 } else { 4 };
    let pointer = |bytes: &[u8]| {
        let mut value = [0; 8];
        value.get_mut(..width)?.copy_from_slice(bytes.get(..width)?);
        Some(u64::from_le_bytes(value))
    };
    let Some(directory) = file.data_directory(IMAGE_DIRECTORY_ENTRY_TLS) else {
        return Some(false);
    };
    let sections = file.section_table();
    let at = directory.virtual_address.get(LE);
    if at == 0 {
        return Some(false);
    }
    // StartAddressOfRawData, EndAddressOfRawData and AddressOfIndex come before AddressOfCallBacks.
    let list = sections.pe_data_at(file.data(), at)?.get(3 * width..)?;
    let base = file.nt_headers().optional_header().image_base();
    let list = u32::try_from(pointer(list)?.checked_sub(base)?).ok()?;
    Some(pointer(sections.pe_data_at(file.data(), list)?)? != 0)
}

/// How many bytes of arguments the 32-bit function at an address takes off the stack.
fn popped<Pe: ImageNtHeaders>(file: &PeFile<'_, Pe>, address: u32) -> Option<u16> {
    let code = file.section_table().pe_data_at(file.data(), address)?;
    first_return(code)
}

/// What the first return says that stands in a function's code: those of one function pop the same.
/// `None`: none was found.
fn first_return(code: &[u8]) -> Option<u16> {
    /// No function is longer.
    const LONGEST: usize = 0x1000;
    let code = code.get(..LONGEST).unwrap_or(code);
    let mut decoder = Decoder::new(32, code, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.flow_control() == FlowControl::Return {
            return Some(match instruction.op_count() {
                0 => 0,
                _ => instruction.immediate16(),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_pops_what_its_return_says() {
        // xor eax, eax; ret 8
        assert_eq!(first_return(&[0x31, 0xC0, 0xC2, 8, 0]), Some(8));
        // mov eax, 0xC3; ret
        assert_eq!(first_return(&[0xB8, 0xC3, 0, 0, 0, 0xC3]), Some(0));
        assert_eq!(first_return(&[0x90, 0x90]), None);
    }

    #[test]
    fn the_page_has_every_function() {
        let root = Workspace::find().unwrap().root;
        let page = fs::read_to_string(root.join("tests/parscanctl/from-inpout.md")).unwrap();
        for (name, _) in FUNCTIONS {
            assert!(
                *name == "DllMain" || page.contains(name),
                "{name} is not on the page"
            );
        }
    }
}
