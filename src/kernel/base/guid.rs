//! GUIDs in their usual form.

use wdk_sys::GUID;

/// A GUID. The headers only declare theirs (the values lie in uuid.lib, which no driver links).
#[derive(Clone, Copy)]
pub(crate) struct Guid(GUID);

impl Guid {
    /// From the usual form `{data1-data2-data3-data4}`, the last two groups as one number.
    pub(crate) const fn new(data1: u32, data2: u16, data3: u16, data4: u64) -> Self {
        Self(GUID {
            Data1: data1,
            Data2: data2,
            Data3: data3,
            Data4: data4.to_be_bytes(),
        })
    }

    pub(in crate::kernel) const fn raw(&self) -> &GUID {
        &self.0
    }
}
