//! Every rule about URBs has a URB that breaks it.

use ntsim::usb::layout::{self, function};
use parscan_models::{Scanner, Speed};

use crate::driver::Bench;

use crate::client::{
    Bytes, Client, DISPATCH, IN, PASSIVE, descriptor, pipe_request, transfer, vendor,
};

/// `SET_POWER` to a device state: `SystemContext`, Type, State, `ShutdownType`.
const D0: [usize; 4] = [0, 1, 1, 0];
const D3: [usize; 4] = [0, 1, 4, 0];

fn client() -> Client {
    Client::scanner(1, Speed::High)
}

/// A configured device, its pipes (bulk IN, bulk OUT, interrupt IN) and a buffer of 1024 bytes.
fn ready() -> (Client, Vec<usize>, usize) {
    let c = client();
    let pipes = c.configure().expect("configured");
    let buffer = c.machine.allocate_pool(1024, false);
    (c, pipes, buffer)
}

#[test]
fn a_urb_lies_in_nonpaged_kernel_memory() {
    for (paged, short) in [(true, false), (false, true)] {
        let c = client();
        let urb = vendor(0, 0x0C, 0, 0, 0);
        let size = urb.0.len() - usize::from(short) * 8;
        let at = c.machine.allocate_pool(size, paged);
        c.machine.write_memory(at, &urb.0[..size]).expect("written");
        let pending = c.machine.start_urb(c.node, at, PASSIVE);
        let check = c.machine.finish(&pending).expect_err("a broken rule");
        assert_eq!(check.rule.code, "FE/m", "{check}");
    }
}

#[test]
fn the_header_has_the_length_of_its_request() {
    for (right, codes) in [
        (32, &[function::GET_CURRENT_FRAME_NUMBER][..]),
        (40, &[function::ABORT_PIPE]),
        (128, &[function::BULK_OR_INTERRUPT_TRANSFER]),
        (
            136,
            &[
                function::GET_DESCRIPTOR_FROM_DEVICE,
                function::VENDOR_DEVICE,
                function::CLASS_INTERFACE,
                function::CONTROL_TRANSFER,
                function::GET_STATUS_FROM_DEVICE,
                function::CLEAR_FEATURE_TO_ENDPOINT,
            ],
        ),
    ] {
        for code in codes {
            for length in [24, right - 8, right + 8] {
                let c = client();
                assert_eq!(c.broken(&Bytes::new(*code, length)), "FE/l", "{code:#x}");
            }
        }
    }
    // An interface that does not end where the header says.
    let c = client();
    let bytes = c.device.descriptors().configuration;
    let urb = c.select(&bytes, 3).u16(0x28, 24 + 24 * 3 - 8);
    assert_eq!(c.broken(&urb), "FE/l");
}

#[test]
fn functions_that_nobody_has_are_refused() {
    for code in [0x0003, 0x0016, 0x001D, 0x002B, 0x0039, 0xFFFF] {
        assert_eq!(client().broken(&Bytes::new(code, 136)), "FE/f");
    }
}

#[test]
fn reserved_members_stay_zero() {
    for at in [0x38, 0x40, 0x7F, 0x86] {
        let urb = vendor(0, 0x0C, 0, 0, 0).put(at, &[1]);
        assert_eq!(client().broken(&urb), "FE/r", "{at:#x}");
    }
    {
        let (c, pipes, buffer) = ready();
        let urb = transfer(pipes[0], IN, buffer, 512).put(0x38, &[1]);
        assert_eq!(c.broken(&urb), "FE/r");
    }
    {
        let c = client();
        let at = c.machine.allocate_pool(18, false);
        assert_eq!(c.broken(&descriptor(1, 0, at, 18).put(0x86, &[1])), "FE/r");
    }
}

