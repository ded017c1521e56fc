//! Kernel clients of the port object: the internal requests and the routines of parallel.h.

use core::sync::atomic::Ordering;

use super::PortCore;
use crate::{
    ioctl::{
        Status,
        parallel::{
            ImmediatePortRequest, InterruptInformation, InterruptServiceRoutine,
            MoreParallelPortInformation, ParallelPnpInformation, ParallelPortInformation,
            PortRequest, QueuedPortRequest, SelectCommand,
        },
    },
    kernel::{
        Disposition, FileId, InterruptOwner, Irp, Owner, Owners, Passive, PortCallbacks,
        port_routines,
    },
};

impl PortCore {
    /// A class driver was told where the registers are.
    pub(in crate::parallel) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::AcqRel);
    }

    /// It does not use them any more.
    pub(in crate::parallel) fn disconnected(&self, connections: u32) {
        self.connections.fetch_sub(connections, Ordering::AcqRel);
    }

    /// `IRP_MJ_CREATE`
    pub(in crate::parallel) fn opened(&self) {
        self.opens.fetch_add(1, Ordering::AcqRel);
    }

    /// `IRP_MJ_CLEANUP`: ends what the open waits for, and frees the port if it has it.
    pub(in crate::parallel) fn clean_up(&self, file: FileId) {
        self.arbiter.clean_up(file);
        self.free_if(Owners::Only(Owner::Open(file)));
    }

    /// `IRP_MJ_CLOSE`. A client that has the port, or the interrupt, and did not say through which
    /// open is gone with the last one.
    pub(in crate::parallel) fn closed(&self, file: FileId, passive: Passive) {
        self.clean_up(file);
        self.interrupt.clean_up(file, passive);
        if self.opens.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.interrupt.clear(passive);
            self.free();
        }
    }

    /// Whether the port is a kernel client's; that of `file`, if both are known.
    pub(super) fn has_client(&self, file: FileId) -> bool {
        self.arbiter.is_owned_by(Owners::Client(file))
    }

    /// An internal request, at <= `DISPATCH_LEVEL`.
    pub(in crate::parallel) fn request(
        &self,
        irp: Irp,
        code: u32,
        passive: Option<Passive<'_>>,
    ) -> Disposition {
        let request = match PortRequest::parse(code, irp.input(), irp.output_length()) {
            Ok(request) => request,
            Err(status) => return irp.complete(status),
        };
        self.power.request();
        match request {
            PortRequest::Immediate(request) => self.answer(irp, request, passive),
            PortRequest::Queued(request) => self.ask_for_port(irp, request),
        }
    }

    /// A request that asks for the port.
    fn ask_for_port(&self, irp: Irp, request: QueuedPortRequest) -> Disposition {
        // IOCTL_INTERNAL_SELECT_DEVICE
        if let QueuedPortRequest::Select(command) = request {
            match self.device_of(command) {
                Ok(device) if command.keeps_port() => {
                    let status = if self.has_client(irp.file()) {
                        self.select(device)
                    } else {
                        Status::INVALID_DEVICE_STATE
                    };
                    return irp.complete(status);
                }
                Ok(_) => {}
                Err(status) => return irp.complete(status),
            }
        }
        self.arbiter.acquire_for_irp(irp, request, self)
    }

    /// A request that waits for nothing.
    fn answer(
        &self,
        irp: Irp,
        request: ImmediatePortRequest,
        passive: Option<Passive<'_>>,
    ) -> Disposition {
        let file = irp.file();
        let status = match request {
            // IOCTL_INTERNAL_PARALLEL_PORT_FREE
            ImmediatePortRequest::Free => {
                if self.free_if(Owners::Client(file)) {
                    Status::SUCCESS
                } else {
                    Status::INVALID_DEVICE_STATE
                }
            }
            // IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO
            ImmediatePortRequest::ReleasePortInformation => Status::SUCCESS,
            // IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO
            ImmediatePortRequest::GetPortInformation => match self.port_information() {
                Ok(information) => return irp.answer(&information.to_bytes()),
                Err(status) => status,
            },
            // IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO
            ImmediatePortRequest::GetMorePortInformation => match self.more_information() {
                Ok(information) => return irp.answer(&information.to_bytes()),
                Err(status) => status,
            },
            // IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO
            ImmediatePortRequest::GetPnpInformation => match self.pnp_information() {
                Ok(information) => return irp.answer(&information.to_bytes()),
                Err(status) => status,
            },
            // IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE
            ImmediatePortRequest::SetChipMode(mode) => {
                self.change_chip_mode(mode, file, Self::set_chip_mode)
            }
            // IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE
            ImmediatePortRequest::ClearChipMode(mode) => {
                self.change_chip_mode(mode, file, Self::clear_chip_mode)
            }
            // IOCTL_INTERNAL_INIT_1284_3_BUS
            ImmediatePortRequest::InitializeChain => self.initialize_chain(file),
            // IOCTL_INTERNAL_DESELECT_DEVICE
            ImmediatePortRequest::Deselect(command) => self.deselect_of(command, file),
            // IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT
            ImmediatePortRequest::ConnectInterrupt(routine) => {
                match self.connect(routine, file, passive) {
                    Ok(information) => return irp.answer(&information.to_bytes()),
                    Err(status) => status,
                }
            }
            // IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT
            ImmediatePortRequest::DisconnectInterrupt(routine) => match passive {
                Some(passive) => self
                    .interrupt
                    .remove(routine, passive)
                    .map_or_else(|why| why, |()| Status::SUCCESS),
                None => Status::INVALID_DEVICE_STATE,
            },
        };
        irp.complete(status)
    }

    fn port_information(&self) -> Result<ParallelPortInformation, Status> {
        let hardware = self.found()?;
        let (controller, span) = hardware.addresses().registers;
        Ok(ParallelPortInformation {
            original_controller: hardware.original_addresses().registers.0,
            controller,
            span_of_controller: span,
            routines: port_routines(self),
        })
    }

    fn more_information(&self) -> Result<MoreParallelPortInformation, Status> {
        let hardware = self.found()?;
        let bus = hardware.bus();
        let mut information = MoreParallelPortInformation {
            interface_type: bus.interface_type,
            bus_number: bus.number,
            ..MoreParallelPortInformation::default()
        };
        if let Some(interrupt) = hardware.interrupt() {
            information.interrupt_level = interrupt.level;
            information.interrupt_vector = interrupt.vector;
            information.interrupt_affinity = interrupt.affinity;
            information.interrupt_mode = u32::from(interrupt.latched);
        }
        Ok(information)
    }

    fn pnp_information(&self) -> Result<ParallelPnpInformation, Status> {
        let hardware = self.found()?;
        let capabilities = hardware.capabilities();
        let (ecp_controller, span) = hardware.addresses().ecp;
        let fifo = capabilities.fifo;
        Ok(ParallelPnpInformation {
            original_ecp_controller: hardware.original_addresses().ecp.0,
            ecp_controller,
            span_of_ecp_controller: span,
            hardware_capabilities: self.ppt(&hardware),
            fifo_depth: fifo.map_or(0, |fifo| u32::from(fifo.depth)),
            fifo_width: fifo.map_or(0, |fifo| u32::from(fifo.width)),
            chain_devices: u32::from(self.chain()),
            current_mode: u32::from(self.chip_mode.load(Ordering::Acquire)),
            port_name: self.link.address(),
            routines: port_routines(self),
        })
    }

    /// `IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT`
    pub(super) fn connect(
        &self,
        routine: InterruptServiceRoutine,
        file: FileId,
        passive: Option<Passive<'_>>,
    ) -> Result<InterruptInformation, Status> {
        if !self.interrupt_allowed.load(Ordering::Relaxed) {
            return Err(Status::UNSUCCESSFUL);
        }
        let passive = passive.ok_or(Status::INVALID_DEVICE_STATE)?;
        let inside = self.hardware.enter().ok_or(Status::DEVICE_NOT_READY)?;
        let resource = inside.value().interrupt().ok_or(Status::UNSUCCESSFUL)?;
        let object = self
            .interrupt
            .add(self, self.pdo, resource, file, routine, passive)?;
        Ok(InterruptInformation {
            interrupt_object: object,
            routines: port_routines(self),
        })
    }
}

