//! The Plug and Play IDs of devices, against what is published of real ones.
#![allow(
    clippy::cast_possible_truncation,
    reason = "an ID is shorter than 65536 bytes"
)]

use parscan_core::ieee1284::{DeviceId, PlugAndPlayId};

/// Puts the length prefix before an ID.
fn raw(id: &[u8]) -> Vec<u8> {
    let length = (id.len() + 2) as u16;
    [&length.to_be_bytes(), id].concat()
}

fn with<T>(id: &[u8], look: impl FnOnce(&PlugAndPlayId) -> T) -> Option<T> {
    PlugAndPlayId::of(DeviceId(&raw(id))).map(|id| look(&id))
}

fn hardware_id(id: &str) -> String {
    with(id.as_bytes(), |id| id.hardware_id().to_string()).unwrap()
}

fn compatible_ids_of(id: &PlugAndPlayId) -> Vec<String> {
    let mut ids = Vec::new();
    id.each_compatible_id(|id| ids.push(id.to_string()));
    ids
}

fn compatible_ids(id: &str) -> Vec<String> {
    with(id.as_bytes(), compatible_ids_of).unwrap()
}

/// Device IDs as devices send them, and the hardware ID that is published of each. INF files write
/// some in capitals; IDs are compared in any case.
const PUBLISHED: &[(&str, &str)] = &[
    // Microsoft, "Plug and Play Parallel Port Devices" 1.0b: the example of the algorithm.
    (
        "MFG:Hewlett-Packard;MDL:HP LaserJet 4P;",
        "Hewlett-PackardHP_La7EE2",
    ),
    // Microsoft, DevCon examples, `devcon hwids *lpt*`: the raw port, which is no device.
    ("MFG:Microsoft;MDL:RawPort;", "MicrosoftRawPort958A"),
    // Novell, "Printer INF files and NDPS": a line of HP's INF.
    (
        "MFG:Hewlett-Packard;MDL:HP LaserJet 5;",
        "HEWLETT-PACKARDHP_LAE238",
    ),
    // foomatic-db, HP-LaserJet_1020.xml; the registry of a PC with one, quoted in a public program.
    (
        "MFG:Hewlett-Packard;MDL:HP LaserJet 1020;CMD:ACL;CLS:PRINTER;DES:HP LaserJet 1020;",
        "Hewlett-PackardHP_La26DD",
    ),
    // foomatic-db, HP-LaserJet_P1007.xml; HP's HPLJP1005.INF.
    (
        "MFG:Hewlett-Packard;MDL:HP LaserJet P1007;CMD:ACL;CLS:PRINTER;DES:HP LaserJet P1007;\
         FWVER:20080415;",
        "Hewlett-PackardHP_La7BBA",
    ),
    // foomatic-db, Lexmark-E230.xml. The device lists its own hardware
    // ID and those of E232, E321 and E320, which follow.
    (
        "MANUFACTURER:Lexmark International;COMMAND SET:PCL 6 Emulation, PostScript Level 3 For \
         Mac Emulation, NPAP, PJL;MODEL:Lexmark E230;CLS:PRINTER;DES:Lexmark E230;\
         CID:Lexmark_Internationa0D83, Lexmark_InternationaCC02, Lexmark_Internationa9D12, \
         Lexmark_Internationa5DD3;COMMENT:ECP1.0, LV_043D, LP_009A, LF_0035;",
        "Lexmark_Internationa0D83",
    ),
    (
        "MANUFACTURER:Lexmark International;MODEL:Lexmark E232;",
        "Lexmark_InternationaCC02",
    ),
    (
        "MANUFACTURER:Lexmark International;MODEL:Lexmark E321;",
        "Lexmark_Internationa9D12",
    ),
    (
        "MANUFACTURER:Lexmark International;MODEL:Lexmark E320;",
        "Lexmark_Internationa5DD3",
    ),
    // foomatic-db, HP-PhotoSmart_7150.xml and seven more: their compatible ID.
    ("MFG:hp;MDL:deskjet 5550;", "hpdeskjet_5550A851"),
    // Brother's INF for the HL-L2300 series.
    (
        "MFG:Brother;MDL:HL-L2310D series;",
        "BROTHERHL-L2310D_SER7315",
    ),
    ("MFG:Brother;MDL:HL-L2325DW;", "BROTHERHL-L2325DWB21B"),
    (
        "MFG:Brother;MDL:HL-L2330D series;",
        "BROTHERHL-L2330D_SERB9B4",
    ),
    (
        "MFG:Brother;MDL:HL-L2350DW series;",
        "BROTHERHL-L2350DW_SEAF7D",
    ),
    // The digits have leading zeros.
    ("MFG:Brother;MDL:HL-L2357DW;", "BROTHERHL-L2357DW06BB"),
    ("MFG:Brother;MDL:HL-L2371DN;", "BROTHERHL-L2371DN759B"),
    // Canon's CNLB0KA64.INF.
    ("MFG:Canon;MDL:MF4010 Series;", "CanonMF4010_Series58E4"),
    // Samsung's INF.
    ("MFG:Samsung;MDL:C410 Series;", "SamsungC410_SeriesC150"),
    ("MFG:Samsung;MDL:M2070 Series;", "SamsungM2070_SeriesAAFA"),
    // Epson's E_3F21GE.INF.
    ("MFG:EPSON;MDL:SC-P600 Series;", "EPSONSC-P600_Series730C"),
    // An open label printer that takes the place of the real one.
    (
        "MFG:DYMO;MDL:LabelWriter 550;CID:DYMOLabelWriter_550B;CLS:PRINTER;\
         DES:DYMO LabelWriter 550;",
        "DYMOLabelWriter_550C80D",
    ),
];

