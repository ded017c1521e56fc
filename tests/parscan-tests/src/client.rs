//! `parscan_class_driver.sys`, a kernel client of the driver under test, as a test moves it.
//!
//! [`Client::load`] puts it into a [`Pc`] beside parscan; [`Client::open`] lets it open one of
//! parscan's devices, and what a [`Slot`] does then is done by that driver, in kernel mode, with
//! real IRPs and calls. Layouts and codes are in [`parallel_h`](crate::parallel_h).
#![allow(
    clippy::must_use_candidate,
    reason = "requests and calls are made for what they do, too"
)]

use std::{cell::Cell, path::PathBuf};

use ntsim::{Caller, DriverId, Handle, Machine, NtStatus, Pending};

use crate::{Pc, check, image, observed::Observed};

mod callback;
mod slot;

#[path = "../../parscan-class-driver/src/puppet.rs"]
pub mod puppet;

pub use callback::{Answer, Callback};
use puppet::{CONTENDERS, Note, RESULTS, Step, WORDS};
pub use slot::{Asynchronous, PendingCall, Request, Slot};

/// The raw device of the first port.
pub const DEVICE: &str = r"\Device\Parallel0";
/// The device at the end of its chain.
pub const END_OF_CHAIN: &str = r"\Device\Parallel0.4";
/// The first port.
pub const PORT: &str = r"\Device\ParallelPort0";

/// `PASSIVE_LEVEL`
pub const PASSIVE: u8 = 0;
/// `APC_LEVEL`
pub const APC: u8 = 1;
/// `DISPATCH_LEVEL`
pub const DISPATCH: u8 = 2;

/// Where its image is: `CLASS_DRIVER_SYS`, or where cargo puts it.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn client_image() -> PathBuf {
    image(
        "CLASS_DRIVER_SYS",
        "x86_64-pc-windows-msvc/release/parscan_class_driver.dll",
        "build it with `cargo build --release --target x86_64-pc-windows-msvc -p \
         parscan-class-driver`",
    )
}

/// The driver `parscan_class_driver.sys` on a machine.
pub struct Client {
    machine: Machine,
    driver: DriverId,
    handle: Handle,
    /// Slots in use, a bit each.
    slots: Cell<u16>,
}

