//! A program writes registers of a scanner: its request, the URB, and the bytes on the wire.
//!
//! The demo shows it, and the page of requests has it.

use std::fmt::Write as _;

use ntsim::{
    IoResult, NtStatus,
    usb::{Urb, layout::function},
};

use crate::{
    scanner::{Opened, ScannerPc},
    usbscan_h::IoBlock,
};

/// One `IOCTL_WRITE_REGISTERS`.
#[derive(Clone, Debug)]
pub struct RegisterWrite {
    /// What the program sent.
    pub block: IoBlock,
    /// What was at its `pbyData`.
    pub data: Vec<u8>,
    /// What came of it.
    pub result: IoResult,
    /// What the driver made of it.
    pub urb: Urb,
    /// What these registers of the scanner have afterwards.
    pub registers: Vec<u8>,
}

/// What the documentation says that a member of the URB is.
enum Documented {
    /// This number.
    Value(u64),
    /// An address: memory with the program's data, and not the program's own.
    Copy,
}

/// A member of `_URB_CONTROL_VENDOR_OR_CLASS_REQUEST`.
struct Member {
    name: &'static str,
    /// Where it is in the x64 structure, and its bytes.
    at: usize,
    size: usize,
    documented: Documented,
    /// What its value means.
    meaning: &'static str,
    /// What the program said that it comes from.
    asked: String,
    /// What becomes of it on the wire.
    wire: String,
}

impl RegisterWrite {
    /// Runs the request as a 64-bit program.
    ///
    /// # Panics
    /// If the driver does not send one URB with one SETUP packet.
    #[must_use]
    pub fn record(pc: &ScannerPc, file: Opened, offset: u16, index: u16, data: &[u8]) -> Self {
        let address = pc.machine.user_alloc(file.caller, data);
        let block = IoBlock {
            offset: offset.into(),
            length: data.len().try_into().expect("short"),
            data: address.try_into().expect("an address"),
            index: index.into(),
        };
        let before = pc.machine.urb_count();
        let result = pc.write_registers(file, block);
        pc.machine.user_free(address);
        let urbs: [Urb; 1] = pc.urbs_since(before).try_into().expect("one URB");
        let [urb] = urbs;
        assert_eq!(urb.setups.len(), 1, "SETUP packets");
        Self {
            block,
            data: data.to_vec(),
            result,
            urb,
            registers: pc.scanner.registers(offset, data.len()),
        }
    }

    /// The SETUP packet.
    #[must_use]
    pub fn setup(&self) -> [u8; 8] {
        self.urb.setups[0]
    }

    /// The SETUP packet that is documented for it.
    fn documented_setup(&self) -> [u8; 8] {
        let [o0, o1, ..] = self.block.offset.to_le_bytes();
        let [i0, i1, ..] = self.block.index.to_le_bytes();
        let [l0, l1, ..] = self.block.length.to_le_bytes();
        [0x40, self.documented_request(), o0, o1, i0, i1, l0, l1]
    }

    fn documented_request(&self) -> u8 {
        if self.block.length > 1 { 0x04 } else { 0x0C }
    }