#[test]
fn hardware_ids_are_the_published_ones() {
    for (id, published) in PUBLISHED {
        let made = hardware_id(id);
        assert!(made.eq_ignore_ascii_case(published), "{made}: {published}");
    }
}

/// Published IDs that do not come out, and why.
#[test]
fn published_ids_that_are_misprints() {
    // Microsoft's page "Printer Connected to an LPT Port" prints Hewlett-PackardHP_Co3115 for this
    // device ID. That is the ID of another model.
    let page = "MANUFACTURER:Hewlett-Packard;COMMAND SET:PJL,MLC,PCL,POSTSCRIPT;\
                MODEL:HP Color LaserJet 550;CLASS:PRINTER;COMMENT:HP LaserJet;";
    assert_eq!(hardware_id(page), "Hewlett-PackardHP_Co5523");
    assert_eq!(
        hardware_id(&page.replace("550;", "4500;")),
        "Hewlett-PackardHP_Co3115"
    );
    // foomatic-db's Lexmark-E450dn.xml lists Lexmark_International5183 and three more, with 21
    // characters. The checksums are right: of E450dn, E332n, E330 and E323.
    for (model, checksum) in [
        ("E450dn", "5183"),
        ("E332n", "D1CD"),
        ("E330", "CDD2"),
        ("E323", "5C93"),
    ] {
        assert_eq!(
            hardware_id(&format!("MFG:Lexmark International;MDL:Lexmark {model};")),
            format!("Lexmark_Internationa{checksum}")
        );
    }
}