/// A client that has the port object open, and what a test does with it; then the end of all three.
///
/// # Panics
/// If something is left.
#[track_caller]
pub fn on_port<C: Observed, P: Observed>(
    pc: Pc<C, P>,
    test: impl FnOnce(&Pc<C, P>, &Client, &Slot<'_>),
) {
    on(pc, PORT, test);
}

/// As [`on_port`], of the device.
///
/// # Panics
/// If something is left.
#[track_caller]
pub fn on_device<C: Observed, P: Observed>(
    pc: Pc<C, P>,
    test: impl FnOnce(&Pc<C, P>, &Client, &Slot<'_>),
) {
    on(pc, DEVICE, test);
}

/// As [`on_device`], for a client that is connected and has locked the port; it unlocks it in the
/// end.
///
/// # Panics
/// If something is left.
#[track_caller]
pub fn on_locked_device<C: Observed, P: Observed>(
    pc: Pc<C, P>,
    test: impl FnOnce(&Pc<C, P>, &Client, &Slot<'_>),
) {
    on(pc, DEVICE, |pc, client, device| {
        device.connect();
        device.lock();
        test(pc, client, device);
        device.unlock();
    });
}

#[track_caller]
fn on<C: Observed, P: Observed>(
    pc: Pc<C, P>,
    name: &str,
    test: impl FnOnce(&Pc<C, P>, &Client, &Slot<'_>),
) {
    with_client(pc, |pc, client| {
        let slot = client.open(name);
        test(pc, client, &slot);
        slot.close();
    });
}

/// A client beside parscan, and what a test does with it; then the end of both.
///
/// # Panics
/// If something is left.
#[track_caller]
pub fn with_client<C: Observed, P: Observed>(pc: Pc<C, P>, test: impl FnOnce(&Pc<C, P>, &Client)) {
    let client = Client::load(&pc);
    test(&pc, &client);
    client.unload();
    pc.finish();
}

/// The answer to a command.
struct Reply {
    words: [u64; RESULTS],
    data: Vec<u8>,
}

impl Reply {
    fn status(&self, index: usize) -> NtStatus {
        status(self.words[index])
    }
}

/// An NTSTATUS is the low half of a word.
fn status(word: u64) -> NtStatus {
    #[allow(clippy::cast_possible_truncation, reason = "the low half")]
    NtStatus(word as u32)
}

fn size(word: u64) -> usize {
    usize::try_from(word).expect("a length")
}

impl Client {
    /// Loads the client.
    ///
    /// # Panics
    /// If it does not load.
    #[must_use]
    pub fn load<C, P>(pc: &Pc<C, P>) -> Self {
        let machine = pc.machine.clone();
        let driver = machine
            .load_driver(client_image(), "ParscanClient", &[])
            .unwrap_or_else(|error| panic!("{error}"));
        let handle = check(machine.open(r"\\.\ParscanClient", Caller::User64))
            .unwrap_or_else(|status| panic!("the client: {status}"));
        Self {
            machine,
            driver,
            handle,
            slots: Cell::new(0),
        }
    }

    /// Unloads the client, which sees that it left nothing.
    ///
    /// # Panics
    /// If it did, or has a device open.
    #[track_caller]
    pub fn unload(self) {
        self.leave();
    }

    /// As [`Client::unload`], for a client that others still refer to. It is not to be used again.
    ///
    /// # Panics
    /// As [`Client::unload`].
    #[track_caller]
    pub fn leave(&self) {
        assert_eq!(self.slots.get(), 0, "devices that the client has open");
        check(self.machine.close(self.handle));
        check(self.machine.unload(self.driver));
    }

    #[track_caller]
    fn command(&self, code: u32, words: &[u64], data: &[u8], output: usize) -> Reply {
        let pending = self.start(code, words, data, output);
        self.finish(&pending)
    }

    fn start(&self, code: u32, words: &[u64], data: &[u8], output: usize) -> Pending {
        let mut input = vec![0; WORDS * 8];
        for (place, word) in input.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        input.extend_from_slice(data);
        self.machine
            .start_io_control(self.handle, code, &input, RESULTS * 8 + output)
    }

    #[track_caller]
    fn finish(&self, pending: &Pending) -> Reply {
        let result = check(self.machine.finish(pending));
        assert_eq!(result.status, NtStatus::SUCCESS, "the client's command");
        let (head, data) = result.output.split_at(RESULTS * 8);
        let mut words = [0; RESULTS];
        for (word, bytes) in words.iter_mut().zip(head.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        }
        Reply {
            words,
            data: data.to_vec(),
        }
    }

    /// Opens a device with `IoGetDeviceObjectPointer`.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    #[track_caller]
    pub fn open(&self, name: &str) -> Slot<'_> {
        self.try_open(name)
            .unwrap_or_else(|status| panic!("{name}: {status}"))
    }

    /// [`Client::open`] of the device, which the client connects to and locks.
    ///
    /// # Panics
    /// If the driver refuses.
    #[must_use]
    #[track_caller]
    pub fn open_locked(&self) -> Slot<'_> {
        let device = self.open(DEVICE);
        device.connect();
        device.lock();
        device
    }

    /// As [`Client::open`].
    ///
    /// # Errors
    /// Its status.
    ///
    /// # Panics
    /// If 15 devices are open (the 16th place is [`Client::start_contention`]'s).
    #[track_caller]
    pub fn try_open(&self, name: &str) -> Result<Slot<'_>, NtStatus> {
        self.try_get(name, false)
    }

    /// Lets the client have a device without an open of it, as a driver does that is attached above.
    ///
    /// # Panics
    /// If there is no such device.
    #[track_caller]
    pub fn attach(&self, name: &str) -> Slot<'_> {
        self.try_get(name, true)
            .unwrap_or_else(|status| panic!("{name}: {status}"))
    }

    #[track_caller]
    fn try_get(&self, name: &str, attach: bool) -> Result<Slot<'_>, NtStatus> {
        let number = self.slots.get().trailing_ones();
        assert!(number < 15, "too many open devices");
        let reply = self.command(
            puppet::OPEN,
            &[number.into(), attach.into()],
            &wide(name),
            0,
        );
        match reply.status(0) {
            NtStatus::SUCCESS => {
                self.slots.set(self.slots.get() | 1 << number);
                Ok(Slot {
                    client: self,
                    number,
                })
            }
            refused => Err(refused),
        }
    }

    /// What the interrupt and deferred routines noted, oldest first, since it was last asked: kind,
    /// client, result.
    ///
    /// # Panics
    /// If they noted more than the client keeps.
    #[must_use]
    #[track_caller]
    pub fn notes(&self) -> Vec<(Note, usize, u8)> {
        const KEPT: usize = 1024;
        let reply = self.command(puppet::NOTES, &[], &[], KEPT * 8);
        let count = size(reply.words[0]);
        assert!(count <= KEPT, "{count} notes");
        reply.data[..count * 8]
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
            .map(|word| {
                let [result, client, ..] = word.to_le_bytes();
                let kind = match word >> 16 {
                    0 => Note::Isr,
                    1 => Note::Tried,
                    2 => Note::Deferred,
                    other => panic!("a note of kind {other}"),
                };
                (kind, usize::from(client), result)
            })
            .collect()
    }

    /// A class driver's whole day with a device: see [`Transfer`].
    #[must_use]
    #[track_caller]
    pub fn transfer(
        &self,
        name: &str,
        [forward, reverse]: [u16; 2],
        data: &[u8],
        read: usize,
    ) -> Transfer {
        let number = u64::from(self.slots.get().trailing_ones());
        let name = wide(name);
        let words = [
            number,
            forward.into(),
            reverse.into(),
            name.len() as u64,
            read as u64,
        ];
        let head = (Step::COUNT + 2) * 4;
        let sent = [&name[..], data].concat();
        let reply = self.command(puppet::TRANSFER, &words, &sent, head + read);
        let words: Vec<u32> = longs(&reply.data[..head]);
        Transfer {
            statuses: words[..Step::COUNT]
                .iter()
                .map(|it| NtStatus(*it))
                .collect(),
            written: words[Step::COUNT],
            read: words[Step::COUNT + 1],
            data: reply.data[head..].to_vec(),
        }
    }

    /// Starts [`Contention`]: `clients` clients of the port, until it has been granted `grants`
    /// times.
    ///
    /// # Panics
    /// If there are too many clients.
    #[must_use]
    pub fn start_contention(
        &self,
        name: &str,
        clients: usize,
        grants: u64,
        seed: u64,
    ) -> PendingContention<'_> {
        assert!(clients <= CONTENDERS, "{clients} clients");
        let words = [clients as u64, grants, seed];
        let pending = self.start(puppet::CONTEND, &words, &wide(name), clients * 4);
        PendingContention {
            client: self,
            pending,
        }
    }
}

