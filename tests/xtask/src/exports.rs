//! What the Windows 10 kernel exports, as far as a driver of this kind needs it.
//!
//! The import lists of mingw-w64 do not say which Windows has a name, or in which module. The `Wdk`
//! part of windows-sys does: it is generated from Microsoft's own metadata. What that lacks stands
//! in a short list here, each with its reason.
//!
//! The metadata names a function's processors where they differ, and windows-sys keeps that as a
//! `cfg`: nothing in `Wdk` bears one, so its functions count for x64 and for ARM64. The reviewed list
//! says for itself where a name is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::{
    setup,
    shell::{Arch, Workspace},
};

/// Exports that windows-sys does not declare for the module: processors, module, names, why they are
/// right.
const REVIEWED: &[(&[Arch], &str, &[&str], &str)] = &[
    (
        &Arch::ALL,
        "ntoskrnl.exe",
        &["__C_specific_handler"],
        "called where the compiler's exception tables say so, on x64 and on ARM64",
    ),
    (
        &[Arch::X64],
        "ntoskrnl.exe",
        &["__chkstk"],
        "called by code that the compiler makes for large stack frames; on ARM64 its place is not \
         documented, and the driver has no such frame",
    ),
    (
        &Arch::ALL,
        "ntoskrnl.exe",
        &["memcmp", "memcpy", "memmove", "memset"],
        "C library functions that the compiler calls; ntoskrnl.lib of either architecture has them",
    ),
    (
        &Arch::ALL,
        "ntoskrnl.exe",
        &["DbgPrint", "DbgPrintEx"],
        "wdm.h: Library NtosKrnl.lib; declared for ntdll.dll, which exports them too",
    ),
    (
        &Arch::ALL,
        "ntoskrnl.exe",
        &[
            "KeAcquireSpinLockAtDpcLevel",
            "KeAcquireSpinLockRaiseToDpc",
            "KeLowerIrql",
            "KeReleaseSpinLock",
            "KeReleaseSpinLockFromDpcLevel",
        ],
        "wdm.h: functions on x64 and ARM64, macros on x86, which is why the metadata lacks them",
    ),
    (
        &Arch::ALL,
        "ntoskrnl.exe",
        &[
            "RtlAppendUnicodeStringToString",
            "RtlAppendUnicodeToString",
            "RtlCompareMemory",
            "RtlCopyUnicodeString",
            "RtlCreateSecurityDescriptor",
            "RtlEqualUnicodeString",
            "RtlFreeUnicodeString",
            "RtlGetVersion",
            "RtlInitUnicodeString",
            "RtlIntegerToUnicodeString",
            "RtlQueryRegistryValues",
            "RtlSetDaclSecurityDescriptor",
            "RtlUnicodeStringToInteger",
            "RtlWriteRegistryValue",
        ],
        "wdm.h: Library NtosKrnl.lib; the metadata has them for ntdll.dll or for user mode only",
    ),
    (
        &Arch::ALL,
        "ntoskrnl.exe",
        &[
            "ExEventObjectType",
            "IoDeviceObjectType",
            "IoFileObjectType",
            "MmUserProbeAddress",
        ],
        "wdm.h: variables, and the metadata has functions only",
    ),
    (
        &Arch::ALL,
        "usbd.sys",
        &[
            "USBD_CreateConfigurationRequestEx",
            "USBD_GetUSBDIVersion",
            "USBD_ParseConfigurationDescriptorEx",
            "USBD_ParseDescriptors",
        ],
        "usbdlib.h: Library Usbd.lib; the metadata leaves out this module",
    ),
];

/// Names by module, in lower case.
pub(crate) struct Exports {
    declared: BTreeMap<String, BTreeSet<String>>,
}

impl Exports {
    /// Reads the declarations for drivers in the sources of windows-sys.
    pub(crate) fn load(workspace: &Workspace) -> Result<Self> {
        Self::load_from(workspace, &["Wdk"])
    }

    /// The same for programs.
    pub(crate) fn load_for_programs(workspace: &Workspace) -> Result<Self> {
        Self::load_from(workspace, &["Wdk", "Win32"])
    }

    fn load_from(workspace: &Workspace, parts: &[&str]) -> Result<Self> {
        let package = setup::crates::packages(workspace)?
            .into_iter()
            .find(|package| package.name == "windows-sys" && package.used_here)
            .context("windows-sys is not among the dependencies of xtask")?;
        let mut exports = Self {
            declared: BTreeMap::new(),
        };
        for part in parts {
            exports.read_folder(&package.folder.join("src/Windows").join(part))?;
        }
        if !exports.has("ntoskrnl.exe", "IoCreateDevice") {
            bail!(
                "the sources of windows-sys {} do not declare IoCreateDevice: their form has \
                 changed, see tests/xtask/src/exports.rs",
                package.version
            );
        }
        Ok(exports)
    }

