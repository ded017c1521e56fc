//! `USBD`: what USBD.SYS exports and this machine offers.
//!
//! `USBD_CreateHandle`, `USBD_UrbAllocate` and their kin are no exports: they are code of the
//! static library usbdex.lib, which becomes part of the driver's own image.

use crate::mem::{Va, peek, poke};
use crate::state::with;

const INTERFACE: u8 = 4;
/// `sizeof(struct _URB_SELECT_CONFIGURATION)` without its first interface.
const HEAD: usize = 40;

/// Size of a `USBD_INTERFACE_INFORMATION` with so many pipes.
const fn interface_size(pipes: usize) -> usize {
    24 + 24 * pipes
}

/// The first descriptor of a kind from `start` on; 0 if there is none before the end.
pub(super) extern "efiapi" fn parse_descriptors(
    buffer: Va,
    total: u32,
    start: Va,
    kind: i32,
) -> Va {
    let end = buffer + total as usize;
    let mut at = start;
    while at + 2 <= end {
        let length: u8 = peek(at);
        if i32::from(peek::<u8>(at + 1)) == kind {
            return at;
        }
        if length == 0 {
            break;
        }
        at += usize::from(length);
    }
    0
}

/// The first interface descriptor from `start` on that fits; -1 fits all.
pub(super) extern "efiapi" fn parse_configuration_descriptor_ex(
    configuration: Va,
    start: Va,
    number: i32,
    alternate: i32,
    class: i32,
    subclass: i32,
    protocol: i32,
) -> Va {
    let total = u32::from(peek::<u16>(configuration + 2));
    let wanted = [
        (2, number),
        (3, alternate),
        (5, class),
        (6, subclass),
        (7, protocol),
    ];
    let mut at = start;
    loop {
        at = parse_descriptors(configuration, total, at, INTERFACE.into());
        if at == 0 {
            return 0;
        }
        let fits = |&(offset, value): &(usize, i32)| {
            value == -1 || i32::from(peek::<u8>(at + offset)) == value
        };
        if wanted.iter().all(fits) {
            return at;
        }
        let length: u8 = peek(at);
        if length == 0 {
            return 0;
        }
        at += usize::from(length);
    }
}

/// A URB for `SELECT_CONFIGURATION` in nonpaged pool, which the driver frees with `ExFreePool`.
pub(super) extern "efiapi" fn create_configuration_request_ex(configuration: Va, list: Va) -> Va {
    if with(crate::state::Kernel::take_injection) {
        return 0;
    }
    let mut interfaces: Vec<(Va, Va, usize)> = Vec::new();
    let mut entry = list;
    loop {
        let descriptor: Va = peek(entry);
        if descriptor == 0 {
            break;
        }
        interfaces.push((entry, descriptor, usize::from(peek::<u8>(descriptor + 4))));
        entry += 16;
    }
    let size: usize = HEAD
        + interfaces
            .iter()
            .map(|i| interface_size(i.2))
            .sum::<usize>();
    let Ok(length) = u16::try_from(size) else {
        return 0;
    };
    let urb = super::ex::pool_for_driver(&vec![0; size], false, *b"USBD");
    poke(urb, length);
    // URB_FUNCTION_SELECT_CONFIGURATION is 0.
    poke(urb + 0x18, configuration);
    let mut at = urb + HEAD;
    for (entry, descriptor, pipes) in interfaces {
        let size = interface_size(pipes);
        poke(at, u16::try_from(size).unwrap_or(u16::MAX));
        poke(at + 2, peek::<u8>(descriptor + 2));
        poke(at + 3, peek::<u8>(descriptor + 3));
        poke(at + 0x10, u32::try_from(pipes).unwrap_or(0));
        for pipe in 0..pipes {
            // MaximumTransferSize: USBD_DEFAULT_MAXIMUM_TRANSFER_SIZE
            poke(at + 24 + 24 * pipe + 0x10, u32::MAX);
        }
        poke(entry + 8, at);
        at += size;
    }
    urb
}

