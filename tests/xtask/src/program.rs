//! Building parscanctl, the program for users, and the checks of what runs in user mode.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use object::{
    LittleEndian as LE,
    pe::{
        IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, IMAGE_DLLCHARACTERISTICS_NX_COMPAT,
        IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64, Machine,
    },
    read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile, PeFile64},
};

use crate::{
    exports::Exports,
    gate,
    setup::{self, Tool},
    shell::{Arch, PROGRAM_ARM64_TARGET, PROGRAM_TARGET, Workspace, good, run, say},
};

/// Modules that every Windows has. A program must need no other, so that it can be copied alone.
const WINDOWS: &[&str] = &[
    "advapi32.dll",
    "api-ms-win-core-synch-l1-2-0.dll",
    "bcryptprimitives.dll",
    "cfgmgr32.dll",
    "kernel32.dll",
    "msvcrt.dll",
    "ntdll.dll",
    "setupapi.dll",
    "userenv.dll",
    "ws2_32.dll",
];

/// The same for programs for ARM64: the Universal C Runtime, a part of Windows since 10. Of these all
/// names are accepted, as of msvcrt.dll.
const UCRT: &[&str] = &[
    "api-ms-win-crt-conio-l1-1-0.dll",
    "api-ms-win-crt-convert-l1-1-0.dll",
    "api-ms-win-crt-environment-l1-1-0.dll",
    "api-ms-win-crt-filesystem-l1-1-0.dll",
    "api-ms-win-crt-heap-l1-1-0.dll",
    "api-ms-win-crt-locale-l1-1-0.dll",
    "api-ms-win-crt-math-l1-1-0.dll",
    "api-ms-win-crt-multibyte-l1-1-0.dll",
    "api-ms-win-crt-private-l1-1-0.dll",
    "api-ms-win-crt-process-l1-1-0.dll",
    "api-ms-win-crt-runtime-l1-1-0.dll",
    "api-ms-win-crt-stdio-l1-1-0.dll",
    "api-ms-win-crt-string-l1-1-0.dll",
    "api-ms-win-crt-time-l1-1-0.dll",
    "api-ms-win-crt-utility-l1-1-0.dll",
];

/// Imports that the metadata lacks: on these machines, or all without any, of the module these names,
/// or all without any.
const REVIEWED: &[(&[Machine], &str, &[&str])] = &[
    // The C library, which the linker brings in; a part of every Windows.
    (&[], "msvcrt.dll", &[]),
    // In every Windows since XP: the status behind a Win32 error (`parscan-client`).
    (&[], "ntdll.dll", &["RtlGetLastNtStatus"]),
    // Forwarded to ntdll.dll, by MinGW's and Wine's lists; 32-bit Windows has none. Every x64 program
    // that mingw-w64 links names it in its exception tables.
    (
        &[IMAGE_FILE_MACHINE_AMD64],
        "kernel32.dll",
        &["__C_specific_handler"],
    ),
];

/// Builds parscanctl.exe for Windows, checks that it needs nothing beside Windows, and gives its
/// absolute path.
pub(crate) fn build(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release", "-p", "parscanctl"]);
    if !cfg!(windows) {
        let tool = match arch {
            Arch::X64 => Tool::Programs,
            Arch::Arm64 => {
                cargo.env(
                    "CARGO_TARGET_AARCH64_PC_WINDOWS_GNULLVM_LINKER",
                    setup::zig::linker(workspace),
                );
                Tool::ProgramsArm64
            }
        };
        setup::ensure(workspace, &[tool])?;
    }
    let exports = Exports::load_for_programs(workspace)?;
    let mut built = workspace.target();
    if let Some(target) = target(arch) {
        cargo.args(["--target", target]);
        built.push(target);
    }
    run(&mut cargo)?;
    let built = built.join("release/parscanctl.exe");
    let image = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let file = PeFile64::parse(&*image).context("parscanctl.exe is no 64-bit image")?;
    let machine = match arch {
        Arch::X64 => IMAGE_FILE_MACHINE_AMD64,
        Arch::Arm64 => IMAGE_FILE_MACHINE_ARM64,
    };
    let mistakes = mistakes(&file, machine, &exports)?;
    if !mistakes.is_empty() {
        bail!("parscanctl.exe:\n  {}", mistakes.join("\n  "));
    }
    let folder = arch.below(workspace.target().join("parscan"));
    fs::create_dir_all(&folder)?;
    let program = folder.join("parscanctl.exe");
    fs::write(&program, image).with_context(|| format!("cannot write {}", program.display()))?;
    good(
        "  ok  ",
        format!(
            "parscanctl.exe ({}): imports from Windows' own DLLs only",
            arch.name()
        ),
    );
    say(format!("{}", program.display()));
    Ok(program)
}