#[test]
fn one_buffer_resident_and_large_enough() {
    {
        let c = client();
        assert_eq!(c.broken(&vendor(IN, 4, 0, 0, 8)), "FE/d", "none");
    }
    {
        let c = client();
        let at = c.machine.allocate_pool(8, false);
        let urb = vendor(IN, 4, 0, at, 8).pointer(0x30, at);
        assert_eq!(c.broken(&urb), "FE/d", "both");
    }
    {
        let c = client();
        let at = c.machine.allocate_pool(8, true);
        assert_eq!(c.broken(&vendor(IN, 4, 0, at, 8)), "FE/d", "paged");
    }
    {
        let c = client();
        let at = c.machine.allocate_pool(8, false);
        assert_eq!(c.broken(&vendor(IN, 4, 0, at, 9)), "FE/d", "short");
    }
    {
        let c = client();
        let at = c.machine.allocate_pool(8, false);
        c.machine.free_pool(at);
        assert_eq!(c.broken(&vendor(IN, 4, 0, at, 8)), "FE/d", "freed");
    }
    {
        let c = client();
        assert_eq!(c.broken(&vendor(IN, 4, 0, 0x1_0000, 8)), "FE/d", "user");
    }
    {
        let c = client();
        let at = c.machine.allocate_pool(0x1_0001, false);
        assert_eq!(c.broken(&vendor(IN, 4, 0, at, 0x1_0000)), "FE/d", "wLength");
    }
}

/// An MDL on x64: flags, mapped address, byte count.
fn mdl(c: &Client, flags: u16, address: usize, count: u32) -> usize {
    let bytes = Bytes(vec![0; 0x30])
        .u16(0x0A, flags)
        .pointer(0x18, address)
        .pointer(0x20, address & !0xFFF)
        .u32(0x28, count)
        .u32(0x2C, u32::try_from(address & 0xFFF).expect("small"));
    c.pool(&bytes.0)
}

#[test]
fn an_mdl_is_locked_and_long_enough() {
    for (flags, count, code) in [(1, 64, "FE/M"), (3, 63, "FE/M")] {
        let c = client();
        let at = c.machine.allocate_pool(64, false);
        let list = mdl(&c, flags, at, count);
        let urb = vendor(IN, 4, 0, 0, 64).pointer(0x30, list);
        assert_eq!(c.broken(&urb), code);
    }
    // Mapped, from nonpaged pool, and locked only.
    for flags in [3, 4, 2] {
        let c = client();
        c.device.set_registers(0, &[9; 64]);
        let at = c.machine.allocate_pool(64, false);
        let list = mdl(&c, flags, at, 64);
        let urb = vendor(IN, 4, 0, 0, 64).pointer(0x30, list);
        let (status, ..) = c.run(&urb).expect("kept");
        assert!(status.is_success());
        assert_eq!(c.machine.read_memory(at, 64).expect("read"), [9; 64]);
    }
}

/// A read of four bytes, with a length and flags that may not fit.
fn control_transfer(buffer: usize, flags: u32, length: usize) -> Bytes {
    Bytes::new(function::CONTROL_TRANSFER, 136)
        .u32(0x20, flags)
        .buffer(buffer, length)
        .put(0x80, &[0xC0, 0x0C, 0, 0, 0, 0, 4, 0])
}

#[test]
fn flags_fit_the_endpoint() {
    for (pipe, flags) in [(0, 0), (0, 2), (0, 1 | 4), (1, 1), (1, 2), (2, 0), (2, 8)] {
        let (c, pipes, buffer) = ready();
        let urb = transfer(pipes[pipe], flags, buffer, 8);
        assert_eq!(c.broken(&urb), "FE/F", "pipe {pipe} flags {flags}");
    }
    for flags in [2, 4, 8] {
        let urb = vendor(flags, 0x0C, 0, 0, 0);
        assert_eq!(client().broken(&urb), "FE/F", "flags {flags}");
    }
    {
        let c = client();
        let at = c.machine.allocate_pool(8, false);
        let control = |flags, length| control_transfer(at, flags, length);
        assert!(c.run(&control(8 | 1, 4)).expect("kept").0.is_success());
        assert_eq!(c.broken(&control(8, 4)), "FE/F", "direction");
    }
    {
        let c = client();
        let at = c.machine.allocate_pool(8, false);
        let urb = control_transfer(at, 8 | 1, 0);
        assert_eq!(c.broken(&urb), "FE/F", "wLength");
    }
}