/// `USBDI_Version` 6.0, USB 2.0.
pub(super) extern "efiapi" fn get_usbdi_version(version: Va) {
    poke(version, 0x0600_u32);
    poke(version + 4, 0x0200_u32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{peek_bytes, poke_bytes};
    use crate::{Config, Machine};

    /// Two interfaces, the first with an alternate setting.
    const DESCRIPTOR: [u8; 57] = [
        9, 2, 57, 0, 2, 1, 0, 0xC0, 0, //
        9, 4, 0, 0, 0, 6, 1, 1, 0, //
        9, 4, 0, 1, 2, 6, 1, 1, 0, //
        7, 5, 0x81, 2, 64, 0, 0, //
        7, 5, 0x02, 2, 64, 0, 0, //
        9, 4, 1, 0, 1, 0xFF, 2, 3, 0, //
        7, 5, 0x83, 3, 8, 0, 9,
    ];

    fn descriptor(machine: &Machine) -> Va {
        let at = machine.allocate(DESCRIPTOR.len());
        poke_bytes(at, &DESCRIPTOR);
        at
    }

    #[test]
    fn interfaces_are_found_by_every_criterion() {
        let machine = Machine::boot(Config::default());
        let at = descriptor(&machine);
        let find = |number, alternate, class, subclass, protocol| {
            let found = parse_configuration_descriptor_ex(
                at, at, number, alternate, class, subclass, protocol,
            );
            found.checked_sub(at)
        };
        assert_eq!(find(-1, -1, -1, -1, -1), Some(9));
        assert_eq!(find(0, 1, -1, -1, -1), Some(18));
        assert_eq!(find(-1, -1, 0xFF, -1, -1), Some(41));
        assert_eq!(find(1, 0, -1, 2, 3), Some(41));
        assert_eq!(find(1, 1, -1, -1, -1), None);
        assert_eq!(parse_descriptors(at, 57, at, 5).checked_sub(at), Some(27));
        assert_eq!(parse_descriptors(at, 57, at, 3), 0);
        // A length of zero ends the search.
        poke(at + 9, 0_u8);
        assert_eq!(parse_descriptors(at, 57, at, 5), 0);
    }

    #[test]
    fn a_request_has_room_for_every_pipe() {
        let machine = Machine::boot(Config::default());
        let at = descriptor(&machine);
        let list = machine.allocate(48);
        poke(list, at + 18);
        poke(list + 16, at + 41);
        let urb = create_configuration_request_ex(at, list);
        // GET_SELECT_CONFIGURATION_REQUEST_SIZE(2, 3)
        assert_eq!(peek::<u16>(urb), 88 + 48 + 24);
        assert_eq!(peek::<u16>(urb + 2), 0);
        assert_eq!(peek::<Va>(urb + 0x18), at);
        let (first, second): (Va, Va) = (peek(list + 8), peek(list + 24));
        assert_eq!((first - urb, second - urb), (40, 40 + 72));
        assert_eq!(peek_bytes(first, 4), [72, 0, 0, 1]);
        assert_eq!(peek::<u32>(first + 0x10), 2);
        assert_eq!(peek_bytes(second, 4), [48, 0, 1, 0]);
        assert_eq!(peek::<u32>(second + 0x18 + 0x10), u32::MAX);
    }

    #[test]
    fn only_real_exports_are_there() {
        assert!(super::super::find_export("USBD.SYS", "USBD_ParseDescriptors").is_some());
        for (module, name) in [
            ("ntoskrnl.exe", "USBD_ParseDescriptors"),
            ("USBD.SYS", "ExFreePool"),
            ("USBD.SYS", "USBD_CreateHandle"),
            ("USBD.SYS", "USBD_UrbAllocate"),
            ("USBD.SYS", "USBD_UrbFree"),
            ("USBD.SYS", "USBD_SelectConfigUrbAllocateAndBuild"),
        ] {
            assert!(super::super::find_export(module, name).is_none(), "{name}");
        }
    }
}
