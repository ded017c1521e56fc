//! The open of a parallel device, its start and its removal.

use core::sync::atomic::Ordering;

use super::{DeviceCore, Lock, NOT_ASKED, requests::Preferences, word_of};
use crate::{
    ioctl::{Status, parallel::NegotiationMask},
    kernel::{FileId, Irp, Passive},
};

impl DeviceCore {
    /// `IRP_MJ_CREATE`. Whether the device was not open.
    pub(in crate::parallel) fn try_open(&self, irp: &Irp) -> bool {
        let (file, of_kernel) = (irp.file(), !irp.is_from_user());
        self.clients.with(|clients| {
            let free = clients.open.is_none();
            if free {
                clients.open = Some(file);
                clients.of_kernel = of_kernel;
            }
            free
        })
    }

    /// What a program has chosen ends with its open.
    fn forget_preferences(&self) {
        self.session_over.store(true, Ordering::Release);
        self.forget_modes();
        self.preferences.with(|it| *it = Preferences::DEFAULT);
    }

    /// The modes are those of a new session.
    pub(super) fn forget_modes(&self) {
        self.modes
            .store(word_of(NegotiationMask::DEFAULT), Ordering::Release);
        self.device_modes.store(NOT_ASKED, Ordering::Release);
    }

    /// `PARCLASS_NEGOTIATION_MASK`: the modes of the session.
    pub(super) fn modes(&self) -> [u8; 4] {
        self.modes.load(Ordering::Acquire).to_le_bytes()
    }

    /// `IRP_MJ_CLOSE`
    pub(in crate::parallel) fn closed(&self, file: FileId, passive: Passive) {
        self.clean_up(file, passive);
        self.end_held_epp();
        self.forget_preferences();
        self.clients.with(|clients| {
            if clients.is_open(file) {
                clients.open = None;
            }
        });
    }

    /// The device is started.
    pub(in crate::parallel) fn start(&self, passive: Passive) {
        self.pending.open(self, passive);
        self.clients.with(|clients| {
            clients.started = true;
            self.client.resume();
        });
    }

    /// `IRP_MJ_CLEANUP`, and once more at `IRP_MJ_CLOSE`: a class driver that came through this
    /// open, and forgot to disconnect or to unlock, does so now.
    pub(in crate::parallel) fn clean_up(&self, file: FileId, passive: Passive) {
        let ended = self.clients.with(|clients| {
            if !clients.is_open(file) {
                return None;
            }
            let ended = core::mem::take(&mut clients.by_open);
            if ended != 0 && !clients.is_connected() {
                self.client.stop(Status::CANCELLED);
            }
            Some(ended)
        });
        if let Some(ended) = ended {
            self.port.disconnected(ended);
            self.end_edges(file, passive);
        }
        let ends = [Lock::ByOpen(file), Lock::ByProgram(file)];
        if self.lock.with(|lock| ends.contains(lock)) {
            self.end_lock(passive);
        }
    }

    /// The device is removed: calls of class drivers end, and so does their lock, and with `status`
    /// what waits for an edge.
    pub(in crate::parallel) fn disconnect_hardware(&self, status: Status, passive: Passive) {
        self.pending.close(status, passive);
        self.end_edge_watch(passive);
        let ended = self.clients.with(|clients| {
            clients.started = false;
            self.client.stop(Status::DEVICE_REMOVED);
            core::mem::take(&mut clients.by_open)
                .saturating_add(core::mem::take(&mut clients.by_others))
        });
        self.port.disconnected(ended);
        self.end_lock(passive);
        self.end_held_epp();
        self.forget_preferences();
    }

    /// Ends a lock, whichever client has it.
    fn end_lock(&self, passive: Passive) {
        let _turn = self.peripheral.lock_uninterrupted(passive.blocking());
        let lock = self.lock.with(|lock| core::mem::replace(lock, Lock::Free));
        if lock == Lock::Free {
            return;
        }
        self.end_mode(self.port.waits(passive));
        if matches!(lock, Lock::ByProgram(_)) {
            // Lines stay: relays do not click because a program ends.
            self.end_claim(false);
        }
        self.free_port();
    }
}