/// The client that calls is not known: it is one that has the port without an open, or any.
pub(super) const ANY: FileId = FileId::NONE;

impl PortCallbacks for PortCore {
    fn try_allocate(&self) -> bool {
        self.try_take(Owner::Caller)
    }

    fn free(&self) {
        if !self.free_if(Owners::Client(ANY)) {
            // What an interrupt service routine took, its DPC may free.
            self.later();
        }
    }

    fn waiters(&self) -> u32 {
        self.arbiter.waiting_requests()
    }

    fn set_chip_mode(&self, mode: u8) -> Status {
        self.set_client_mode(mode)
    }

    fn clear_chip_mode(&self, mode: u8) -> Status {
        self.clear_client_mode(mode)
    }

    fn try_select(&self, command: SelectCommand) -> Status {
        let device = match self.device_of(command) {
            Ok(device) => device,
            Err(status) => return status,
        };
        let held = if command.keeps_port() {
            self.has_client(ANY)
        } else {
            self.try_take(Owner::Caller)
        };
        match (held, command.keeps_port()) {
            (true, _) => self.select(device),
            // Nothing is queued: so the page says that the port is taken.
            (false, false) => Status::PENDING,
            (false, true) => Status::INVALID_DEVICE_STATE,
        }
    }

    fn deselect(&self, command: SelectCommand) -> Status {
        self.deselect_of(command, ANY)
    }

    fn try_allocate_at_interrupt(&self) -> bool {
        // The end of EPP takes too long for an interrupt, and that of edges a lock.
        !self.holds_epp()
            && self.edges.control_bit() == 0
            && self.arbiter.try_acquire_at_interrupt()
    }

    fn free_from_interrupt(&self) {
        self.interrupt.request_later();
    }
}

impl InterruptOwner for PortCore {
    fn later(&self) {
        self.interrupt.call_deferred_later();
        if self.arbiter.claim_for_interrupt() {
            self.free_if(Owners::Only(Owner::InterruptService));
        }
    }

    fn edges_came(&self) {
        self.tell_edges();
    }
}