/// More device IDs of real devices. Their hardware IDs were not found in print.
#[test]
fn other_real_devices() {
    for (id, hardware, description) in [
        // Epson, Stylus Photo 810/820 service manual, with IEEE 1284.4.
        (
            "MFG:EPSON;CMD:ESCPL2,BDC,D4;MDL:Stylus Photo 820;CLS:PRINTER;\
             DES:EPSON Stylus Photo 820;",
            "EPSONStylus_Photo_82",
            "EPSON Stylus Photo 820",
        ),
        // foomatic-db: HP-LaserJet_3100.xml, KONICA_MINOLTA-magicolor_2480_MF.xml,
        // Samsung-ML-6060.xml, Xerox-Phaser_6110.xml.
        (
            "MANUFACTURER:Hewlett-Packard;COMMAND SET:HP GDI;MODEL:HP LaserJet 3100;CLASS:PRINTER;\
             DESCRIPTION:Hewlett-Packard LaserJet 3100 MFP;",
            "Hewlett-PackardHP_La",
            "Hewlett-Packard LaserJet 3100 MFP",
        ),
        (
            "CLASS:PRINTER;MODEL:magicolor 2480 MF;MANUFACTURER:KONICA MINOLTA;COMMAND SET:ZJS,PJL;",
            "KONICA_MINOLTAmagico",
            "KONICA MINOLTA magicolor 2480 MF",
        ),
        (
            "MFG:Samsung;CMD:PCL5E,PCL6;MDL:ML-6060;CLS:PRINTER;",
            "SamsungML-6060",
            "Samsung ML-6060",
        ),
        (
            "MFG:Xerox;CMD:SPLC;MDL:Phaser 6110;CLS:PRINTER;STATUS:BUSY;",
            "XeroxPhaser_6110",
            "Xerox Phaser 6110",
        ),
    ] {
        let (name, checksum) = {
            let made = hardware_id(id);
            let (name, checksum) = made.split_at(made.len() - 4);
            (name.to_owned(), checksum.to_owned())
        };
        assert_eq!(name, hardware);
        assert!(checksum.bytes().all(|digit| digit.is_ascii_hexdigit()));
        with(id.as_bytes(), |id| {
            assert_eq!(id.description().to_string(), description);
            assert_eq!(id.class().to_string(), "PRINTER");
        })
        .unwrap();
    }
    // foomatic-db: Epson-WF-7010.xml. The key before the model is missing.
    let broken = b"MFG:EPSON;CMD:ESCPL2,BDC,D4,D4PX;WF-7010 Series;CLS:PRINTER;";
    assert!(with(broken, |_| ()).is_none());
}

#[test]
fn the_device_id_is_not_cut() {
    // DevCon's examples show these, in capitals, and one more printer of the registry.
    for (id, node) in [
        ("MFG:Microsoft;MDL:RawPort;", "MICROSOFTRAWPORT"),
        (
            "MFG:Hewlett-Packard;MDL:DeskJet 1120C;",
            "HEWLETT-PACKARDDESKJET_1120C",
        ),
        (
            "MFG:Hewlett-Packard;MDL:HP LaserJet 1020;",
            "HEWLETT-PACKARDHP_LASERJET_1020",
        ),
    ] {
        with(id.as_bytes(), |id| {
            assert!(id.device_id().to_string().eq_ignore_ascii_case(node));
        })
        .unwrap();
    }
}

#[test]
fn compatible_ids_are_those_of_the_device_and_the_model() {
    // foomatic-db, Brother-DCP-7065DN.xml. The INF of Brother's class driver has
    // 1284_CID_BROTHER_LASER_TYPE1.
    assert_eq!(
        compatible_ids("MFG:Brother;MDL:DCP-7065DN;CLS:PRINTER;CID:Brother Laser Type1;"),
        [
            "Brother_Laser_Type1",
            "1284_CID_Brother_Laser_Type1",
            "DCP-7065DN"
        ]
    );
    assert_eq!(
        compatible_ids("MFG:A;MDL:B c;CompatibleID: one, ,two 2 ,"),
        ["one", "1284_CID_one", "two_2", "1284_CID_two_2", "B_c"]
    );
    // The form of Microsoft's specification for another device's hardware ID.
    assert_eq!(
        compatible_ids("MFG:A;MDL:B;CID:LPTENUM\\Sample_Printer_CompaAAA2;"),
        ["LPTENUM\\Sample_Printer_CompaAAA2", "B"]
    );
    // No other enumerator's.
    assert_eq!(
        compatible_ids("MFG:A;MDL:B;CID:USB\\Class_08,lptenum\\a\\b,LPTENUM\\;"),
        [
            "USB_Class_08",
            "1284_CID_USB_Class_08",
            "LPTENUM\\a_b",
            "LPTENUM_",
            "1284_CID_LPTENUM_",
            "B"
        ]
    );
    assert_eq!(compatible_ids("MFG:A;MDL:B;"), ["B"]);
    let long = "x".repeat(128);
    assert_eq!(
        compatible_ids(&format!(
            "MFG:A;MDL:{long}y;CID:{long},{long}y,{};",
            &long[9..]
        )),
        [
            long.clone(),
            long[9..].to_owned(),
            format!("1284_CID_{}", &long[9..])
        ]
    );
}

