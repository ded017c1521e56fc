//! Routines for the port driver to call: interrupt service and deferred port check. They note that
//! they were called, and in which order.

use core::{
    ffi::c_void,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use crate::{
    kernel,
    nt::{INVALID_PARAMETER, Ptr, Status},
    parallel_h::{
        FREE_PORT, FREE_PORT_FROM_INTERRUPT_LEVEL, TRY_ALLOCATE_PORT,
        TRY_ALLOCATE_PORT_AT_INTERRUPT_LEVEL,
    },
    puppet::{Note, Table, isr},
    slot::Slot,
};

/// A client of the interrupt: one may be connected so many times.
struct Client {
    number: u64,
    slot: AtomicU64,
    options: AtomicU64,
    /// How often the deferred routine has taken the port.
    taken: AtomicU64,
}

static CLIENTS: [Client; isr::CLIENTS] = {
    let mut clients = [const {
        Client {
            number: 0,
            slot: AtomicU64::new(0),
            options: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }; isr::CLIENTS];
    let mut number = 0;
    while number < isr::CLIENTS {
        clients[number].number = number as u64;
        number += 1;
    }
    clients
};

static NOTES: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];
static NOTED: AtomicUsize = AtomicUsize::new(0);

/// Notes what happened; what does not fit is lost.
fn remember(kind: Note, client: &Client, result: u8) {
    let place = NOTES.get(NOTED.fetch_add(1, SeqCst));
    if let Some(place) = place {
        place.store(
            (kind as u64) << 16 | client.number << 8 | u64::from(result),
            SeqCst,
        );
    }
}

/// Hands out the notes, and forgets them; gives their number.
pub(crate) fn notes(output: &mut [u8]) -> u64 {
    let noted = NOTED.swap(0, SeqCst);
    for (place, note) in output.chunks_exact_mut(8).zip(NOTES.iter().take(noted)) {
        place.copy_from_slice(&note.load(SeqCst).to_le_bytes());
    }
    noted as u64
}

/// A `PARALLEL_INTERRUPT_SERVICE_ROUTINE`: routine and context, deferred routine and context.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: there is no such client.
pub(crate) fn service_routine(client: u64, slot: u64, options: u64) -> Result<[u8; 32], Status> {
    let client = usize::try_from(client)
        .ok()
        .and_then(|number| CLIENTS.get(number))
        .ok_or(INVALID_PARAMETER)?;
    client.slot.store(slot, SeqCst);
    client.options.store(options, SeqCst);
    client.taken.store(0, SeqCst);
    let context = core::ptr::from_ref(client).expose_provenance();
    let deferred = if options & isr::NO_DEFERRED == 0 {
        check_port as *const () as usize
    } else {
        0
    };
    let members = [
        service as *const () as usize,
        context,
        deferred,
        if deferred == 0 { 0 } else { context },
    ];
    let mut bytes = [0; 32];
    for (place, member) in bytes.chunks_exact_mut(8).zip(members) {
        place.copy_from_slice(&member.to_le_bytes());
    }
    Ok(bytes)
}

/// `PKSERVICE_ROUTINE`, at DIRQL.
unsafe extern "C" fn service(_interrupt: Ptr, context: *mut c_void) -> u8 {
    let client: *const Client = context.cast();
    // SAFETY: the context is the one of `service_routine`, a static.
    let Some(client) = (unsafe { client.as_ref() }) else {
        return 0;
    };
    let level = kernel::irql();
    remember(Note::Isr, client, level);
    let options = client.options.load(SeqCst);
    if options & isr::TRY != 0
        && let Ok(slot) = Slot::numbered(client.slot.load(SeqCst))
    {
        let call = |offset| {
            let routine = (Table::Interrupt as u64, offset);
            slot.call(routine, level, 0, [0; 4], &mut [])
        };
        if let Ok(Some(tried)) = call(TRY_ALLOCATE_PORT_AT_INTERRUPT_LEVEL) {
            let [got, ..] = tried.value.to_le_bytes();
            remember(Note::Tried, client, got);
            if got != 0 && options & isr::FREE != 0 {
                // A routine without a result.
                let _ = call(FREE_PORT_FROM_INTERRUPT_LEVEL);
            }
        }
    }
    u8::from(options & isr::CLAIM != 0)
}

/// `PPARALLEL_DEFERRED_ROUTINE`
unsafe extern "C" fn check_port(context: *mut c_void) {
    let client: *const Client = context.cast();
    // SAFETY: as in `service`.
    if let Some(client) = unsafe { client.as_ref() } {
        let level = kernel::irql();
        remember(Note::Deferred, client, level);
        if client.options.load(SeqCst) & isr::TAKE != 0
            && client.taken.load(SeqCst) < isr::TAKES
            && let Ok(slot) = Slot::numbered(client.slot.load(SeqCst))
        {
            let call = |offset| slot.call((Table::Port as u64, offset), level, 0, [0; 4], &mut []);
            if call(TRY_ALLOCATE_PORT).is_ok_and(|it| it.is_some_and(|it| it.value & 0xFF != 0)) {
                client.taken.fetch_add(1, SeqCst);
                // A routine without a result.
                let _ = call(FREE_PORT);
            }
        }
    }
}
