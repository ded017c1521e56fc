//! What transfers do: data, time, NAK, stall, short packets, cancellation, removal.

use ntsim::usb::layout::{self, function, usbd};
use ntsim::{NodeState, NtStatus, When};
use parscan_models::{Scanner, Speed};

use crate::client::{
    Bytes, Client, IN, PASSIVE, SHORT_OK, pipe_request, transfer, transferred, vendor,
};

const MS: u64 = 1_000_000;

fn ready(seed: u64, cable: Speed, length: usize) -> (Client, Vec<usize>, usize) {
    let c = Client::scanner(seed, cable);
    let pipes = c.configure().expect("configured");
    let buffer = c.machine.allocate_pool(length, false);
    (c, pipes, buffer)
}

#[test]
fn a_selected_configuration_tells_its_pipes() {
    let c = Client::scanner(3, Speed::High);
    let bytes = c.device.descriptors().configuration;
    let (status, _, back) = c.run(&c.select(&bytes, 3)).expect("kept");
    assert_eq!(status, NtStatus::SUCCESS);
    assert_eq!(c.device.configuration(), 1);
    // Class, SubClass, Protocol; NumberOfPipes.
    assert_eq!(back[0x2C..0x2F], [6, 1, 1]);
    assert_eq!(back[0x38..0x3C], [3, 0, 0, 0]);
    // MaximumPacketSize, EndpointAddress, Interval, PipeType.
    assert_eq!(back[0x40..0x48], [0, 2, 0x81, 0, 2, 0, 0, 0]);
    assert_eq!(back[0x58..0x60], [0, 2, 0x02, 0, 2, 0, 0, 0]);
    assert_eq!(back[0x70..0x78], [8, 0, 0x83, 7, 3, 0, 0, 0]);
    assert_ne!(back[0x20..0x28], [0; 8], "ConfigurationHandle");
    assert_eq!(c.last().setups, [[0, 9, 1, 0, 0, 0, 0, 0]]);
}

#[test]
fn registers_come_and_go_with_every_seed() {
    let mut at_once = 0;
    for seed in 0..40 {
        let c = Client::scanner(seed, Speed::High);
        let buffer = c.pool(&[1, 2, 3, 4, 5]);
        let urb = vendor(0, 4, 0x1234, buffer, 5).u16(0x84, 0x5678);
        let (status, _, back) = c.run(&urb).expect("kept");
        assert_eq!((status, transferred(&back)), (NtStatus::SUCCESS, 5));
        assert_eq!(c.device.registers(0x1234, 5), [1, 2, 3, 4, 5]);
        let last = c.last();
        assert_eq!(last.setups, [[0x40, 4, 0x34, 0x12, 0x78, 0x56, 5, 0]]);
        assert_eq!(
            (last.request(), last.value(), last.index()),
            (4, 0x1234, 0x5678)
        );
        assert_eq!(last.data, [1, 2, 3, 4, 5]);
        at_once += u32::from(last.synchronous);
        let (_, _, back) = c.run(&vendor(IN, 4, 0x1235, buffer, 3)).expect("kept");
        assert_eq!(transferred(&back), 3);
        assert_eq!(c.machine.read_memory(buffer, 3).expect("read"), [2, 3, 4]);
        assert_eq!(c.machine.live_irps(), 0);
    }
    assert!((1..40).contains(&at_once), "{at_once}");
}

#[test]
fn an_image_takes_the_time_of_its_bus() {
    for (speed, min, max) in [(Speed::Full, 50 * MS, 60 * MS), (Speed::High, MS, 2 * MS)] {
        let (c, pipes, buffer) = ready(2, speed, 0x1_0000);
        let command = c.pool(&Scanner::scan_command(0x1_0000, 42));
        assert!(
            c.run(&transfer(pipes[1], 0, command, 12))
                .expect("kept")
                .0
                .is_success()
        );
        let sent = c.send(&transfer(pipes[0], IN | SHORT_OK, buffer, 0x1_0000));
        let (result, back) = c.finish(&sent).expect("kept");
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, 0));
        assert_eq!(transferred(&back), 0x1_0000);
        assert!((min..max).contains(&result.took), "{}", result.took);
        let data = c.machine.read_memory(buffer, 0x1_0000).expect("read");
        assert_eq!(data, Scanner::image(42, 0x1_0000));
        assert_eq!(c.device.written(0x02), Scanner::scan_command(0x1_0000, 42));
    }
}

