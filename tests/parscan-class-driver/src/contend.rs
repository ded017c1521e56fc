//! Many clients that want one port. Each sends `IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE` with a
//! completion routine, frees the port when and as a seeded choice says, and asks again, until the
//! port has been granted as often as the test wants.
//!
//! What is checked: at every grant no other client has the port, and no request that had been queued
//! before this one was sent is still waiting; while a client has the port, no other thread writes the
//! data register.

use core::{
    ffi::c_void,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst},
};

use crate::{
    driver::{self, Answer, Command, status_word},
    kernel::{self, Control, Dpc, Event},
    nt::{
        self, DEVICE_OBJECT, INSUFFICIENT_RESOURCES, INVALID_PARAMETER, IRP, KDPC,
        MORE_PROCESSING_REQUIRED, PASSIVE_LEVEL, Ptr, Status,
    },
    parallel_h::{
        CONTROLLER, FREE_PORT, IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO,
        IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE, IOCTL_INTERNAL_PARALLEL_PORT_FREE, PORT_INFORMATION,
    },
    puppet::{CONTENDERS, Contention, RESULTS, Table},
    slot::Slot,
};

/// The slot for the port.
const SLOT: u64 = 15;

/// What a client does next, in its DPC or work item.
mod job {
    /// Frees the port by the callback.
    pub(super) const FREE: u32 = 0;
    /// Frees it by a request.
    pub(super) const FREE_BY_REQUEST: u32 = 1;
    /// Asks for the port again.
    pub(super) const ASK: u32 = 2;
}

struct Client {
    number: u32,
    irp: AtomicPtr<IRP>,
    dpc: Dpc,
    work: AtomicPtr<c_void>,
    job: AtomicU32,
    /// The return of `IofCallDriver` and the free of the port: 0 when both have been.
    outstanding: AtomicU32,
    waiting: AtomicBool,
    /// When its request was sent, and when it was known to be queued (0: not yet), on [`CLOCK`].
    sent: AtomicU64,
    queued: AtomicU64,
    /// [`Contention::Grants`] when it was known to be queued.
    before: AtomicU64,
    grants: AtomicU32,
    /// What it wrote to the data register.
    mark: AtomicU32,
}

static ALL: [Client; CONTENDERS] = {
    let mut clients = [const { Client::new() }; CONTENDERS];
    let mut number = 0_u32;
    while (number as usize) < CONTENDERS {
        clients[number as usize].number = number;
        number += 1;
    }
    clients
};

static RUNNING: AtomicBool = AtomicBool::new(false);
static DONE: Event = Event::new();
static CLOCK: AtomicU64 = AtomicU64::new(1);
static RANDOM: AtomicU64 = AtomicU64::new(0);
/// Requests that may still be sent, and clients that still ask.
static LEFT: AtomicU64 = AtomicU64::new(0);
static ASKING: AtomicU32 = AtomicU32::new(0);
/// Who has the port: a client's number plus 1; 0 is none.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// The results so far.
static COUNTS: [AtomicU64; RESULTS] = [const { AtomicU64::new(0) }; RESULTS];

/// One of the results.
const fn count(which: Contention) -> &'static AtomicU64 {
    &COUNTS[which as usize]
}

