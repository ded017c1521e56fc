//! Hosts other than Windows: everything fails.

const NEEDS_WINDOWS: &str = "this is not Windows";

pub(crate) fn add(_: &str) -> Result<String, String> {
    Err(NEEDS_WINDOWS.to_owned())
}

pub(crate) fn root(_: &str, _: &str) -> Result<(), String> {
    Err(NEEDS_WINDOWS.to_owned())
}

pub(crate) fn device(_: &str, _: &str, _: &str) -> Result<(), String> {
    Err(NEEDS_WINDOWS.to_owned())
}

pub(crate) fn update(_: &str, _: &str) -> Result<(), String> {
    Err(NEEDS_WINDOWS.to_owned())
}
