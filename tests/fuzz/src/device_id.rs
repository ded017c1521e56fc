//! A peripheral that sends anything as its device ID, in any mode.

use arbitrary::Arbitrary;
use parscan_core::ieee1284::{Capabilities, DeviceId, IdLength, PlugAndPlayId, Session};
use parscan_models::{Ecp, Peripheral1284, Phase, extensibility};

use super::wire::Wire;

/// In which modes it sends.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Modes {
    /// Nibble mode.
    Nibble,
    /// Byte mode.
    Byte,
    /// ECP.
    Ecp,
    /// All of them.
    All,
    /// None.
    None,
}

/// What it sends, and the room for it.
#[derive(Arbitrary, Clone, Debug)]
pub struct Input<'a> {
    modes: Modes,
    room: u16,
    id: &'a [u8],
}

/// Asks for it twice, with little room and with enough.
///
/// # Panics
/// If more comes back than was sent, or fits, or the two differ, or the port is not at rest.
pub fn run(input: &Input) {
    parse(input.id);
    let (small, length) = ask(input, usize::from(input.room));
    let (all, full) = ask(input, 0x1_0000);
    assert_eq!(length.is_some(), full.is_some());
    let (Some(length), Some(full)) = (length, full) else {
        return;
    };
    assert_eq!(length.total, full.total);
    assert_eq!(full.stored, full.total);
    assert_eq!(small[..length.stored], all[..length.stored]);
    parse(&all[..full.stored]);
}

fn ask(input: &Input, room: usize) -> (Vec<u8>, Option<IdLength>) {
    let requests: &[u8] = match input.modes {
        Modes::Nibble => &[extensibility::ID_NIBBLE],
        Modes::Byte => &[extensibility::ID_BYTE],
        Modes::Ecp => &[extensibility::ID_ECP],
        Modes::All => &extensibility::ALL,
        Modes::None => &[],
    };
    let device = Peripheral1284::new()
        .with_requests(requests)
        .with_device_id(input.id);
    let chip = Ecp::new(Box::new(device.clone())).without_trace();
    let mut wire = Wire::new(Box::new(chip), true);
    let mut session = Session::new(Capabilities {
        byte: Some(true),
        ecr: true,
        ..Capabilities::SPP
    });
    // Not a byte of any ID that is short.
    let mut sink = vec![0xA5; room];
    let length = session.device_id(&mut wire, &mut sink).ok();
    assert!(wire.is_at_rest());
    assert_eq!(device.phase(), Phase::Compatibility);
    assert_eq!(device.violations(), []);
    if let Some(length) = length {
        assert!(length.total <= input.id.len().min(0xFFFF));
        assert_eq!(length.stored, length.total.min(room));
        assert_eq!(sink[..length.stored], input.id[..length.stored]);
        assert!(sink[length.stored..].iter().all(|byte| *byte == 0xA5));
    }
    (sink, length)
}

/// Takes an ID apart.
fn parse(raw: &[u8]) {
    let id = DeviceId(raw);
    assert_eq!(id.raw(), raw);
    let cooked = id.cooked();
    assert_eq!(cooked.len(), raw.len().saturating_sub(2));
    let mut length = 0;
    for (key, value) in id.pairs() {
        length += key.len() + value.len() + 1;
        if let Ok(key) = str::from_utf8(key) {
            assert!(id.get(&[key]).is_some(), "{key}");
        }
    }
    // The last semicolon may be missing.
    assert!(length <= cooked.len() + 1);
    for keys in [
        DeviceId::MANUFACTURER,
        DeviceId::MODEL,
        DeviceId::COMMAND_SET,
        DeviceId::CLASS,
        DeviceId::DESCRIPTION,
        DeviceId::COMPATIBLE_ID,
        DeviceId::SERIAL_NUMBER,
    ] {
        assert!(id.get(keys).is_none_or(|value| value.len() <= cooked.len()));
    }
    if let Some(id) = PlugAndPlayId::of(id) {
        identity(&id);
    }
}

/// Makes the IDs of a device, in which no character may be illegal.
fn identity(id: &PlugAndPlayId) {
    let (node, hardware) = (id.device_id(), id.hardware_id());
    let (node, hardware) = (&*node.to_string(), &*hardware.to_string());
    assert!(is_id(node) && (2..=128).contains(&node.len()), "{node}");
    assert!(is_id(hardware) && (6..=24).contains(&hardware.len()));
    assert!(node.starts_with(&hardware[..hardware.len() - 4]));
    id.each_compatible_id(|compatible| {
        let text = compatible.to_string();
        assert!(text.len() <= 128, "{text}");
        let rest = text.strip_prefix("LPTENUM\\").unwrap_or(&text);
        assert!(is_id(rest) && !rest.is_empty(), "{text}");
    });
    for text in [id.description(), id.class()] {
        assert!(
            text.to_string()
                .bytes()
                .all(|byte| (b' '..0x7F).contains(&byte))
        );
    }
}

/// What `IRP_MN_QUERY_ID` allows, and no separator.
fn is_id(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'\\'))
}