#[test]
fn without_manufacturer_or_model_there_is_no_identity() {
    for id in [
        "",
        ";",
        "MFG:Acme;",
        "MDL:Laser;",
        "MFG:;MDL:Laser;",
        "MFG:Acme;MDL:  ;",
        "MFG Acme;MDL Laser;",
        "CID:Acme;DES:Laser;",
    ] {
        assert!(with(id.as_bytes(), |_| ()).is_none(), "{id}");
    }
    assert!(PlugAndPlayId::of(DeviceId(b"")).is_none());
}

#[test]
fn illegal_characters_are_replaced() {
    let id = b"MFG:A,B\\C\x7F\x80\xFF\t;MDL:\x01d \xE9;DES:l'\xE9t\xE9, \\ \n;CLS:Prin\x00ter;";
    with(id, |id| {
        assert_eq!(id.device_id().to_string(), "A_B_C____d__");
        assert!(id.hardware_id().to_string().starts_with("A_B_C____d__"));
        assert_eq!(id.description().to_string(), "l'_t_, \\");
        assert_eq!(id.class().to_string(), "PRIN_TER");
    })
    .unwrap();
    // The checksum is of what was sent: another byte, another ID.
    assert_ne!(hardware_id("MFG:a,b;MDL:c;"), hardware_id("MFG:a_b;MDL:c;"));
    assert_ne!(hardware_id("MFG:a b;MDL:c;"), hardware_id("MFG:a_b;MDL:c;"));
    // But not of the blanks around a value.
    assert_eq!(
        hardware_id("MFG: Lexmark International ;MDL:Lexmark E230 ;"),
        "Lexmark_Internationa0D83"
    );
}

#[cfg(not(miri))]
mod random {
    use parscan_core::ieee1284::PlugAndPlayText;
    use proptest::prelude::*;

    use super::*;

    /// What `IRP_MN_QUERY_ID` allows, and no separator.
    fn is_id(text: &str) -> bool {
        text.bytes()
            .all(|byte| (0x21..0x7F).contains(&byte) && byte != b',' && byte != b'\\')
    }

    fn check(id: &PlugAndPlayId) -> Result<(), TestCaseError> {
        let (node, hardware) = (id.device_id(), id.hardware_id());
        let (node, hardware) = (&*node.to_string(), &*hardware.to_string());
        prop_assert!(is_id(node) && (2..=128).contains(&node.len()), "{node}");
        prop_assert!(
            is_id(hardware) && (6..=24).contains(&hardware.len()),
            "{hardware}"
        );
        prop_assert!(node.starts_with(&hardware[..hardware.len() - 4]));
        for text in compatible_ids_of(id) {
            let rest = text.strip_prefix("LPTENUM\\").unwrap_or(&text);
            prop_assert!(
                is_id(rest) && !rest.is_empty() && text.len() <= 128,
                "{text}"
            );
        }
        let is_text =
            |text: PlugAndPlayText| text.as_ref().iter().all(|b| (b' '..0x7F).contains(b));
        prop_assert!(is_text(id.description()) && !id.description().as_ref().is_empty());
        prop_assert!(is_text(id.class()));
        Ok(())
    }

    proptest! {
        #[test]
        fn anything_gives_legal_ids(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(id) = PlugAndPlayId::of(DeviceId(&bytes)) {
                check(&id)?;
            }
        }

        #[test]
        fn any_values_give_legal_ids(
            values in proptest::collection::vec(
                (
                    prop_oneof![
                        Just("MFG"), Just("manufacturer"), Just("MDL"), Just("Model"),
                        Just("CID"), Just("CompatibleId"), Just("DES"), Just("CLS"), Just("SN"),
                    ],
                    proptest::collection::vec(any::<u8>(), 0..160),
                ),
                0..8,
            ),
        ) {
            let mut bytes = vec![0, 0];
            for (key, value) in &values {
                bytes.extend_from_slice(key.as_bytes());
                bytes.push(b':');
                bytes.extend(value);
                bytes.push(b';');
            }
            if let Some(id) = PlugAndPlayId::of(DeviceId(&bytes)) {
                check(&id)?;
            }
        }
    }
}
