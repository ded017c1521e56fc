//! What the loader changes in an image: nothing. ARM64 has no port instructions, and the IRQL is an
//! exported function.

use std::sync::Arc;

use object::read::pe::PeFile64;

/// What is written into an image, and behind it.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) jumps: Vec<(usize, Vec<u8>)>,
    pub(crate) code: Vec<u8>,
}

impl Plan {
    /// That of a driver file.
    pub(crate) fn of(_file: &[u8], _parsed: &PeFile64<'_>) -> Arc<Self> {
        Arc::default()
    }
}