#[test]
fn nak_lasts_until_data_comes() {
    let (c, pipes, buffer) = ready(1, Speed::High, 8);
    let sent = c.send(&transfer(pipes[2], IN | SHORT_OK, buffer, 8));
    c.machine.run_for(3600 * 1000 * MS).expect("kept");
    assert!(!c.machine.is_done(&sent.pending));
    c.device.press(&[1, 0x20]);
    let (result, back) = c.finish(&sent).expect("kept");
    assert_eq!((result.status, transferred(&back)), (NtStatus::SUCCESS, 2));
    assert_eq!(c.machine.read_memory(buffer, 2).expect("read"), [1, 0x20]);
    // A control transfer that the device does not answer.
    c.device.set_silent(0, true);
    let sent = c.send(&vendor(0, 0x0C, 0, 0, 0));
    c.machine.run_for(1000 * MS).expect("kept");
    assert!(!c.machine.is_done(&sent.pending));
    let (held, until) = (0x81, c.machine.times().now + 5 * MS);
    c.device.hold(held, until);
    c.device.send(held, &[1; 3], false);
    let read = c.send(&transfer(pipes[0], IN | SHORT_OK, buffer, 8));
    c.finish(&read).expect("kept");
    assert!(c.machine.times().now >= until);
    c.machine.cancel(&sent.pending).expect("kept");
    assert_eq!(c.finish(&sent).expect("kept").0.status, NtStatus::CANCELLED);
}

#[test]
fn short_packets_end_a_read() {
    // Flags, speed, status, USBD status, bytes.
    for (flags, speed, status, expected) in [
        (IN | SHORT_OK, Speed::Full, NtStatus::SUCCESS, usbd::SUCCESS),
        (IN | SHORT_OK, Speed::High, NtStatus::SUCCESS, usbd::SUCCESS),
        (IN, Speed::High, NtStatus::SUCCESS, usbd::SUCCESS),
        (
            IN,
            Speed::Full,
            NtStatus::UNSUCCESSFUL,
            usbd::ERROR_SHORT_TRANSFER,
        ),
    ] {
        let (c, pipes, buffer) = ready(5, speed, 2048);
        c.device.send(0x81, &[7; 1025], false);
        let (got, code, back) = c
            .run(&transfer(pipes[0], flags, buffer, 2048))
            .expect("kept");
        assert_eq!((got, code, transferred(&back)), (status, expected, 1025));
    }
    // A zero-length packet.
    let (c, pipes, buffer) = ready(5, Speed::High, 2048);
    c.device.send(0x81, &[7; 1024], true);
    let (_, _, back) = c
        .run(&transfer(pipes[0], IN | SHORT_OK, buffer, 2048))
        .expect("kept");
    assert_eq!(transferred(&back), 1024);
    c.device.send(0x81, &[], false);
    let (_, _, back) = c
        .run(&transfer(pipes[0], IN | SHORT_OK, buffer, 2048))
        .expect("kept");
    assert_eq!(transferred(&back), 0);
}

#[test]
fn a_stall_halts_the_pipe_until_it_is_reset() {
    for seed in 0..10 {
        let (c, pipes, buffer) = ready(seed, Speed::High, 2048);
        c.device.send(0x81, &[3; 2048], false);
        c.device.stall_at(0x81, 2);
        let read = transfer(pipes[0], IN, buffer, 2048);
        let (status, code, back) = c.run(&read).expect("kept");
        assert_eq!((status, code), (NtStatus::UNSUCCESSFUL, usbd::STALL_PID));
        assert_eq!(transferred(&back), 512);
        let (status, code, _) = c.run(&read).expect("kept");
        assert_eq!(
            (status, code),
            (NtStatus::UNSUCCESSFUL, usbd::ENDPOINT_HALTED)
        );
        // The host's side alone does not help, nor the device's.
        let only = |code| pipe_request(code, pipes[0]);
        c.run(&only(function::SYNC_RESET_PIPE)).expect("kept");
        assert_eq!(c.run(&read).expect("kept").1, usbd::STALL_PID);
        c.run(&only(function::SYNC_CLEAR_STALL)).expect("kept");
        assert_eq!(c.last().setups, [[2, 1, 0, 0, 0x81, 0, 0, 0]]);
        assert_eq!(c.run(&read).expect("kept").1, usbd::ENDPOINT_HALTED);
        let both = only(function::SYNC_RESET_PIPE_AND_CLEAR_STALL);
        assert!(c.run(&both).expect("kept").0.is_success());
        assert_eq!(c.last().setups, [[2, 1, 0, 0, 0x81, 0, 0, 0]]);
        let read = transfer(pipes[0], IN, buffer, 1536);
        let (status, _, back) = c.run(&read).expect("kept");
        assert_eq!((status, transferred(&back)), (NtStatus::SUCCESS, 1536));
        // The control pipe never halts.
        c.device.stall_at(0, 1);
        let request = vendor(0, 0x0C, 0, 0, 0);
        assert_eq!(c.run(&request).expect("kept").1, usbd::STALL_PID);
        assert_eq!(c.run(&request).expect("kept").1, usbd::SUCCESS);
    }
}

