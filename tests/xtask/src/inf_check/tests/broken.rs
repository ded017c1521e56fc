//! INFs that break the rules, as changes of those that do not.

use super::Rule;

/// What to change in an INF: the text, which it holds once, and what to put in its place.
pub(super) type Edit = (&'static str, &'static str);

pub(super) const LPT: &str = "parscan_lpt";
pub(super) const USB: &str = "parscan_usb";

/// INFs that break a rule: which, the INF of the project that it is made of, and how.
pub(super) const BROKEN: &[(Rule, &str, &[Edit])] = &[
    (
        Rule::F1,
        LPT,
        &[("parscan project", "parscan proj\u{e9}ct")],
    ),
    (Rule::F2, LPT, &[("Disk     = \"", "Disk     = ")]),
    (Rule::F2, LPT, &[("[Strings]", "[Strings")]),
    (Rule::F3, LPT, &[("[Lpt_Parameters]", "[Lpt_Hw]")]),
    (Rule::F4, LPT, &[("[Strings]", "[Other]\nx = y\n[Strings]")]),
    (Rule::F5, LPT, &[("%Svc.Name%", "%Svc.Nam%")]),
    (
        Rule::F5,
        LPT,
        &[("[Strings]", "[Strings.0407]\nDisk = x\n[Strings]")],
    ),
    (Rule::F6, LPT, &[("parscan parallel port", TOO_LONG)]),
    (
        Rule::F7,
        LPT,
        &[("AddReg = Lpt_Hw", "AddReg = Lpt_Hw, Lpt_More")],
    ),
    (Rule::V1, LPT, &[("$WINDOWS NT$", "$WINDOWS 95$")]),
    (Rule::V2, LPT, &[("CatalogFile = parscan_lpt.cat\n", "")]),
    (Rule::V2, LPT, &[("DriverVer   = 01/01/2026,1.0.0.0\n", "")]),
    (Rule::V3, LPT, &[("{4D36E978", "{4D36E979")]),
    (Rule::V3, USB, &[("= Image", "= Ports")]),
    (Rule::V4, LPT, &[("= Ports", "= Sample")]),
    (
        Rule::V4,
        LPT,
        &[("[Strings]", "[ClassInstall32]\nAddReg = Lpt_Hw\n[Strings]")],
    ),
    (
        Rule::V5,
        LPT,
        &[(
            "Provider    = %Provider%",
            "Provider    = \"parscan project\"",
        )],
    ),
    (
        Rule::V5,
        LPT,
        &[("\"parscan project\"", "\"Microsoft Corporation\"")],
    ),
    (Rule::V6, LPT, &[("parscan_lpt.cat", "parscan_lpt.inf")]),
    (Rule::V6, LPT, &[("parscan_lpt.cat", "x\\parscan_lpt.cat")]),
    (Rule::V7, LPT, &[("01/01/2026", "1/1/2026")]),
    (Rule::V7, LPT, &[("1.0.0.0", "0.0.0.0")]),
    (Rule::V7, LPT, &[(",1.0.0.0", "")]),
    (Rule::V8, LPT, &[("PnpLockdown = 1", "PnpLockdown = 0")]),
    (
        Rule::M1,
        LPT,
        &[("[Lpt.NTamd64.10.0...19041]", "[Lpt.NTamd64]")],
    ),
    (
        Rule::M1,
        LPT,
        &[(
            "[Manufacturer]",
            "[Manufacturer]\n%Disk% = Lpt,NTarm64.10.0...19041",
        )],
    ),
    (
        Rule::M2,
        LPT,
        &[("= Lpt,NTamd64.10.0...19041", "= Lpt,NTamd64.10.0...19041.1")],
    ),
    (
        Rule::M2,
        LPT,
        &[("= Lpt,NTamd64.10.0...19041", "= Lpt,NTamd64.10.0...10240")],
    ),
    (
        Rule::M2,
        LPT,
        &[("= Lpt,NTamd64.10.0...19041", "= Lpt,NTz80.10.0...19041")],
    ),
    (
        Rule::M3,
        LPT,
        &[("= Lpt,NTamd64.10.0...19041", "= Lpt,NTamd64.10.0.1..19041")],
    ),
    (
        Rule::M4,
        LPT,
        &[("= Lpt,NTamd64.10.0...19041", "= Lpt,NT.10.0...19041")],
    ),
    (Rule::M4, LPT, &[("= Lpt,NTamd64.10.0...19041", "= Lpt")]),
    (
        Rule::P8,
        LPT,
        &[
            ("= Lpt,NTamd64.", "= Lpt,NTarm64."),
            ("[Lpt.NTamd64.", "[Lpt.NTarm64."),
        ],
    ),
    (
        Rule::P8,
        USB,
        &[
            ("= Scan,NTamd64.", "= Scan,NTx86."),
            ("[Scan.NTamd64.", "[Scan.NTx86."),
        ],
    ),
    (
        Rule::M5,
        USB,
        &[("Scan_Inst, USB\\VID_04A9&PID_2213", "Scan_Inst")],
    ),
    (
        Rule::M5,
        USB,
        &[(
            "Scan_Inst, USB\\VID_04A9&PID_2213",
            ", USB\\VID_04A9&PID_2213",
        )],
    ),
    (
        Rule::M6,
        LPT,
        &[("= Lpt,NTamd64.10.0...19041", "= Lpt,NTamd64.10.0...15063")],
    ),
    (
        Rule::M7,
        LPT,
        &[("= Lpt,NTamd64.10.0...19041", "= Lpt,NTamd64.10.0...18363")],
    ),
    (
        Rule::M8,
        LPT,
        &[("Lpt_Inst, ACPI\\PNP0400", "Lpt_Inst, *PNP0400")],
    ),
    (
        Rule::M8,
        LPT,
        &[("ACPI\\VEN_PNP&DEV_0401", "ACPI\\PNP0402")],
    ),
    (
        Rule::M8,
        LPT,
        &[
            ("Lpt_Inst, ACPI\\PNP0401", "Lpt_Inst, ACPI\\x"),
            ("ACPI\\VEN_PNP&DEV_0401", "ACPI\\PNP0401"),
            ("ACPI\\x", "ACPI\\VEN_PNP&DEV_0401"),
        ],
    ),
    (
        Rule::D1,
        LPT,
        &[("[Lpt_Inst.NT.Services]", "[Lpt_Inst.Services]")],
    ),
    (Rule::D1, LPT, &[("[Lpt_Inst.NT]", "[Lpt_Inst]")]),
    (
        Rule::D2,
        LPT,
        &[("0x00000002,Lpt_Service", "0x00000000,Lpt_Service")],
    ),
    (
        Rule::D2,
        LPT,
        &[(
            "[Lpt_Service]",
            "AddService = ParscanTwo,2,Lpt_Service\n[Lpt_Service]",
        )],
    ),
    (Rule::D3, LPT, &[("ServiceType   = 1", "ServiceType   = 2")]),
    (Rule::D3, LPT, &[("ErrorControl  = 1\n", "")]),
    (
        Rule::D3,
        LPT,
        &[(
            "ServiceBinary = %13%\\parscan.sys",
            "ServiceBinary = %12%\\parscan.sys",
        )],
    ),
    (
        Rule::P10,
        USB,
        &[("HKR,,SystemWakeEnabled,0x00010003,0\n", "")],
    ),
    (
        Rule::P10,
        USB,
        &[(
            "DefaultIdleState,0x00010003,1",
            "DefaultIdleState,0x00010003,2",
        )],
    ),
    (
        Rule::P9,
        LPT,
        &[("IoLogMsg.dll;%13%\\parscan.sys", "IoLogMsg.dll")],
    ),
    (
        Rule::P9,
        USB,
        &[("TypesSupported,0x00010001,7", "TypesSupported,0x00010001,1")],
    ),
    (Rule::D4, LPT, &[("StartType     = 3", "StartType     = 2")]),
    (Rule::D5, USB, &[("ParscanScan", "usbscan")]),
    (Rule::D5, LPT, &[("ParscanPort", "parport")]),
    (
        Rule::D5,
        LPT,
        &[
            ("ParscanPort", "%Svc.Name%"),
            ("\"parscan parallel port\"", "\"ParscanPort\""),
        ],
    ),
    (
        Rule::D6,
        LPT,
        &[("= %13%\\parscan.sys", "= %13%\\other.sys")],
    ),
    (Rule::D7, LPT, &[("HKR,Parameters,", "HKR,Settings,")]),
    (
        Rule::D8,
        LPT,
        &[(
            "HKR,Parameters,Role",
            "HKR,,ImagePath,0x00020000,x\nHKR,Parameters,Role",
        )],
    ),
    (Rule::R1, LPT, &[("HKR,,DeviceCh", "HKLM,,DeviceCh")]),
    (
        Rule::R2,
        USB,
        &[(
            "HKR,Parameters,Role",
            "HKR,Parameters,HardwareConfig,1,04\nHKR,Parameters,Role",
        )],
    ),
    (
        Rule::R3,
        LPT,
        &[("Role,0x00010001,1", "Role,0x00010003x,1")],
    ),
    (Rule::R3, LPT, &[("Role,0x00010001,1", "Role,0x00010009,1")]),
    (Rule::R3, LPT, &[("Role,0x00010001,1", "Role,0x00050001,1")]),
    (
        Rule::R3,
        LPT,
        &[("Role,0x00010001,1", "Role,0x00010001,one")],
    ),
    (Rule::R3, USB, &[("0x00000001,04", "0x00000001,104")]),
    (
        Rule::R2,
        USB,
        &[(
            "HKR,Parameters,Role",
            "HKR,Parameters,SystemWakeEnabled,0x00010001,0\nHKR,Parameters,Role",
        )],
    ),
    (Rule::R4, LPT, &[("Role,0x00010001,1", "Role,,1")]),
    (
        Rule::R4,
        USB,
        &[("DeviceIdleEnabled,0x00010003,0", "DeviceIdleEnabled,,0")],
    ),
    (
        Rule::R4,
        USB,
        &[(
            "HardwareConfig,0x00000001,04",
            "HardwareConfig,0x00010001,4",
        )],
    ),
    (
        Rule::R5,
        LPT,
        &[(
            "HKR,,DeviceCh",
            "HKR,,UpperFilters,0x00010000,x\nHKR,,DeviceCh",
        )],
    ),
    (
        Rule::R6,
        USB,
        &[(
            "HKR,,HardwareConfig",
            "HKR,,Security,,\"D:P(A;;GA;;;SY)\"\nHKR,,HardwareConfig",
        )],
    ),
    (Rule::R6, LPT, &[("HKR,,Security", "HKR,Sub,Security")]),
    (
        Rule::S1,
        LPT,
        &[("DefaultDestDir = 13", "DefaultDestDir = 12")],
    ),
    (
        Rule::S1,
        LPT,
        &[("DefaultDestDir = 13", "DefaultDestDir = %13%")],
    ),
    (
        Rule::S1,
        LPT,
        &[("DefaultDestDir = 13", "Other_Files = 13")],
    ),
    (
        Rule::S1,
        LPT,
        &[("[DestinationDirs]\nDefaultDestDir = 13\n", "")],
    ),
    (
        Rule::S2,
        LPT,
        &[(
            "[Lpt_Files]\nparscan.sys",
            "[Lpt_Files]\nother.sys,parscan.sys",
        )],
    ),
    (
        Rule::S2,
        LPT,
        &[(
            "[Lpt_Files]\nparscan.sys",
            "[Lpt_Files]\nparscan.sys,,,0x4000",
        )],
    ),
    (Rule::S2, LPT, &[("parscan.sys = 1", "parscan.sys = 1,sub")]),
    (
        Rule::S2,
        LPT,
        &[(
            "[Strings]",
            "[Lpt_Files.Security]\n\"D:P(A;;GA;;;SY)\"\n[Strings]",
        )],
    ),
    (
        Rule::S3,
        LPT,
        &[("[SourceDisksFiles]\nparscan.sys = 1\n", "")],
    ),
    (
        Rule::S3,
        LPT,
        &[("[SourceDisksFiles]", "[SourceDisksFiles.ntamd64]")],
    ),
    (Rule::S3, LPT, &[("parscan.sys = 1", "parscan.sys = 2")]),
    (
        Rule::S3,
        LPT,
        &[("parscan.sys = 1", "parscan.sys = 1\nparscan.cat = 1")],
    ),
    (
        Rule::S3,
        LPT,
        &[("parscan.sys = 1", "parscan.sys = 1\nreadme.txt = 1")],
    ),
    (
        Rule::S4,
        LPT,
        &[
            ("[Lpt_Files]\n", "[Lpt_Files]\nparscan.sys,other.sys\n"),
            ("parscan.sys = 1", "parscan.sys = 1\nother.sys = 1"),
        ],
    ),
    (
        Rule::I1,
        USB,
        &[(
            "[Strings]",
            "[Scan_Inst.NT.Interfaces]\nAddInterface = Image\n[Strings]",
        )],
    ),
    (
        Rule::I1,
        USB,
        &[(
            "[Strings]",
            "[Scan_Inst.NT.Interfaces]\n\
             AddInterface = {6BDD1FC6-810F-11D0-BEC7-08002BE2092F},,,1\n[Strings]",
        )],
    ),
    (Rule::I2, USB, &[("Include      = sti.inf\n", "")]),
    (Rule::P4, USB, &[("Needs        = STI.USBSection\n", "")]),
    (Rule::I2, USB, &[("Scan_Files = 13", "DefaultDestDir = 13")]),
    (
        Rule::I2,
        USB,
        &[(
            "AddService = ParscanScan",
            "Include = sti.inf\nNeeds = STI.USBSection\nAddService = ParscanScan",
        )],
    ),
    (
        Rule::X1,
        LPT,
        &[(
            "[Strings]",
            "[Lpt_Inst.NT.CoInstallers]\nAddReg = Lpt_Hw\n[Strings]",
        )],
    ),
    (
        Rule::X1,
        LPT,
        &[("[Strings]", "[DefaultInstall]\nAddReg = Lpt_Hw\n[Strings]")],
    ),
    (
        Rule::X2,
        LPT,
        &[(
            "CopyFiles = Lpt_Files",
            "CopyFiles = Lpt_Files\nDelReg = Lpt_Hw",
        )],
    ),
    (
        Rule::X3,
        LPT,
        &[(
            "CopyFiles = Lpt_Files",
            "CopyFiles = Lpt_Files\nCopyFile = Lpt_Files",
        )],
    ),
    (
        Rule::X3,
        LPT,
        &[("StartType     = 3", "StartType     = 3,4")],
    ),
    (
        Rule::X3,
        LPT,
        &[("StartType     = 3", "StartType     = 3\nStartType = 3")],
    ),
    (
        Rule::X3,
        LPT,
        &[("StartType     = 3", "StartType     = 3\nTriggers")],
    ),
    (Rule::X3, LPT, &[("[Lpt_Hw]\n", "[Lpt_Hw]\nx = y\n")]),
    (
        Rule::X3,
        LPT,
        &[(
            "\"parscan installation files\"",
            "parscan, installation files",
        )],
    ),
    (
        Rule::X4,
        LPT,
        &[("StartType     = 3", "StartType     = $START$")],
    ),
    (Rule::P1, LPT, &[("[Strings]", "[Strings]\nMore = x")]),
    (Rule::P2, LPT, &[("HKR,Parameters,Role,0x00010001,1\n", "")]),
    (Rule::P3, LPT, &[("HKR,,Security", "HKR,,Insecurity")]),
    (Rule::P3, LPT, &[("0x00010001,0x100", "0x00010001,0x80")]),
    (Rule::P3, LPT, &[("(A;;GRGW;;;IU)", "(A;;GRGW;;;WD)")]),
    (
        Rule::P3,
        LPT,
        &[("(A;;GRGW;;;IU)", "(A;;GRGW;;;IU)(A;;GR;;;BU)")],
    ),
    (Rule::P3, LPT, &[("D:P(", "D:(")]),
    (Rule::P3, USB, &[("(A;;GRGWGX;;;LS)", "")]),
    (
        Rule::P4,
        LPT,
        &[("HKR,,DeviceCh", "HKR,,PortName,2,LPT1\nHKR,,DeviceCh")],
    ),
    (Rule::P4, USB, &[("SubClass     = StillImage\n", "")]),
    (
        Rule::P4,
        USB,
        &[("Capabilities = 0x01", "Capabilities = 0x30")],
    ),
    (Rule::P4, USB, &[("0x00000001,04", "0x00000001,10")]),
    (
        Rule::P4,
        USB,
        &[("USB\\VID_04A9&PID_2213", "USB\\Class_06")],
    ),
    (
        Rule::P4,
        USB,
        &[("USB\\VID_04A9&PID_2213", "USB\\VID_04A9")],
    ),
    (Rule::P5, LPT, &[("Role,0x00010001,1", "Role,0x00010001,2")]),
    (Rule::P5, USB, &[("Role,0x00010001,2", "Rôle,0x00010001,2")]),
    (
        Rule::P6,
        USB,
        &[("USB\\VID_04A9&PID_2214", "USB\\vid_04a9&pid_2213")],
    ),
];

/// 4098 characters.
const TOO_LONG: &str = {
    const BYTES: [u8; 4098] = [b'x'; 4098];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};