    fn read_folder(&mut self, folder: &Path) -> Result<()> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.read_folder(&entry.path())?;
            } else {
                self.read_source(&fs::read_to_string(entry.path())?);
            }
        }
        Ok(())
    }

    /// Takes lines like `windows_link::link!("ntoskrnl.exe" "system" fn IoCreateDevice(…`.
    fn read_source(&mut self, text: &str) {
        for declaration in text.split("link!(\"").skip(1) {
            let declaration = declaration.lines().next().unwrap_or_default();
            let Some((module, rest)) = declaration.split_once('"') else {
                continue;
            };
            let Some((_, rest)) = rest.split_once(" fn ") else {
                continue;
            };
            if let Some((name, _)) = rest.split_once('(') {
                self.declared
                    .entry(module.to_lowercase())
                    .or_default()
                    .insert(name.trim().to_owned());
            }
        }
    }

    /// Does Windows 10 export this name from this module, on some processor?
    pub(crate) fn has(&self, module: &str, name: &str) -> bool {
        Arch::ALL
            .into_iter()
            .any(|arch| self.has_on(arch, module, name))
    }

    /// Does Windows 10 export this name from this module, on this processor?
    pub(crate) fn has_on(&self, arch: Arch, module: &str, name: &str) -> bool {
        let module = module.to_lowercase();
        let declared = |module: &str| {
            self.declared
                .get(module)
                .is_some_and(|names| names.contains(name))
        };
        let reviewed = REVIEWED.iter().any(|(archs, listed, names, _)| {
            archs.contains(&arch) && *listed == module && names.contains(&name)
        });
        // The metadata gives system services once, for user mode; the kernel has its own entries.
        let service = module == "ntoskrnl.exe" && name.starts_with("Zw") && declared("ntdll.dll");
        declared(&module) || reviewed || service
    }

    /// The functions that windows-sys declares for a module.
    pub(crate) fn declared(&self, module: &str) -> impl Iterator<Item = &str> {
        self.declared
            .get(&module.to_lowercase())
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// The modules that are known to have this name.
    pub(crate) fn homes(&self, name: &str) -> Vec<&str> {
        self.declared
            .iter()
            .filter(|(_, names)| names.contains(name))
            .map(|(module, _)| module.as_str())
            .collect()
    }

    /// Exports for tests of other modules.
    #[cfg(test)]
    pub(crate) fn of(source: &str) -> Self {
        let mut exports = Self {
            declared: BTreeMap::new(),
        };
        exports.read_source(source);
        exports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
windows_link::link!("ntoskrnl.exe" "system" fn IoCreateDevice(driverobject : *const super::X) -> i32);
#[cfg(feature = "Win32_Foundation")]
windows_link::link!("hal.dll" "system" fn KeStallExecutionProcessor(microseconds : u32));
windows_link::link!("ntdll.dll" "system" fn ZwClose(handle : HANDLE) -> NTSTATUS);
windows_link::link!("ntdll.dll" "system" fn RtlUserOnly(handle : HANDLE) -> NTSTATUS);
"#;

    #[test]
    fn declared_names_belong_to_their_module() {
        let exports = Exports::of(SOURCE);
        assert!(exports.has("ntoskrnl.exe", "IoCreateDevice"));
        assert!(exports.has("NTOSKRNL.EXE", "IoCreateDevice"));
        assert!(exports.has("HAL.dll", "KeStallExecutionProcessor"));
        assert!(!exports.has("ntoskrnl.exe", "KeStallExecutionProcessor"));
        assert_eq!(exports.homes("KeStallExecutionProcessor"), ["hal.dll"]);
    }

    #[test]
    fn only_services_of_ntdll_count_for_the_kernel() {
        let exports = Exports::of(SOURCE);
        let modules = |name| ["ntoskrnl.exe", "hal.dll"].map(|module| exports.has(module, name));
        assert_eq!(modules("ZwClose"), [true, false]);
        assert_eq!(modules("RtlUserOnly"), [false, false]);
    }

    #[test]
    fn reviewed_names_count() {
        let exports = Exports::of("");
        assert!(exports.has("ntoskrnl.exe", "DbgPrint"));
        assert!(exports.has("USBD.SYS", "USBD_ParseConfigurationDescriptorEx"));
        assert!(!exports.has("hal.dll", "DbgPrint"));
        assert!(!exports.has("ntoskrnl.exe", "IoCreateDevice"));
    }

    #[test]
    fn reviewed_names_are_those_of_a_processor() {
        let exports = Exports::of("");
        let has = |arch, name| exports.has_on(arch, "ntoskrnl.exe", name);
        assert!(has(Arch::X64, "__chkstk") && !has(Arch::Arm64, "__chkstk"));
        assert!(has(Arch::Arm64, "__C_specific_handler"));
    }
}