/// The Rust target of programs for a processor, where it is not this host.
fn target(arch: Arch) -> Option<&'static str> {
    if cfg!(windows) {
        let host = if cfg!(target_arch = "aarch64") {
            Arch::Arm64
        } else {
            Arch::X64
        };
        (arch != host).then_some(arch.target())
    } else {
        Some(match arch {
            Arch::X64 => PROGRAM_TARGET,
            Arch::Arm64 => PROGRAM_ARM64_TARGET,
        })
    }
}

/// What is wrong with the headers and the imports of a program or a DLL.
pub(crate) fn mistakes<Pe: ImageNtHeaders>(
    file: &PeFile<'_, Pe>,
    machine: Machine,
    known: &Exports,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let headers = file.nt_headers();
    let its = headers.file_header().machine.get(LE);
    if its != machine {
        wrong.push(format!("it is for machine {:#06x}", its.0));
    }
    let flags = headers.optional_header().dll_characteristics().0;
    for (name, flag) in [
        ("NX_COMPAT", IMAGE_DLLCHARACTERISTICS_NX_COMPAT),
        ("DYNAMIC_BASE", IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE),
    ] {
        if flags & flag.0 == 0 {
            wrong.push(format!("its flags lack {name}"));
        }
    }
    for (module, name) in gate::imports(file)? {
        wrong.extend(foreign(machine, &module, &name, known));
    }
    Ok(wrong)
}

/// What is wrong with an import.
fn foreign(machine: Machine, module: &str, name: &str, known: &Exports) -> Option<String> {
    let module = module.to_ascii_lowercase();
    if machine == IMAGE_FILE_MACHINE_ARM64 && UCRT.contains(&module.as_str()) {
        return None;
    }
    if !WINDOWS.contains(&module.as_str()) {
        return Some(format!("it needs {module}"));
    }
    let reviewed = REVIEWED.iter().any(|(machines, its, names)| {
        (machines.is_empty() || machines.contains(&machine))
            && *its == module
            && (names.is_empty() || names.contains(&name))
    });
    (!reviewed && !known.has(&module, name))
        .then(|| format!("it imports {name}: Microsoft's metadata does not have it in {module}"))
}

#[cfg(test)]
mod tests {
    use object::pe::IMAGE_FILE_MACHINE_I386;

    use super::*;

    #[test]
    fn imports_are_from_windows() {
        let known = Exports::of(
            r#"windows_link::link!("kernel32.dll" "system" fn CreateFileW(name : PCWSTR) -> HANDLE);"#,
        );
        let wrong = |module, name| foreign(IMAGE_FILE_MACHINE_AMD64, module, name, &known);
        assert_eq!(wrong("KERNEL32.dll", "CreateFileW"), None);
        assert_eq!(wrong("ntdll.dll", "RtlGetLastNtStatus"), None);
        assert_eq!(
            wrong("libunwind.dll", "_Unwind_Resume").as_deref(),
            Some("it needs libunwind.dll")
        );
        assert!(wrong("kernel32.dll", "CreateFileW2").is_some());
        assert!(wrong("kernel32.dll", "RtlGetLastNtStatus").is_some());
    }

    /// A name that a program for one machine may import, and one for another may not.
    fn assert_alone(module: &str, name: &str, machine: Machine, other: Machine) {
        let wrong = |machine| foreign(machine, module, name, &Exports::of(""));
        assert_eq!(wrong(machine), None);
        assert!(wrong(other).is_some());
    }

    #[test]
    fn reviewed_names_are_those_of_a_machine() {
        let (module, name) = ("KERNEL32.dll", "__C_specific_handler");
        assert_alone(
            module,
            name,
            IMAGE_FILE_MACHINE_AMD64,
            IMAGE_FILE_MACHINE_I386,
        );
    }

    #[test]
    fn the_universal_c_runtime_is_for_arm64() {
        let module = "api-ms-win-crt-heap-l1-1-0.dll";
        assert_alone(
            module,
            "malloc",
            IMAGE_FILE_MACHINE_ARM64,
            IMAGE_FILE_MACHINE_AMD64,
        );
    }
}
