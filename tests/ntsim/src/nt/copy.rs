//! The functions that the compiler calls: `memcpy` and its kin, in assembly.
//!
//! Their arguments may be user addresses, under the driver's exception handler, so a fault inside
//! them must be one that can be unwound: all are leaf functions of one form, and nothing is on the
//! stack.

/// A place in the code that has a name.
macro_rules! symbol {
    ($name:literal) => {
        concat!(".hidden ", $name, "\n.globl ", $name, "\n", $name, ":")
    };
}

#[cfg_attr(target_arch = "x86_64", path = "copy/x64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../arm64/copy.rs")]
mod code;

use crate::mem::Va;

pub(crate) use code::leave;

unsafe extern "C" {
    #[link_name = "ntsim_copy_begin"]
    fn begin();
    #[link_name = "ntsim_copy_end"]
    fn end();
    #[link_name = "ntsim_memmove"]
    pub(super) fn memmove();
    #[link_name = "ntsim_memset"]
    pub(super) fn memset();
    #[link_name = "ntsim_memcmp"]
    pub(super) fn memcmp();
    #[link_name = "ntsim_fill"]
    pub(super) fn fill();
    #[link_name = "ntsim_zero"]
    pub(super) fn zero();
}

/// Whether an instruction belongs to one of these functions.
pub(crate) fn contains(pc: Va) -> bool {
    (begin as *const () as usize..end as *const () as usize).contains(&pc)
}
