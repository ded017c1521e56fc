//! Power.

use crate::mem::Va;
use crate::power;

pub(super) extern "efiapi" fn po_set_power_state(device: Va, kind: u32, state: u32) -> u32 {
    power::tell(device, kind, state)
}

pub(super) extern "efiapi" fn po_request_power_irp(
    device: Va,
    minor: u8,
    state: u32,
    routine: Va,
    context: usize,
    irp: Va,
) -> i32 {
    power::request(device, minor, state, routine, context, irp).raw()
}

pub(super) extern "efiapi" fn po_start_next_power_irp(_irp: Va) {}
