//! Whether a scanner is suspended while no handle is open, and whether it may wake the system.
//!
//! The user and the INF say so by `REG_DWORD`s in the device's hardware key, with the names and the
//! meaning that Microsoft documents for its own driver of USB devices ("`WinUSB` Power
//! Management"). Without them nothing happens: many old scanners do not come back from a
//! suspension.

use super::ScannerCore;
use crate::kernel::{Key, Passive, PhysicalDevice, PowerCapabilities, SuspendSettings, Wide};

/// The device may be suspended at all.
const DEVICE_IDLE_ENABLED: &str = "DeviceIdleEnabled";
/// It is suspended while no handle is open.
const DEFAULT_IDLE_STATE: &str = "DefaultIdleState";
/// How long no handle was open before, in milliseconds.
const DEFAULT_IDLE_TIMEOUT: &str = "DefaultIdleTimeout";
/// Also if it cannot wake up by itself.
const IGNORE_WAKE_ENABLE: &str = "DeviceIdleIgnoreWakeEnable";
/// It may wake the system up.
const SYSTEM_WAKE_ENABLED: &str = "SystemWakeEnabled";

/// `DefaultIdleTimeout`, if there is none: `SUSPEND_DELAY` of `WinUSB`.
const IDLE_TIMEOUT_MS: u32 = 5000;
/// How long the USB stack may take for its answer, in milliseconds.
const LIMIT_MS: u32 = 5000;

/// What the registry, the device and its hub say together. In `START_DEVICE`, when the device was
/// configured.
pub(super) fn suspend_settings(
    pdo: PhysicalDevice,
    core: &ScannerCore,
    passive: Passive,
) -> SuspendSettings {
    let Ok(key) = Key::of_device(pdo, false, passive) else {
        return SuspendSettings::NONE;
    };
    let number = |name| key.dword(&Wide::new(name));
    let is_set = |name| number(name).is_some_and(|value| value != 0);
    let idles = is_set(DEVICE_IDLE_ENABLED) && is_set(DEFAULT_IDLE_STATE);
    let wakes_system = is_set(SYSTEM_WAKE_ENABLED);
    if !idles && !wakes_system {
        return SuspendSettings::NONE;
    }
    // A device whose capabilities are not known does not wake up.
    let wake = core
        .can_wake_up()
        .then(|| core.device().capabilities(LIMIT_MS, passive).ok())
        .flatten()
        .filter(PowerCapabilities::wakes_in_d2);
    SuspendSettings {
        idle_after: (idles && (wake.is_some() || is_set(IGNORE_WAKE_ENABLE)))
            .then(|| number(DEFAULT_IDLE_TIMEOUT).unwrap_or(IDLE_TIMEOUT_MS)),
        wakes: wake.map(PowerCapabilities::lowest_wake),
        wakes_from: wake
            .filter(|_| wakes_system)
            .map_or(0, PowerCapabilities::wake_states),
    }
}