#[test]
fn too_much_data_is_an_error() {
    {
        let (c, pipes, buffer) = ready(1, Speed::High, 2048);
        c.device.send(0x81, &[3; 512], false);
        let (_, code, back) = c.run(&transfer(pipes[0], IN, buffer, 100)).expect("kept");
        assert_eq!((code, transferred(&back)), (usbd::DATA_OVERRUN, 100));
    }
    {
        let (c, pipes, buffer) = ready(1, Speed::High, 2048);
        c.device.send(0x81, &[3; 512], false);
        c.device.babble_at(0x81, 1, 1);
        let (status, code, _) = c.run(&transfer(pipes[0], IN, buffer, 2048)).expect("kept");
        assert_eq!(
            (status, code),
            (NtStatus::UNSUCCESSFUL, usbd::BABBLE_DETECTED)
        );
        let (status, code, _) = c.run(&transfer(pipes[0], IN, buffer, 2048)).expect("kept");
        assert_eq!(
            (status, code),
            (NtStatus::UNSUCCESSFUL, usbd::ENDPOINT_HALTED)
        );
        // What no host stack carries in one URB.
    }
    {
        let (c, _, buffer) = ready(1, Speed::Full, 8192);
        let (status, code, _) = c.run(&vendor(IN, 4, 0, buffer, 4097)).expect("kept");
        assert_eq!(
            (status, code),
            (NtStatus::INVALID_PARAMETER, usbd::INVALID_PARAMETER)
        );
    }
}

#[test]
fn a_cancelled_urb_ends_cancelled() {
    for seed in 0..20 {
        let (c, pipes, buffer) = ready(seed, Speed::High, 2048);
        c.device.send(0x81, &[1; 512], false);
        let sent = c.send(&transfer(pipes[0], IN, buffer, 2048));
        c.machine.run_for(MS).expect("kept");
        assert!(c.machine.cancel(&sent.pending).expect("kept"));
        let (result, back) = c.finish(&sent).expect("kept");
        assert_eq!(result.status, NtStatus::CANCELLED);
        assert_eq!(back[4..8], usbd::CANCELED.to_le_bytes());
        assert_eq!(transferred(&back), 512);
        assert!(!c.machine.cancel(&sent.pending).expect("kept"));
        // The pipe goes on.
        c.device.send(0x81, &[2; 10], false);
        let (status, _, back) = c.run(&transfer(pipes[0], IN, buffer, 512)).expect("kept");
        assert_eq!((status, transferred(&back)), (NtStatus::SUCCESS, 10));
    }
}

#[test]
fn abort_ends_all_that_is_on_the_pipe() {
    let mut early = 0;
    for seed in 0..40 {
        let (c, pipes, _) = ready(seed, Speed::High, 1);
        let reads: Vec<_> = (0..4)
            .map(|_| {
                let buffer = c.machine.allocate_pool(512, false);
                c.send(&transfer(pipes[0], IN, buffer, 512))
            })
            .collect();
        let other = c.machine.allocate_pool(8, false);
        let event = c.send(&transfer(pipes[2], IN, other, 8));
        c.machine.run_for(10 * MS).expect("kept");
        let abort = pipe_request(function::ABORT_PIPE, pipes[0]);
        assert!(c.run(&abort).expect("kept").0.is_success());
        early += u32::from(reads.iter().any(|r| !c.machine.is_done(&r.pending)));
        for read in &reads {
            let (result, back) = c.finish(read).expect("kept");
            assert_eq!(result.status, NtStatus::CANCELLED);
            assert_eq!(back[4..8], usbd::CANCELED.to_le_bytes());
        }
        assert!(!c.machine.is_done(&event.pending));
        c.device.press(&[1]);
        assert!(c.finish(&event).expect("kept").0.status.is_success());
    }
    // "Do not assume that completion of the abort request implies that all other outstanding
    // requests have completed."
    assert!((1..40).contains(&early), "{early}");
}