#[test]
fn handles_are_those_that_were_given() {
    {
        let (c, pipes, buffer) = ready();
        assert_eq!(c.broken(&transfer(pipes[0] + 1, IN, buffer, 8)), "FE/p");
    }
    {
        let (c, _, _) = ready();
        let urb = pipe_request(function::ABORT_PIPE, 0);
        assert_eq!(c.broken(&urb), "FE/p");
        // Handles end with their configuration.
    }
    {
        let (c, old, buffer) = ready();
        let new = c.configure().expect("again");
        assert!(old.iter().all(|h| !new.contains(h)));
        assert_eq!(c.broken(&transfer(old[0], IN, buffer, 8)), "FE/p");
    }
    {
        let (c, _, _) = ready();
        let urb = Bytes::new(function::SELECT_INTERFACE, 32 + 24 + 72)
            .pointer(0x18, 77)
            .u16(0x20, 24 + 72);
        assert_eq!(c.broken(&urb), "FE/p");
    }
}

#[test]
fn transfers_come_after_the_configuration_and_in_d0() {
    {
        let c = client();
        let buffer = c.machine.allocate_pool(8, false);
        assert_eq!(c.broken(&transfer(1, IN, buffer, 8)), "FE/s");
        // Back to the unconfigured state.
    }
    {
        let (c, pipes, buffer) = ready();
        let none = Bytes::new(function::SELECT_CONFIGURATION, 88);
        assert!(c.run(&none).expect("kept").0.is_success());
        assert_eq!(c.device.configuration(), 0);
        assert_eq!(c.broken(&transfer(pipes[0], IN, buffer, 8)), "FE/s");
        // Powered down.
    }
    {
        let (c, pipes, buffer) = ready();
        c.machine.send_power_irp(c.node, 2, D3).expect("kept");
        assert_eq!(c.broken(&transfer(pipes[0], IN, buffer, 8)), "FE/s");
        // Up again.
    }
    {
        let (c, _, _) = ready();
        c.machine.send_power_irp(c.node, 2, D3).expect("kept");
        c.machine.send_power_irp(c.node, 2, D0).expect("kept");
        assert!(
            c.run(&vendor(0, 0x0C, 0, 0, 0))
                .expect("kept")
                .0
                .is_success()
        );
        // Stopped.
    }
    {
        let (c, _, _) = ready();
        c.machine.stop(c.node).expect("kept");
        assert_eq!(c.broken(&vendor(0, 0x0C, 0, 0, 0)), "FE/s");
    }
}

#[test]
fn a_urb_is_left_alone_until_it_ends() {
    for seed in 0..8 {
        let fly = || {
            let c = Client::scanner(seed, Speed::High);
            let pipes = c.configure().expect("configured");
            let buffer = c.machine.allocate_pool(512, false);
            let sent = c.send(&transfer(pipes[0], IN, buffer, 512));
            c.machine.run_for(1_000_000).expect("kept");
            assert!(!c.machine.is_done(&sent.pending));
            (c, sent, buffer)
        };
        let end = |c: &Client, sent: &crate::client::Sent| {
            c.device.send(0x81, &[1; 512], false);
            c.finish(sent).expect_err("a broken rule").rule.code
        };
        // Touched.
        let (c, sent, _) = fly();
        c.machine
            .write_memory(sent.address + 0x24, &[9])
            .expect("written");
        assert_eq!(end(&c, &sent), "FE/t");
        // Freed.
        drop(c);
        let (c, sent, _) = fly();
        c.machine.free_pool(sent.address);
        assert_eq!(end(&c, &sent), "FE/x");
        drop(c);
        let (c, sent, buffer) = fly();
        c.machine.free_pool(buffer);
        assert_eq!(end(&c, &sent), "FE/x");
        drop(c);
        // Sent again.
        let (c, sent, _) = fly();
        let again = c.machine.start_urb(c.node, sent.address, PASSIVE);
        let check = c.machine.finish(&again).expect_err("a broken rule");
        assert_eq!(check.rule.code, "FE/b");
    }
}

