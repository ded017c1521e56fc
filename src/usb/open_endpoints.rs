//! Which endpoints a handle uses.

use core::ops::Range;

use super::Pipes;
use crate::ioctl::{
    Status,
    usbscan::{ChannelInfo, Pipe, PipeType},
};

/// The endpoints of an open handle: places in [`Pipes::table`], one of each type at most.
///
/// Who opens the device itself gets the one with the highest index of each type. Who opens `\N`
/// behind it gets index N for the type of that endpoint, and the highest of the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenEndpoints {
    event: Option<usize>,
    read_data: Option<usize>,
    write_data: Option<usize>,
}

impl Pipes {
    /// The pipes of a handle, from the name of its file object, UTF-16: what follows the name of
    /// the device.
    ///
    /// # Errors
    /// `STATUS_OBJECT_NAME_NOT_FOUND`: the name is neither empty nor `\N`, there is no endpoint N,
    /// or it can be no pipe of a handle (isochronous, control, interrupt OUT).
    pub fn open(&self, file_name: &[u16]) -> Result<OpenEndpoints, Status> {
        let mut handle = OpenEndpoints {
            event: None,
            read_data: None,
            write_data: None,
        };
        for (index, endpoint) in self.table().iter().enumerate() {
            if let Some(pipe) = endpoint.pipe() {
                *handle.place(pipe) = Some(index);
            }
        }
        if !file_name.is_empty() {
            let named = index(file_name).and_then(|index| {
                let endpoint = self.table().get(index)?;
                Some((index, endpoint.pipe()?))
            });
            let (index, pipe) = named.ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
            *handle.place(pipe) = Some(index);
        }
        Ok(handle)
    }

    /// The pipes that a request is about: their indices.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: the handle has no such pipe.
    pub fn select(&self, handle: OpenEndpoints, pipes: PipeType) -> Result<Range<usize>, Status> {
        match pipes {
            PipeType::All => Ok(0..self.table().len()),
            PipeType::One(pipe) => {
                let index = handle.get(pipe).ok_or(Status::INVALID_PARAMETER)?;
                Ok(index..index.saturating_add(1))
            }
        }
    }

    /// The packet sizes of a handle's pipes: the answer to `IOCTL_GET_CHANNEL_ALIGN_RQST`.
    #[must_use]
    pub fn channel_info(&self, handle: OpenEndpoints) -> ChannelInfo {
        let size = |pipe| {
            handle
                .get(pipe)
                .and_then(|index| self.table().get(index))
                .map_or(0, |endpoint| endpoint.max_packet_size.into())
        };
        ChannelInfo {
            event: size(Pipe::Event),
            read_data: size(Pipe::ReadData),
            write_data: size(Pipe::WriteData),
        }
    }
}

impl OpenEndpoints {
    /// The index of a pipe. `None`: the device has no endpoint of this type.
    #[must_use]
    pub const fn get(self, pipe: Pipe) -> Option<usize> {
        match pipe {
            Pipe::Event => self.event,
            Pipe::ReadData => self.read_data,
            Pipe::WriteData => self.write_data,
        }
    }

    const fn place(&mut self, pipe: Pipe) -> &mut Option<usize> {
        match pipe {
            Pipe::Event => &mut self.event,
            Pipe::ReadData => &mut self.read_data,
            Pipe::WriteData => &mut self.write_data,
        }
    }
}

/// N of `\N`, decimal digits and nothing else.
fn index(file_name: &[u16]) -> Option<usize> {
    let (backslash, digits) = file_name.split_first()?;
    if *backslash != u16::from(b'\\') || digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0usize, |number, unit| {
        let digit = char::from_u32((*unit).into())?.to_digit(10)?;
        number
            .checked_mul(10)?
            .checked_add(usize::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::index;

    #[test]
    fn a_name_is_a_backslash_and_digits() {
        for (name, number) in [
            (r"\0", Some(0)),
            (r"\7", Some(7)),
            (r"\10", Some(10)),
            (r"\007", Some(7)),
            ("", None),
            ("1", None),
            (r"\", None),
            (r"\\1", None),
            (r"\1\", None),
            (r"\+1", None),
            (r"\-1", None),
            (r"\ 1", None),
            (r"\1 ", None),
            (r"\0x1", None),
            (r"\a", None),
            // ARABIC-INDIC DIGIT ONE, FULLWIDTH DIGIT ONE
            ("\\\u{661}", None),
            ("\\\u{FF11}", None),
            ("\\1\0", None),
            // 2^32 + 1, 2^64 + 1
            (r"\18446744073709551617", None),
        ] {
            let units: Vec<u16> = name.encode_utf16().collect();
            assert_eq!(index(&units), number, "{name}");
        }
        // Half a surrogate pair.
        assert_eq!(index(&[0x5C, 0xD835]), None);
    }
}