/// A number by chance (splitmix64).
fn random() -> u64 {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut z = RANDOM.fetch_add(STEP, SeqCst).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Grants so far.
pub(crate) fn progress() -> u64 {
    count(Contention::Grants).load(SeqCst)
}

/// [`puppet::CONTEND`](crate::puppet::CONTEND)
pub(crate) fn run(command: &Command<'_>, output: &mut [u8]) -> Result<Answer, Status> {
    let [clients, grants, seed, ..] = command.words;
    let clients = usize::try_from(clients)
        .ok()
        .and_then(|clients| ALL.get(..clients))
        .filter(|clients| !clients.is_empty())
        .ok_or(INVALID_PARAMETER)?;
    if RUNNING.swap(true, SeqCst) {
        return Err(INVALID_PARAMETER);
    }
    reset(grants, seed);
    let slot = Slot::numbered(SLOT)?;
    let result = slot.open(command.data, false).and_then(|()| {
        let result = contend(slot, clients);
        slot.close().and(result)
    });
    if let Err(status) = result {
        note_status(status);
    }
    for (place, client) in output.chunks_exact_mut(4).zip(clients) {
        place.copy_from_slice(&client.grants.load(SeqCst).to_le_bytes());
    }
    RUNNING.store(false, SeqCst);
    Ok(Answer::of(
        &COUNTS.each_ref().map(|count| count.load(SeqCst)),
    ))
}

fn reset(grants: u64, seed: u64) {
    for count in &COUNTS {
        count.store(0, SeqCst);
    }
    OWNER.store(0, SeqCst);
    RANDOM.store(seed, SeqCst);
    LEFT.store(grants, SeqCst);
    for client in &ALL {
        client.grants.store(0, SeqCst);
        client.waiting.store(false, SeqCst);
    }
}

/// Lets the clients run to their end. At `PASSIVE_LEVEL`.
fn contend(slot: &Slot, clients: &'static [Client]) -> Result<(), Status> {
    let target = slot.target()?;
    let mut information = [0; PORT_INFORMATION];
    let outcome = Control::internal(IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO).send(
        target,
        &[],
        &mut information,
    );
    if outcome.status != nt::SUCCESS {
        return Err(outcome.status);
    }
    slot.keep(IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO, &information);
    let ready = clients
        .iter()
        .try_for_each(|client| client.prepare(target.device));
    if ready.is_ok() {
        DONE.initialize();
        ASKING.store(u32::try_from(clients.len()).unwrap_or(0), SeqCst);
        for client in clients {
            client.again();
        }
        DONE.wait();
        // SAFETY: at PASSIVE_LEVEL. The last DPC may still be on its way out.
        unsafe { nt::KeFlushQueuedDpcs() };
    }
    for client in clients {
        client.dismiss();
    }
    ready
}

impl Client {
    const fn new() -> Self {
        Self {
            number: 0,
            irp: AtomicPtr::new(ptr::null_mut()),
            dpc: Dpc::new(),
            work: AtomicPtr::new(ptr::null_mut()),
            job: AtomicU32::new(0),
            outstanding: AtomicU32::new(0),
            waiting: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            before: AtomicU64::new(0),
            grants: AtomicU32::new(0),
            mark: AtomicU32::new(0),
        }
    }

    const fn name(&self) -> u32 {
        self.number + 1
    }

    fn context(&'static self) -> Ptr {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// # Safety
    /// The context is of a client.
    unsafe fn of(context: Ptr) -> Option<&'static Self> {
        let client: *const Self = context.cast();
        // SAFETY: clients are static.
        unsafe { client.as_ref() }
    }

    fn prepare(&'static self, device: *mut DEVICE_OBJECT) -> Result<(), Status> {
        self.dpc.initialize(in_dpc, self.context());
        self.irp.store(kernel::own_irp(device)?, SeqCst);
        // SAFETY: the control device, at PASSIVE_LEVEL.
        let work = unsafe { nt::IoAllocateWorkItem(driver::device()) };
        self.work.store(work, SeqCst);
        if work.is_null() {
            return Err(INSUFFICIENT_RESOURCES);
        }
        Ok(())
    }

    fn dismiss(&self) {
        let irp = self.irp.swap(ptr::null_mut(), SeqCst);
        if !irp.is_null() {
            // SAFETY: it is allocated, and came back from its last way.
            unsafe { nt::IoFreeIrp(irp) };
        }
        let work = self.work.swap(ptr::null_mut(), SeqCst);
        if !work.is_null() {
            // SAFETY: it is allocated, and not queued.
            unsafe { nt::IoFreeWorkItem(work) };
        }
    }

    /// Goes on with a job elsewhere.
    fn later(&'static self, job: u32, in_dpc: bool) {
        self.job.store(job, SeqCst);
        if in_dpc {
            self.dpc.queue();
        } else {
            /// `DelayedWorkQueue`
            const QUEUE: i32 = 1;
            // SAFETY: the item is allocated, and not queued: a client has one job at a time.
            unsafe {
                nt::IoQueueWorkItemEx(self.work.load(SeqCst), in_work_item, QUEUE, self.context());
            }
        }
    }

    fn do_job(&'static self) {
        match self.job.load(SeqCst) {
            job::FREE => self.free(),
            job::FREE_BY_REQUEST => self.free_by_request(),
            _ => self.ask(),
        }
    }

    /// Asks again, if there are grants left; from a DPC or work item, so that grants at once do not
    /// pile up on the stack.
    fn again(&'static self) {
        let left = LEFT.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            self.later(job::ASK, random() & 1 == 0);
        } else if ASKING.fetch_sub(1, SeqCst) == 1 {
            DONE.set();
        }
    }

    /// Asks for the port. At <= `DISPATCH_LEVEL`.
    fn ask(&'static self) {
        let Ok(target) = Slot::numbered(SLOT).and_then(Slot::target) else {
            return;
        };
        let irp = self.irp.load(SeqCst);
        // SAFETY: it came back, and the call that sent it has returned.
        unsafe { nt::IoReuseIrp(irp, nt::SUCCESS) };
        // SAFETY: it is not sent.
        if let Some(next) = unsafe {
            Control::internal(IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE).fill(irp, target, 0, 0)
        } {
            next.CompletionRoutine = Some(granted);
            next.Context = self.context();
            next.Control = nt::INVOKE_ALWAYS;
        }
        self.outstanding.store(2, SeqCst);
        self.queued.store(0, SeqCst);
        self.sent.store(CLOCK.fetch_add(1, SeqCst), SeqCst);
        self.waiting.store(true, SeqCst);
        // SAFETY: the IRP was made for this device, and is touched again only when it is back.
        let status = unsafe { nt::IofCallDriver(target.device, irp) };
        if status == nt::PENDING && self.waiting.load(SeqCst) {
            self.before
                .store(count(Contention::Grants).load(SeqCst), SeqCst);
            self.queued.store(CLOCK.fetch_add(1, SeqCst), SeqCst);
        }
        self.leave();
    }

    /// One of the two ends of a request.
    fn leave(&'static self) {
        if self.outstanding.fetch_sub(1, SeqCst) == 1 {
            self.again();
        }
    }

    /// The port is granted.
    fn take(&'static self) {
        if OWNER.swap(self.name(), SeqCst) != 0 {
            count(Contention::TwoOwners).fetch_add(1, SeqCst);
        }
        let sent = self.sent.load(SeqCst);
        let earlier = |other: &&Self| {
            let queued = other.queued.load(SeqCst);
            other.waiting.load(SeqCst) && queued != 0 && queued < sent
        };
        if ALL.iter().any(|other| earlier(&other)) {
            count(Contention::OutOfOrder).fetch_add(1, SeqCst);
        }
        self.waiting.store(false, SeqCst);
        let before = count(Contention::Grants).fetch_add(1, SeqCst);
        if self.queued.load(SeqCst) != 0 {
            let waited = before.saturating_sub(self.before.load(SeqCst));
            count(Contention::LongestWait).fetch_max(waited, SeqCst);
        }
        if kernel::irql() == nt::DISPATCH_LEVEL {
            count(Contention::AtDispatch).fetch_add(1, SeqCst);
        }
        self.grants.fetch_add(1, SeqCst);
        let mark = random().to_le_bytes()[0];
        self.mark.store(u32::from(mark), SeqCst);
        if let Some(data) = data_register() {
            kernel::write_port(data, mark);
        }
        match random() % 4 {
            0 => self.free(),
            1 => self.later(job::FREE, true),
            2 => self.later(job::FREE, false),
            _ => self.later(job::FREE_BY_REQUEST, false),
        }
    }

    /// Has the port no longer, as far as this driver knows: just before it is free.
    fn give_up(&self) {
        let unchanged = data_register()
            .is_none_or(|data| u32::from(kernel::read_port(data)) == self.mark.load(SeqCst));
        if !unchanged {
            count(Contention::Intrusions).fetch_add(1, SeqCst);
        }
        if OWNER.swap(0, SeqCst) != self.name() {
            count(Contention::TwoOwners).fetch_add(1, SeqCst);
        }
    }

    /// `FreePort`, at <= `DISPATCH_LEVEL`. The next client is served before it returns.
    fn free(&'static self) {
        self.give_up();
        if let Ok(slot) = Slot::numbered(SLOT) {
            let routine = (Table::Port as u64, FREE_PORT);
            // A routine without a result.
            let _ = slot.call(routine, PASSIVE_LEVEL, 0, [0; 4], &mut []);
        }
        self.leave();
    }

    /// At `PASSIVE_LEVEL`.
    fn free_by_request(&'static self) {
        self.give_up();
        if let Ok(target) = Slot::numbered(SLOT).and_then(Slot::target) {
            let outcome =
                Control::internal(IOCTL_INTERNAL_PARALLEL_PORT_FREE).send(target, &[], &mut []);
            if outcome.status != nt::SUCCESS {
                failed(outcome.status);
            }
        }
        self.leave();
    }
}

