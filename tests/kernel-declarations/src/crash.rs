//! A panic stops the machine.

use core::panic::PanicInfo;

use crate::KeBugCheckEx;

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    /// `MANUALLY_INITIATED_CRASH`
    const CODE: u32 = 0xE2;
    // SAFETY: no conditions.
    unsafe { KeBugCheckEx(CODE, 0, 0, 0, 0) }
}