#[test]
fn transfers_on_a_pipe_keep_their_order() {
    for seed in 0..20 {
        let (c, pipes, _) = ready(seed, Speed::High, 1);
        let reads: Vec<_> = (0..3)
            .map(|_| {
                let buffer = c.machine.allocate_pool(512, false);
                let sent = c.send(&transfer(pipes[0], IN, buffer, 512));
                c.machine.run_for(1000).expect("kept");
                (sent, buffer)
            })
            .collect();
        let image = Scanner::image(1, 1536);
        c.device.send(0x81, &image, false);
        for ((sent, buffer), part) in reads.iter().zip(image.chunks(512)) {
            assert!(c.finish(sent).expect("kept").0.status.is_success());
            assert_eq!(c.machine.read_memory(*buffer, 512).expect("read"), part);
        }
    }
}

#[test]
fn a_device_that_goes_ends_its_urbs() {
    for seed in 0..10 {
        let (c, pipes, buffer) = ready(seed, Speed::High, 512);
        let pending = c.send(&transfer(pipes[0], IN, buffer, 512));
        c.machine.run_for(MS).expect("kept");
        if seed % 2 == 0 {
            c.machine.pull(c.node);
        } else {
            // The model's cable comes out: the host notices, the PnP manager a little later.
            c.device.unplug();
        }
        let (result, back) = c.finish(&pending).expect("kept");
        assert_eq!(result.status, NtStatus::NO_SUCH_DEVICE);
        assert_eq!(back[4..8], usbd::DEVICE_GONE.to_le_bytes());
        if seed % 2 == 0 {
            c.machine.unplug(c.node).expect("kept");
        }
        c.machine.run_for(20 * MS).expect("kept");
        assert_eq!(c.machine.node_state(c.node), NodeState::Removed);
        assert_eq!(c.machine.live_irps(), 0);
    }
    let (c, pipes, buffer) = ready(1, Speed::High, 512);
    c.machine.pull(c.node);
    let (status, code, _) = c.run(&transfer(pipes[0], IN, buffer, 512)).expect("kept");
    assert_eq!(
        (status, code),
        (NtStatus::NO_SUCH_DEVICE, usbd::DEVICE_GONE)
    );
    assert_eq!(c.machine.node_state(c.node), NodeState::Started);
}

#[test]
fn a_cable_that_comes_out_in_the_middle_of_an_image() {
    let (c, pipes, buffer) = ready(7, Speed::High, 0x1_0000);
    c.device.send(0x81, &Scanner::image(1, 0x1_0000), false);
    c.device.unplug_at(0x81, 30);
    let (status, code, back) = c
        .run(&transfer(pipes[0], IN, buffer, 0x1_0000))
        .expect("kept");
    assert_eq!(
        (status, code),
        (NtStatus::NO_SUCH_DEVICE, usbd::DEVICE_GONE)
    );
    assert_eq!(transferred(&back), 29 * 512);
}

#[test]
fn hooks_come_before_the_bus_does_anything() {
    for seed in 0..20 {
        let (c, pipes, buffer) = ready(seed, Speed::High, 512);
        c.device.send(0x81, &[1; 512], false);
        let before = c.machine.urb_count();
        let device = c.device.clone();
        c.machine
            .at(When::Urb(before + 2), move |_| device.stall_at(0x81, 1));
        let read = transfer(pipes[0], IN, buffer, 512);
        assert_eq!(c.run(&read).expect("kept").1, usbd::SUCCESS);
        c.device.send(0x81, &[1; 512], false);
        assert_eq!(c.run(&read).expect("kept").1, usbd::STALL_PID);
        let node = c.node;
        c.machine.at(When::Urb(before + 3), move |m| {
            m.pull(node);
        });
        let (status, ..) = c.run(&vendor(0, 0x0C, 0, 0, 0)).expect("kept");
        assert_eq!(status, NtStatus::NO_SUCH_DEVICE);
    }
}