fn failed(status: Status) {
    count(Contention::Failed).fetch_add(1, SeqCst);
    note_status(status);
}

fn note_status(status: Status) {
    count(Contention::Status).store(status_word(status), SeqCst);
}

/// The port's data register, at the address that the port driver told.
fn data_register() -> Option<u16> {
    let controller = Slot::numbered(SLOT)
        .and_then(|slot| slot.pointer(Table::Port as u64, CONTROLLER))
        .ok()?;
    u16::try_from(controller).ok().filter(|port| *port != 0)
}

/// The completion routine: the port is granted, or the request failed. At <= `DISPATCH_LEVEL`.
unsafe extern "C" fn granted(_device: *mut DEVICE_OBJECT, irp: *mut IRP, context: Ptr) -> Status {
    // SAFETY: the context is that of `ask`.
    let Some(client) = (unsafe { Client::of(context) }) else {
        return MORE_PROCESSING_REQUIRED;
    };
    // SAFETY: the IRP is back.
    let status = unsafe { irp.as_ref() }.map_or(INVALID_PARAMETER, |irp| irp.IoStatus.Status);
    if status == nt::SUCCESS {
        client.take();
    } else {
        failed(status);
        client.waiting.store(false, SeqCst);
        // What fails once fails always.
        LEFT.store(0, SeqCst);
        client.leave();
    }
    MORE_PROCESSING_REQUIRED
}

unsafe extern "C" fn in_dpc(_dpc: *mut KDPC, context: Ptr, _first: Ptr, _second: Ptr) {
    // SAFETY: the context is that of `prepare`.
    if let Some(client) = unsafe { Client::of(context) } {
        client.do_job();
    }
}

unsafe extern "C" fn in_work_item(_device: Ptr, context: Ptr, _item: Ptr) {
    // SAFETY: the context is that of `later`.
    if let Some(client) = unsafe { Client::of(context) } {
        client.do_job();
    }
}