/// Contention under way.
pub struct PendingContention<'a> {
    client: &'a Client,
    pending: Pending,
}

impl PendingContention<'_> {
    /// Grants so far.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.client.command(puppet::PROGRESS, &[], &[], 0).words[0]
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.client.machine.is_done(&self.pending)
    }

    /// What came of it.
    #[must_use]
    #[track_caller]
    pub fn finish(self) -> Contention {
        let reply = self.client.finish(&self.pending);
        let [
            grants,
            two_owners,
            out_of_order,
            longest_wait,
            failed,
            status,
            intrusions,
            at_dispatch,
        ] = reply.words;
        Contention {
            grants,
            two_owners,
            out_of_order,
            longest_wait,
            failed,
            status: self::status(status),
            intrusions,
            at_dispatch,
            grants_of: longs(&reply.data),
        }
    }
}

/// What many clients of one port saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contention {
    /// Grants.
    pub grants: u64,
    /// Grants while another client had the port.
    pub two_owners: u64,
    /// Grants before a request that had been queued earlier.
    pub out_of_order: u64,
    /// The most grants to others that a queued request saw before its own.
    pub longest_wait: u64,
    /// Requests that failed,
    pub failed: u64,
    /// and the status of the last of them, or of opening the port.
    pub status: NtStatus,
    /// Times that another thread wrote the data register of a port that a client had.
    pub intrusions: u64,
    /// Grants at `DISPATCH_LEVEL`.
    pub at_dispatch: u64,
    /// Grants of each client.
    pub grants_of: Vec<u32>,
}

/// A class driver's whole day: open, `IOCTL_INTERNAL_PARCLASS_CONNECT`, `IOCTL_INTERNAL_LOCK_PORT`, `NegotiateIeeeMode`,
/// `ParallelWrite`, `IeeeFwdToRevMode`, `ParallelRead`, `TerminateIeeeMode`, `IOCTL_INTERNAL_UNLOCK_PORT`,
/// `IOCTL_INTERNAL_PARCLASS_DISCONNECT`, close.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// By [`Step`]; those that were not taken have [`Step::NOT_TAKEN`].
    pub statuses: Vec<NtStatus>,
    /// What `ParallelWrite` counted.
    pub written: u32,
    /// What `ParallelRead` counted.
    pub read: u32,
    /// What it read.
    pub data: Vec<u8>,
}

fn longs(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|long| u32::from_le_bytes(long.try_into().expect("4 bytes")))
        .collect()
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
