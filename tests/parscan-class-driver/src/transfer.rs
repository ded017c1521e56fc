//! A class driver's whole day, in the order of the documentation, with the status of every step.

use crate::{
    driver::{Answer, Command},
    kernel::{Control, Target},
    nt::{INVALID_PARAMETER, PASSIVE_LEVEL, Status},
    parallel_h::{
        IEEE_FWD_TO_REV_MODE, IOCTL_INTERNAL_LOCK_PORT, IOCTL_INTERNAL_PARCLASS_CONNECT,
        IOCTL_INTERNAL_PARCLASS_DISCONNECT, IOCTL_INTERNAL_UNLOCK_PORT, NEGOTIATE_IEEE_MODE,
        PARALLEL_READ, PARALLEL_WRITE, PARCLASS_INFORMATION, SAFE_MODE, TERMINATE_IEEE_MODE,
    },
    puppet::{Step, Table, argument},
    slot::Slot,
};

/// The arguments of a read or write: the buffer, its length, where the count goes.
const BUFFER_LENGTH_COUNT: u64 = argument::BUFFER | argument::COUNT << 8;

/// Statuses and the two counts, 32 bits each.
const HEAD: usize = (Step::COUNT + 2) * 4;

/// [`puppet::TRANSFER`](crate::puppet::TRANSFER)
pub(crate) fn run(command: &Command<'_>, output: &mut [u8]) -> Result<Answer, Status> {
    let [number, forward, reverse, name, read, ..] = command.words;
    let slot = Slot::numbered(number)?;
    let (name, data) = usize::try_from(name)
        .ok()
        .and_then(|name| command.data.split_at_checked(name))
        .ok_or(INVALID_PARAMETER)?;
    let (head, rest) = output.split_at_mut_checked(HEAD).ok_or(INVALID_PARAMETER)?;
    let sink = usize::try_from(read)
        .ok()
        .and_then(|read| rest.get_mut(..read))
        .ok_or(INVALID_PARAMETER)?;
    let mut day = Day {
        slot,
        statuses: [Step::NOT_TAKEN; Step::COUNT],
        counts: [0; 2],
    };
    match slot.open(name, false) {
        Ok(()) => {
            day.note(Step::Open, 0);
            let target = slot.target()?;
            day.work(target, [forward, reverse], data, sink);
            slot.close()?;
            day.note(Step::Close, 0);
        }
        Err(status) => {
            day.note(Step::Open, status);
        }
    }
    let words = day.statuses.iter().chain(&day.counts);
    for (place, word) in head.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Ok(Answer::of(&[]))
}

struct Day {
    slot: &'static Slot,
    statuses: [u32; Step::COUNT],
    counts: [u32; 2],
}

impl Day {
    fn note(&mut self, step: Step, status: Status) -> bool {
        if let Some(place) = self.statuses.get_mut(step as usize) {
            *place = status.cast_unsigned();
        }
        status == 0
    }

    fn request(&mut self, target: Target, step: Step, code: u32) -> bool {
        let outcome = Control::internal(code).send(target, &[], &mut []);
        self.note(step, outcome.status)
    }

    /// Calls a routine of the table; gives the count.
    fn call(
        &mut self,
        step: Step,
        routine: u64,
        kinds: u64,
        values: [u64; 4],
        buffer: &mut [u8],
    ) -> u32 {
        let routine = (Table::Parclass as u64, routine);
        let called = self
            .slot
            .call(routine, PASSIVE_LEVEL, kinds, values, buffer);
        match called {
            Ok(Some(called)) => {
                // An NTSTATUS is the low half of rax.
                let [a, b, c, d, ..] = called.value.to_le_bytes();
                self.note(step, i32::from_le_bytes([a, b, c, d]));
                called.count
            }
            Ok(None) | Err(_) => 0,
        }
    }

    fn work(&mut self, target: Target, modes: [u64; 2], data: &[u8], sink: &mut [u8]) {
        let mut table = [0; PARCLASS_INFORMATION];
        let outcome =
            Control::internal(IOCTL_INTERNAL_PARCLASS_CONNECT).send(target, &[], &mut table);
        if !self.note(Step::Connect, outcome.status) {
            return;
        }
        self.slot.keep(IOCTL_INTERNAL_PARCLASS_CONNECT, &table);
        if self.request(target, Step::Lock, IOCTL_INTERNAL_LOCK_PORT) {
            self.use_port(modes, data, sink);
            self.request(target, Step::Unlock, IOCTL_INTERNAL_UNLOCK_PORT);
        }
        self.request(target, Step::Disconnect, IOCTL_INTERNAL_PARCLASS_DISCONNECT);
    }

    fn use_port(&mut self, [forward, reverse]: [u64; 2], data: &[u8], sink: &mut [u8]) {
        let is_forward = 1;
        let modes = [forward, reverse, SAFE_MODE, is_forward];
        self.call(Step::Negotiate, NEGOTIATE_IEEE_MODE, 0, modes, &mut []);
        if !data.is_empty() {
            // ParallelWrite only reads it.
            let length = [0, data.len() as u64, 0, 0];
            let written = match crate::kernel::Pool::try_filled(data.len(), 0) {
                Ok(mut copy) => {
                    copy.copy_from_slice(data);
                    self.call(
                        Step::Write,
                        PARALLEL_WRITE,
                        BUFFER_LENGTH_COUNT,
                        length,
                        &mut copy,
                    )
                }
                Err(status) => {
                    self.note(Step::Write, status);
                    0
                }
            };
            self.counts[0] = written;
        }
        if !sink.is_empty() {
            self.call(Step::Reverse, IEEE_FWD_TO_REV_MODE, 0, [0; 4], &mut []);
            let length = [0, sink.len() as u64, 0, 0];
            self.counts[1] =
                self.call(Step::Read, PARALLEL_READ, BUFFER_LENGTH_COUNT, length, sink);
        }
        self.call(Step::Terminate, TERMINATE_IEEE_MODE, 0, [0; 4], &mut []);
    }
}