    /// Every member of the URB, in its order.
    fn members(&self) -> Vec<Member> {
        let setup = self.setup();
        let member = |name, at, size, value| Member {
            name,
            at,
            size,
            documented: Documented::Value(value),
            meaning: "",
            asked: String::new(),
            wire: String::new(),
        };
        let block = self.block;
        let several = if block.length > 1 { "> 1" } else { "<= 1" };
        vec![
            Member {
                meaning: "= 136",
                asked: "IOCTL_WRITE_REGISTERS".into(),
                ..member("Hdr.Length", 0x00, 2, 136)
            },
            Member {
                meaning: "VENDOR_DEVICE",
                ..member("Hdr.Function", 0x02, 2, function::VENDOR_DEVICE.into())
            },
            member("Hdr.Status", 0x04, 4, 0),
            member("Hdr.UsbdDeviceHandle", 0x08, 8, 0),
            member("Hdr.UsbdFlags", 0x10, 4, 0),
            member("Reserved", 0x18, 8, 0),
            Member {
                meaning: "DIRECTION_OUT",
                ..member("TransferFlags", 0x20, 4, 0)
            },
            Member {
                asked: format!("uLength  {}", block.length),
                wire: format!("wLength        {}", hex(&setup[6..])),
                ..member("TransferBufferLength", 0x24, 4, block.length.into())
            },
            Member {
                asked: format!("pbyData  -> {}", hex(&self.data)),
                wire: format!("data stage     {}", hex(&self.urb.data)),
                documented: Documented::Copy,
                meaning: "a captured copy",
                ..member("TransferBuffer", 0x28, 8, 0)
            },
            member("TransferBufferMDL", 0x30, 8, 0),
            member("UrbLink", 0x38, 8, 0),
            member("hca", 0x40, 64, 0),
            Member {
                meaning: "vendor, OUT",
                wire: format!("bmRequestType  {}", hex(&setup[..1])),
                ..member("RequestTypeReservedBits", 0x80, 1, 0x40)
            },
            Member {
                asked: format!("uLength  {several}"),
                wire: format!("bRequest       {}", hex(&setup[1..2])),
                ..member("Request", 0x81, 1, self.documented_request().into())
            },
            Member {
                asked: format!("uOffset  {:#010X}", block.offset),
                wire: format!("wValue         {}", hex(&setup[2..4])),
                ..member("Value", 0x82, 2, u64::from(block.offset & 0xFFFF))
            },
            Member {
                asked: format!("uIndex   {:#010X}", block.index),
                wire: format!("wIndex         {}", hex(&setup[4..6])),
                ..member("Index", 0x84, 2, u64::from(block.index & 0xFFFF))
            },
            member("Reserved1", 0x86, 2, 0),
        ]
    }

    /// What each member of the request becomes.
    ///
    /// # Panics
    /// If there is no such URB.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<24} {:<46} on the wire\n",
            "IO_BLOCK", "_URB_CONTROL_VENDOR_OR_CLASS_REQUEST"
        );
        for member in self.members() {
            let value = format!("{} {}", member.value(&self.urb), member.meaning);
            let line = format!(
                "{:<24} {:<24} {:<21} {}",
                member.asked,
                member.name,
                value.trim(),
                member.wire
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = writeln!(
            text,
            "\nSETUP {}  data {}  {}, Information {}",
            hex(&self.setup()),
            hex(&self.urb.data),
            self.result.status,
            self.result.information
        );
        text
    }

    /// Whether everything is as documented.
    ///
    /// # Errors
    /// What is not.
    pub fn check(&self) -> Result<(), String> {
        for member in self.members() {
            let bytes = member.bytes(&self.urb);
            let same = match member.documented {
                Documented::Value(value) => {
                    let mut expected = value.to_le_bytes().to_vec();
                    expected.resize(64, 0);
                    *bytes == expected[..member.size]
                }
                Documented::Copy if self.data.is_empty() => bytes.iter().all(|byte| *byte == 0),
                Documented::Copy => {
                    bytes.iter().any(|byte| *byte != 0) && *bytes != self.block.data.to_le_bytes()
                }
            };
            if !same {
                return Err(format!("{} is {}", member.name, hex(bytes)));
            }
        }
        if self.setup() != self.documented_setup() {
            return Err(format!("SETUP is {}", hex(&self.setup())));
        }
        if self.urb.data != self.data || self.registers != self.data {
            return Err(format!("the scanner got {}", hex(&self.registers)));
        }
        if self.result.outcome() != (NtStatus::SUCCESS, 0) {
            return Err(format!(
                "it ended with {}, Information {}",
                self.result.status, self.result.information
            ));
        }
        Ok(())
    }
}

impl Member {
    /// Its bytes, as the driver sent them.
    fn bytes<'a>(&self, urb: &'a Urb) -> &'a [u8] {
        urb.sent
            .get(self.at..self.at + self.size)
            .expect("a URB of 136 bytes")
    }

    /// Its value as the table has it. Addresses are other ones in each run.
    fn value(&self, urb: &Urb) -> String {
        let bytes = self.bytes(urb);
        match self.documented {
            Documented::Copy => String::new(),
            Documented::Value(_) if bytes.iter().all(|byte| *byte == 0) => "0".into(),
            Documented::Value(_) => {
                let digits: Vec<_> = bytes.iter().rev().map(|b| format!("{b:02X}")).collect();
                format!("0x{}", digits.concat())
            }
        }
    }
}

/// Bytes in hexadecimal; `-` for none.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    digits.join(" ")
}