#[test]
fn the_port_answers() {
    {
        let (c, _, _) = ready(1, Speed::High, 1);
        let port = |code, at| {
            let pending = c.machine.start_usb_request(c.node, code, at, PASSIVE);
            c.machine.finish(&pending).expect("kept").status
        };
        let at = c.machine.allocate_pool(4, false);
        let status = layout::IOCTL_INTERNAL_USB_GET_PORT_STATUS;
        assert_eq!(port(status, at), NtStatus::SUCCESS);
        assert_eq!(c.machine.read_memory(at, 4).expect("read"), [3, 0, 0, 0]);
        c.device.send(0x81, &[1; 9], false);
        assert_eq!(
            port(layout::IOCTL_INTERNAL_USB_RESET_PORT, 0),
            NtStatus::SUCCESS
        );
        assert_eq!((c.device.configuration(), c.device.unsent(0x81)), (1, 0));
        assert_eq!(
            port(layout::IOCTL_INTERNAL_USB_CYCLE_PORT, 0),
            NtStatus::SUCCESS
        );
        c.machine.run_for(MS).expect("kept");
        assert_eq!(c.machine.node_state(c.node), NodeState::Removed);
        let fresh = c.machine.replugged(c.node).expect("a new node");
        assert_eq!(c.machine.node_state(fresh), NodeState::Found);
    }
    {
        let (gone, _, _) = ready(1, Speed::High, 1);
        gone.device.unplug();
        let at = gone.machine.allocate_pool(4, false);
        gone.machine.write_memory(at, &[9; 4]).expect("written");
        let pending = gone.machine.start_usb_request(
            gone.node,
            layout::IOCTL_INTERNAL_USB_GET_PORT_STATUS,
            at,
            PASSIVE,
        );
        gone.machine.finish(&pending).expect("kept");
        assert_eq!(gone.machine.read_memory(at, 4).expect("read"), [0; 4]);
    }
}

#[test]
fn a_control_transfer_with_a_time_limit_ends() {
    let c = Client::scanner(1, Speed::High);
    c.device.set_silent(0, true);
    let urb = Bytes::new(function::CONTROL_TRANSFER_EX, 136)
        .u32(0x20, 8)
        .u32(0x38, 250)
        .put(0x80, &[0x40, 0x0C, 0, 0, 0, 0, 0, 0]);
    let sent = c.send(&urb);
    let (result, back) = c.finish(&sent).expect("kept");
    assert_eq!(result.status, NtStatus::IO_TIMEOUT);
    assert_eq!(back[4..8], usbd::TIMEOUT.to_le_bytes());
    assert!(
        (250 * MS..252 * MS).contains(&result.took),
        "{}",
        result.took
    );
}

#[test]
fn the_trace_tells_urbs() {
    let c = Client::scanner(1, Speed::High);
    let buffer = c.pool(&[0xAB, 0xCD]);
    c.run(&vendor(0, 4, 0x1234, buffer, 2)).expect("kept");
    let lines: Vec<String> = c.machine.trace().iter().map(ToString::to_string).collect();
    let find = |text: &str| lines.iter().any(|l| l.contains(text));
    assert!(
        find("urb1    -> VENDOR_DEVICE length 0x2 flags 0x0"),
        "{lines:#?}"
    );
    assert!(
        find("SETUP 40 04 34 12 00 00 02 00 2 bytes: ab cd"),
        "{lines:#?}"
    );
}

#[test]
fn the_frame_number_counts_milliseconds() {
    let c = Client::scanner(1, Speed::High);
    c.machine.run_for(77 * MS).expect("kept");
    let (status, _, back) = c
        .run(&Bytes::new(function::GET_CURRENT_FRAME_NUMBER, 32))
        .expect("kept");
    assert_eq!(status, NtStatus::SUCCESS);
    assert!((77..80).contains(&u32::from(back[0x18])));
}

#[test]
fn what_is_not_simulated_says_so() {
    let c = Client::scanner(1, Speed::High);
    let (status, code, _) = c
        .run(&Bytes::new(function::GET_MS_FEATURE_DESCRIPTOR, 136))
        .expect("kept");
    assert_eq!(
        (status, code),
        (NtStatus::NOT_SUPPORTED, usbd::NOT_SUPPORTED)
    );
}