#[test]
fn data_to_be_sent_is_left_alone() {
    let (c, pipes, buffer) = ready();
    c.device.set_silent(0x02, true);
    let sent = c.send(&transfer(pipes[1], 0, buffer, 512));
    c.machine.run_for(1_000_000).expect("kept");
    c.machine.write_memory(buffer + 511, &[1]).expect("written");
    c.device.set_silent(0x02, false);
    let check = c.finish(&sent).expect_err("a broken rule");
    assert_eq!(check.rule.code, "FE/t");
}

/// A device with a read that waits for data.
fn waiting() -> (Client, Vec<usize>) {
    let (c, pipes, buffer) = ready();
    let _ = c.send(&transfer(pipes[0], IN, buffer, 512));
    c.machine.run_for(1_000_000).expect("kept");
    (c, pipes)
}

#[test]
fn nothing_is_pending_at_a_reset_or_at_the_end() {
    {
        let (c, pipes) = waiting();
        let reset = |pipe| pipe_request(function::SYNC_RESET_PIPE_AND_CLEAR_STALL, pipe);
        // Another pipe does not matter.
        assert!(c.run(&reset(pipes[1])).expect("kept").0.is_success());
        assert_eq!(c.broken(&reset(pipes[0])), "FE/P");
    }
    {
        let (c, _) = waiting();
        let bytes = c.device.descriptors().configuration;
        assert_eq!(c.broken(&c.select(&bytes, 3)), "FE/P");
    }
    for code in [
        layout::IOCTL_INTERNAL_USB_RESET_PORT,
        layout::IOCTL_INTERNAL_USB_CYCLE_PORT,
    ] {
        let (c, _) = waiting();
        let pending = c.machine.start_usb_request(c.node, code, 0, PASSIVE);
        let check = c.machine.finish(&pending).expect_err("a broken rule");
        assert_eq!(check.rule.code, "FE/P");
    }
    {
        let (c, _) = waiting();
        assert_eq!(
            c.machine.remove(c.node).expect_err("kept").rule.code,
            "FE/P"
        );
    }
    {
        let (c, _) = waiting();
        assert_eq!(c.machine.stop(c.node).expect_err("kept").rule.code, "FE/P");
    }
    {
        let (c, _) = waiting();
        let down = c.machine.send_power_irp(c.node, 2, D3);
        assert_eq!(down.expect_err("kept").rule.code, "FE/P");
    }
}

#[test]
fn what_waits_is_called_at_passive_level() {
    for code in [
        function::SYNC_RESET_PIPE_AND_CLEAR_STALL,
        function::SYNC_RESET_PIPE,
        function::SYNC_CLEAR_STALL,
    ] {
        let (c, pipes, _) = ready();
        let urb = pipe_request(code, pipes[0]);
        assert_eq!(c.broken_at(&urb, DISPATCH), "FE/i");
    }
    {
        let c = client();
        let bytes = c.device.descriptors().configuration;
        assert_eq!(c.broken_at(&c.select(&bytes, 3), DISPATCH), "FE/i");
    }
    for code in [
        layout::IOCTL_INTERNAL_USB_RESET_PORT,
        layout::IOCTL_INTERNAL_USB_CYCLE_PORT,
        layout::IOCTL_INTERNAL_USB_GET_PORT_STATUS,
    ] {
        let c = client();
        let pending = c.machine.start_usb_request(c.node, code, 0, DISPATCH);
        let check = c.machine.finish(&pending).expect_err("a broken rule");
        assert_eq!(check.rule.code, "FE/i");
    }
    // Abort and transfers may come at DISPATCH_LEVEL.
    let (c, pipes, _) = ready();
    let sent = c.send_at(&pipe_request(function::ABORT_PIPE, pipes[0]), DISPATCH);
    assert!(c.finish(&sent).expect("kept").0.status.is_success());
}

