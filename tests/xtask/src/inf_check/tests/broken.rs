//! INFs that break the rules, as changes of those that do not.

use super::Rule;

/// What to change in an INF: the text, which it holds once, and what to put in its place.
pub(super) type Edit = (&'static str, &'static str);

pub(super) const LPT: &str = "parscan_lpt";
pub(super) const USB: &str = "parscan_usb";

/// Rules, INFs of the project, and what is changed in them.
macro_rules! broken {
    ($($rule:ident $inf:ident: $($find:expr => $replace:expr),+;)*) => {
        &[$((Rule::$rule, $inf, &[$(($find, $replace)),+])),*]
    };
}

/// INFs that break a rule: which, the INF of the project that it is made of, and how.
pub(super) const BROKEN: &[(Rule, &str, &[Edit])] = broken! {
    F1 LPT: "parscan project" => "parscan proj\u{e9}ct";
    F2 LPT: "Disk     = \"" => "Disk     = ";
    F2 LPT: "[Strings]" => "[Strings";
    F3 LPT: "[Lpt_Parameters]" => "[Lpt_Hw]";
    F4 LPT: "[Strings]" => "[Other]\nx = y\n[Strings]";
    F5 LPT: "%Svc.Name%" => "%Svc.Nam%";
    F5 LPT: "[Strings]" => "[Strings.0407]\nDisk = x\n[Strings]";
    F6 LPT: "parscan parallel port" => TOO_LONG;
    F7 LPT: "AddReg = Lpt_Hw" => "AddReg = Lpt_Hw, Lpt_More";
    V1 LPT: "$WINDOWS NT$" => "$WINDOWS 95$";
    V2 LPT: "CatalogFile = parscan_lpt.cat\n" => "";
    V2 LPT: "DriverVer   = 01/01/2026,1.0.0.0\n" => "";
    V3 LPT: "{4D36E978" => "{4D36E979";
    V3 USB: "= Image" => "= Ports";
    V4 LPT: "= Ports" => "= Sample";
    V4 LPT: "[Strings]" => "[ClassInstall32]\nAddReg = Lpt_Hw\n[Strings]";
    V5 LPT: "Provider    = %Provider%" => "Provider    = \"parscan project\"";
    V5 LPT: "\"parscan project\"" => "\"Microsoft Corporation\"";
    V6 LPT: "parscan_lpt.cat" => "parscan_lpt.inf";
    V6 LPT: "parscan_lpt.cat" => "x\\parscan_lpt.cat";
    V7 LPT: "01/01/2026" => "1/1/2026";
    V7 LPT: "1.0.0.0" => "0.0.0.0";
    V7 LPT: ",1.0.0.0" => "";
    V8 LPT: "PnpLockdown = 1" => "PnpLockdown = 0";
    M1 LPT: "[Lpt.NTamd64.10.0...19041]" => "[Lpt.NTamd64]";
    M1 LPT: "[Manufacturer]" => "[Manufacturer]\n%Disk% = Lpt,NTarm64.10.0...19041";
    M2 LPT: "= Lpt,NTamd64.10.0...19041" => "= Lpt,NTamd64.10.0...19041.1";
    M2 LPT: "= Lpt,NTamd64.10.0...19041" => "= Lpt,NTamd64.10.0...10240";
    M2 LPT: "= Lpt,NTamd64.10.0...19041" => "= Lpt,NTz80.10.0...19041";
    M3 LPT: "= Lpt,NTamd64.10.0...19041" => "= Lpt,NTamd64.10.0.1..19041";
    M4 LPT: "= Lpt,NTamd64.10.0...19041" => "= Lpt,NT.10.0...19041";
    M4 LPT: "= Lpt,NTamd64.10.0...19041" => "= Lpt";
    M5 USB: "Scan_Inst, USB\\VID_04A9&PID_2213" => "Scan_Inst";
    M5 USB: "Scan_Inst, USB\\VID_04A9&PID_2213" => ", USB\\VID_04A9&PID_2213";
    M6 LPT: "= Lpt,NTamd64.10.0...19041" => "= Lpt,NTamd64.10.0...15063";
    M7 LPT: "= Lpt,NTamd64.10.0...19041" => "= Lpt,NTamd64.10.0...18363";
    M8 LPT: "Lpt_Inst, ACPI\\PNP0400" => "Lpt_Inst, *PNP0400";
    M8 LPT: "ACPI\\VEN_PNP&DEV_0401" => "ACPI\\PNP0402";
    D1 LPT: "[Lpt_Inst.NT.Services]" => "[Lpt_Inst.Services]";
    D1 LPT: "[Lpt_Inst.NT]" => "[Lpt_Inst]";
    D2 LPT: "0x00000002,Lpt_Service" => "0x00000000,Lpt_Service";
    D2 LPT: "[Lpt_Service]" => "AddService = ParscanTwo,2,Lpt_Service\n[Lpt_Service]";
    D3 LPT: "ServiceType   = 1" => "ServiceType   = 2";
    D3 LPT: "ErrorControl  = 1\n" => "";
    D3 LPT: "ServiceBinary = %13%\\parscan.sys" => "ServiceBinary = %12%\\parscan.sys";
    P10 USB: "HKR,,SystemWakeEnabled,0x00010003,0\n" => "";
    P10 USB: "DefaultIdleState,0x00010003,1" => "DefaultIdleState,0x00010003,2";
    P9 LPT: "IoLogMsg.dll;%13%\\parscan.sys" => "IoLogMsg.dll";
    P9 USB: "TypesSupported,0x00010001,7" => "TypesSupported,0x00010001,1";
    D4 LPT: "StartType     = 3" => "StartType     = 2";
    D5 USB: "ParscanScan" => "usbscan";
    D5 LPT: "ParscanPort" => "parport";
    D6 LPT: "= %13%\\parscan.sys" => "= %13%\\other.sys";
    D7 LPT: "HKR,Parameters," => "HKR,Settings,";
    D8 LPT: "HKR,Parameters,Role" => "HKR,,ImagePath,0x00020000,x\nHKR,Parameters,Role";
    R1 LPT: "HKR,,DeviceCh" => "HKLM,,DeviceCh";
    R2 USB: "HKR,Parameters,Role" => "HKR,Parameters,HardwareConfig,1,04\nHKR,Parameters,Role";
    R3 LPT: "Role,0x00010001,1" => "Role,0x00010003x,1";
    R3 LPT: "Role,0x00010001,1" => "Role,0x00010009,1";
    R3 LPT: "Role,0x00010001,1" => "Role,0x00050001,1";
    R3 LPT: "Role,0x00010001,1" => "Role,0x00010001,one";
    R3 USB: "0x00000001,04" => "0x00000001,104";
    R2 USB: "HKR,Parameters,Role" => "HKR,Parameters,SystemWakeEnabled,0x00010001,0\nHKR,Parameters,Role";
    R4 LPT: "Role,0x00010001,1" => "Role,,1";
    R4 USB: "DeviceIdleEnabled,0x00010003,0" => "DeviceIdleEnabled,,0";
    R4 USB: "HardwareConfig,0x00000001,04" => "HardwareConfig,0x00010001,4";
    R5 LPT: "HKR,,DeviceCh" => "HKR,,UpperFilters,0x00010000,x\nHKR,,DeviceCh";
    R6 USB: "HKR,,HardwareConfig" => "HKR,,Security,,\"D:P(A;;GA;;;SY)\"\nHKR,,HardwareConfig";
    R6 LPT: "HKR,,Security" => "HKR,Sub,Security";
    S1 LPT: "DefaultDestDir = 13" => "DefaultDestDir = 12";
    S1 LPT: "DefaultDestDir = 13" => "DefaultDestDir = %13%";
    S1 LPT: "DefaultDestDir = 13" => "Other_Files = 13";
    S1 LPT: "[DestinationDirs]\nDefaultDestDir = 13\n" => "";
    S2 LPT: "[Lpt_Files]\nparscan.sys" => "[Lpt_Files]\nother.sys,parscan.sys";
    S2 LPT: "[Lpt_Files]\nparscan.sys" => "[Lpt_Files]\nparscan.sys,,,0x4000";
    S2 LPT: "parscan.sys = 1" => "parscan.sys = 1,sub";
    S2 LPT: "[Strings]" => "[Lpt_Files.Security]\n\"D:P(A;;GA;;;SY)\"\n[Strings]";
    S3 LPT: "[SourceDisksFiles]\nparscan.sys = 1\n" => "";
    S3 LPT: "[SourceDisksFiles]" => "[SourceDisksFiles.ntamd64]";
    S3 LPT: "parscan.sys = 1" => "parscan.sys = 2";
    S3 LPT: "parscan.sys = 1" => "parscan.sys = 1\nparscan.cat = 1";
    S3 LPT: "parscan.sys = 1" => "parscan.sys = 1\nreadme.txt = 1";
    I1 USB: "[Strings]" => "[Scan_Inst.NT.Interfaces]\nAddInterface = Image\n[Strings]";
    I1 USB:
        "[Strings]" => "[Scan_Inst.NT.Interfaces]\n\
             AddInterface = {6BDD1FC6-810F-11D0-BEC7-08002BE2092F},,,1\n[Strings]";
    I2 USB: "Include      = sti.inf\n" => "";
    P4 USB: "Needs        = STI.USBSection\n" => "";
    I2 USB: "Scan_Files = 13" => "DefaultDestDir = 13";
    I2 USB: "AddService = ParscanScan" => "Include = sti.inf\nNeeds = STI.USBSection\nAddService = ParscanScan";
    X1 LPT: "[Strings]" => "[Lpt_Inst.NT.CoInstallers]\nAddReg = Lpt_Hw\n[Strings]";
    X1 LPT: "[Strings]" => "[DefaultInstall]\nAddReg = Lpt_Hw\n[Strings]";
    X2 LPT: "CopyFiles = Lpt_Files" => "CopyFiles = Lpt_Files\nDelReg = Lpt_Hw";
    X3 LPT: "CopyFiles = Lpt_Files" => "CopyFiles = Lpt_Files\nCopyFile = Lpt_Files";
    X3 LPT: "StartType     = 3" => "StartType     = 3,4";
    X3 LPT: "StartType     = 3" => "StartType     = 3\nStartType = 3";
    X3 LPT: "StartType     = 3" => "StartType     = 3\nTriggers";
    X3 LPT: "[Lpt_Hw]\n" => "[Lpt_Hw]\nx = y\n";
    X3 LPT: "\"parscan installation files\"" => "parscan, installation files";
    X4 LPT: "StartType     = 3" => "StartType     = $START$";
    P1 LPT: "[Strings]" => "[Strings]\nMore = x";
    P2 LPT: "HKR,Parameters,Role,0x00010001,1\n" => "";
    P3 LPT: "HKR,,Security" => "HKR,,Insecurity";
    P3 LPT: "0x00010001,0x100" => "0x00010001,0x80";
    P3 LPT: "(A;;GRGW;;;IU)" => "(A;;GRGW;;;WD)";
    P3 LPT: "(A;;GRGW;;;IU)" => "(A;;GRGW;;;IU)(A;;GR;;;BU)";
    P3 LPT: "D:P(" => "D:(";
    P3 USB: "(A;;GRGWGX;;;LS)" => "";
    P4 LPT: "HKR,,DeviceCh" => "HKR,,PortName,2,LPT1\nHKR,,DeviceCh";
    P4 USB: "SubClass     = StillImage\n" => "";
    P4 USB: "Capabilities = 0x01" => "Capabilities = 0x30";
    P4 USB: "0x00000001,04" => "0x00000001,10";
    P4 USB: "USB\\VID_04A9&PID_2213" => "USB\\Class_06";
    P4 USB: "USB\\VID_04A9&PID_2213" => "USB\\VID_04A9";
    P5 LPT: "Role,0x00010001,1" => "Role,0x00010001,2";
    P5 USB: "Role,0x00010001,2" => "Rôle,0x00010001,2";
    P6 USB: "USB\\VID_04A9&PID_2214" => "USB\\vid_04a9&pid_2213";
    // Only several changes together break these.
    P8 LPT: "= Lpt,NTamd64." => "= Lpt,NTarm64.", "[Lpt.NTamd64." => "[Lpt.NTarm64.";
    P8 USB: "= Scan,NTamd64." => "= Scan,NTx86.", "[Scan.NTamd64." => "[Scan.NTx86.";
    M8 LPT:
        "Lpt_Inst, ACPI\\PNP0401" => "Lpt_Inst, ACPI\\x",
        "ACPI\\VEN_PNP&DEV_0401" => "ACPI\\PNP0401",
        "ACPI\\x" => "ACPI\\VEN_PNP&DEV_0401";
    D5 LPT: "ParscanPort" => "%Svc.Name%", "\"parscan parallel port\"" => "\"ParscanPort\"";
    S4 LPT:
        "[Lpt_Files]\n" => "[Lpt_Files]\nparscan.sys,other.sys\n",
        "parscan.sys = 1" => "parscan.sys = 1\nother.sys = 1";
};

/// 4098 characters.
const TOO_LONG: &str = {
    const BYTES: [u8; 4098] = [b'x'; 4098];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};
