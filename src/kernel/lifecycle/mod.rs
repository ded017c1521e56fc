//! A device object from `AddDevice` to `IRP_MN_REMOVE_DEVICE`: PnP and power IRPs, resources, the
//! registry, names and their security.

pub(super) mod idle;
pub(super) mod interface;
pub(super) mod pnp;
pub(super) mod power;
pub(super) mod registry;
pub(super) mod resources;
pub(super) mod security;
pub(super) mod supply;