#[test]
fn a_configuration_descriptor_has_memory_behind_it() {
    {
        let c = client();
        let mut bytes = c.device.descriptors().configuration;
        bytes[2] += 1;
        assert_eq!(c.broken(&c.select(&bytes, 3)), "FE/c");
    }
    {
        let c = client();
        let bytes = c.device.descriptors().configuration;
        assert_eq!(c.broken(&c.select(&bytes[..8], 3)), "FE/c");
    }
    // Pageable memory is good enough here.
    {
        let c = client();
        let bytes = c.device.descriptors().configuration;
        let at = c.machine.allocate_pool(bytes.len(), true);
        c.machine.write_memory(at, &bytes).expect("written");
        let urb = c.select(&bytes, 3).pointer(0x18, at);
        assert!(c.run(&urb).expect("kept").0.is_success());
    }
}

/// What the driver may meet and must get a status for, not a stopped machine.
#[test]
fn hostile_descriptors_are_answered_with_a_status() {
    let mut accepted = 0;
    for seed in 0..256 {
        let scanner = Scanner::default();
        scanner.set_descriptors(parscan_models::DescriptorSet::hostile(seed));
        let c = Client::with(seed, scanner);
        let buffer = c.machine.allocate_pool(1024, false);
        let (_, usbd, back) = c.run(&descriptor(2, 0, buffer, 1024)).expect("kept");
        if usbd != 0 {
            continue;
        }
        let got = usize::try_from(crate::client::transferred(&back)).expect("small");
        if got < 9 {
            continue;
        }
        let mut bytes = c.machine.read_memory(buffer, got).expect("read");
        // A careful driver gives the stack the memory that wTotalLength asks for.
        let total = match bytes[..] {
            [_, _, low, high, ..] => usize::from(u16::from_le_bytes([low, high])),
            _ => 0,
        };
        bytes.resize(total.max(bytes.len()), 0);
        let pipes = usize::from(bytes.get(13).copied().unwrap_or(0)).min(40);
        let (status, ..) = c.run(&c.select(&bytes, pipes)).expect("kept");
        accepted += u32::from(status.is_success());
    }
    assert!(accepted > 20, "{accepted}");
}

/// What a driver can do wrong that has its device sleep.
#[test]
fn idle_requests_have_their_rules() {
    for (what, code) in [
        (1, "FE/C"),
        (2, "FE/C"),
        (3, "FE/C"),
        (4, "FE/I"),
        (5, "FE/I"),
        (6, "FE/i"),
        (11, "FE/w"),
        (12, "FE/w"),
    ] {
        let b = Bench::new(1);
        let check = b.idle(what).expect_err("a broken rule");
        assert_eq!(check.rule.code, code, "{what}: {check}");
    }
    for (what, code) in [(0, "FE/L"), (10, "FE/W")] {
        for stops in [true, false] {
            let b = Bench::new(2);
            b.scanner.set_remote_wakeup();
            b.idle(what).expect("kept");
            let end = if stops {
                b.machine.stop(b.node)
            } else {
                b.machine.remove(b.node)
            };
            let check = end.expect_err("a broken rule");
            assert_eq!(check.rule.code, code, "{what}: {check}");
        }
    }
    // From D3 nothing wakes up.
    let b = Bench::new(2);
    b.scanner.set_remote_wakeup();
    b.idle(10).expect("kept");
    let down = b.machine.send_power_irp(b.node, 2, D3);
    assert_eq!(down.expect_err("a broken rule").rule.code, "FE/W");
}

/// Every rule about URBs is in one of the tests above.
#[test]
fn every_rule_about_urbs_is_tested() {
    let tested = include_str!("rules.rs");
    for rule in ntsim::rules::CATALOGUE {
        if rule.id.starts_with('B') {
            assert!(
                tested.contains(&format!("\"{}\"", rule.code)),
                "{}",
                rule.code
            );
        }
    }
}
