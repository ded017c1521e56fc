//! The kernel client itself: it opens, sends, waits, cancels and closes as the kernel wants it, and
//! leaves nothing.

use ntsim::{CANARY, Config, NtStatus};
use parscan_models::Condition;
use parscan_tests::{
    Pc, Setup,
    client::{Client, DEVICE, DISPATCH, PORT, Request, on_device},
    ntddpar::{IOCTL_IEEE1284_GET_MODE, IOCTL_PAR_SET_INFORMATION, PARALLEL_INIT, modes},
    parallel_h::UNDOCUMENTED,
};

fn mode_request() -> Request<'static> {
    Request::plain(IOCTL_IEEE1284_GET_MODE, &[], 8)
}

#[test]
fn it_opens_and_closes_what_is_there() {
    for seed in 0..20 {
        let pc = Setup::with_config(Config {
            seed,
            preempt_per_mille: 300,
            ..Config::default()
        })
        .started();
        let client = Client::load(&pc);
        let absent = client.try_open(r"\Device\Parallel7").err();
        assert_eq!(absent, Some(NtStatus::OBJECT_NAME_NOT_FOUND));
        let device = client.open(DEVICE);
        let second = client.try_open(DEVICE).err();
        assert_eq!(second, Some(NtStatus::ACCESS_DENIED), "one open at a time");
        assert_eq!(pc.try_open(r"\\.\LPT1"), Err(NtStatus::ACCESS_DENIED));
        device.close();
        let ports = [client.open(PORT), client.open(PORT), client.open(PORT)];
        for port in ports {
            port.close();
        }
        client.unload();
        pc.finish();
    }
}

#[test]
fn both_kinds_of_request_give_the_same() {
    on_device(Pc::new(), |_pc, _, device| {
        let default = modes::mask(modes::NIBBLE, modes::CENTRONICS);
        for file in [false, true] {
            let request = Request {
                file,
                ..mode_request()
            };
            for result in [device.send(&request), device.irp(&request)] {
                assert_eq!(result.status, NtStatus::SUCCESS);
                assert_eq!(result.information, 4);
                assert_eq!(result.output[..4], default);
                assert_eq!(result.output[4..], [CANARY; 4], "beyond Information");
            }
        }
        let started = device.start(&Request {
            irql: DISPATCH,
            ..mode_request()
        });
        assert_eq!(started.dispatched, NtStatus::SUCCESS);
        assert_eq!(started.finish().output[..4], default);
    });
}

#[test]
fn it_waits_and_cancels() {
    let pc = Pc::new();
    pc.printer.set_condition(Condition::Busy);
    on_device(pc, |_pc, _, device| {
        let request = Request::plain(IOCTL_PAR_SET_INFORMATION, &[PARALLEL_INIT], 0);
        let waiting = device.start(&request);
        assert_eq!(waiting.dispatched, NtStatus::PENDING);
        assert!(waiting.poll().is_none());
        let queued = device.start(&request);
        assert!(queued.cancel());
        assert_eq!(queued.finish().status, NtStatus::CANCELLED);
        assert_eq!(waiting.finish().status, NtStatus::SUCCESS);
    });
}

#[test]
fn undocumented_internal_requests_are_refused() {
    let pc = Pc::new();
    let client = Client::load(&pc);
    for name in [DEVICE, PORT] {
        let slot = client.open(name);
        for (code, what) in UNDOCUMENTED {
            let result = slot.irp(&Request::internal(code, &[0; 32], 64));
            assert_eq!(result.status, NtStatus::INVALID_PARAMETER, "{what}");
            assert_eq!(result.information, 0, "{what}");
        }
        slot.close();
    }
    client.unload();
    pc.finish();
}
