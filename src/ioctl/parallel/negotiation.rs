//! Modes: `IOCTL_IEEE1284_GET_MODE`, `_NEGOTIATE`, `IOCTL_PAR_GET_DEFAULT_MODES` and
//! `IOCTL_PAR_GET_DEVICE_CAPS`.

use super::{FILE_DEVICE_PARALLEL_PORT, IeeeModes, Status, buffered_code, fits, take};

/// 0x00160014. No input. Output: `PARCLASS_NEGOTIATION_MASK`, the modes in use.
pub const IOCTL_IEEE1284_GET_MODE: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 5);
/// 0x00160018. Input and output: `PARCLASS_NEGOTIATION_MASK`.
pub const IOCTL_IEEE1284_NEGOTIATE: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 6);
/// 0x00160024. Input: modes that must not be used. Output: modes that the device has. Two bytes
/// each.
pub const IOCTL_PAR_GET_DEVICE_CAPS: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 9);
/// 0x00160028. No input. Output: `PARCLASS_NEGOTIATION_MASK`.
pub const IOCTL_PAR_GET_DEFAULT_MODES: u32 = buffered_code(FILE_DEVICE_PARALLEL_PORT, 10);

/// `PARCLASS_NEGOTIATION_MASK`: modes for reading (reverse) and writing (forward).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiationMask {
    /// `usReadMask`
    pub read: IeeeModes,
    /// `usWriteMask`
    pub write: IeeeModes,
}

impl NegotiationMask {
    /// What a device uses before anybody negotiates: `IOCTL_PAR_GET_DEFAULT_MODES`.
    pub const DEFAULT: Self = Self {
        read: IeeeModes::NIBBLE,
        write: IeeeModes::CENTRONICS,
    };

    /// The structure, four bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        let [r0, r1] = self.read.to_bytes();
        let [w0, w1] = self.write.to_bytes();
        [r0, r1, w0, w1]
    }

    /// Reads the structure.
    #[must_use]
    pub const fn from_bytes([r0, r1, w0, w1]: [u8; 4]) -> Self {
        Self {
            read: IeeeModes::from_bytes([r0, r1]),
            write: IeeeModes::from_bytes([w0, w1]),
        }
    }
}

/// A checked request for `PARCLASS_NEGOTIATION_MASK`.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than four bytes.
pub(super) fn parse_mask_query(output_length: usize) -> Result<(), Status> {
    fits(output_length, 4)
}

/// A checked `IOCTL_IEEE1284_NEGOTIATE`: the modes to choose from.
///
/// # Errors
/// * `STATUS_INVALID_PARAMETER`: the input is shorter than four bytes (this page's status, where
///   others say `STATUS_BUFFER_TOO_SMALL`).
/// * `STATUS_BUFFER_TOO_SMALL`: the output is.
pub(super) fn parse_negotiate(
    input: &[u8],
    output_length: usize,
) -> Result<NegotiationMask, Status> {
    let mask = take(input).ok_or(Status::INVALID_PARAMETER)?;
    fits(output_length, 4)?;
    Ok(NegotiationMask::from_bytes(mask))
}

/// A checked `IOCTL_PAR_GET_DEVICE_CAPS`: the modes that must not be used. A short input excludes
/// none.
///
/// # Errors
/// `STATUS_BUFFER_TOO_SMALL`: the output is shorter than two bytes.
pub(super) fn parse_device_caps(input: &[u8], output_length: usize) -> Result<IeeeModes, Status> {
    fits(output_length, 2)?;
    Ok(take(input).map_or(IeeeModes::empty(), IeeeModes::from_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_ntddpar_h() {
        assert_eq!(IOCTL_IEEE1284_GET_MODE, 0x0016_0014);
        assert_eq!(IOCTL_IEEE1284_NEGOTIATE, 0x0016_0018);
        assert_eq!(IOCTL_PAR_GET_DEVICE_CAPS, 0x0016_0024);
        assert_eq!(IOCTL_PAR_GET_DEFAULT_MODES, 0x0016_0028);
    }

    #[test]
    fn the_read_mask_comes_first() {
        let mask = parse_negotiate(&[0x04, 0x01, 0x02, 0x00, 0xFF], 4).unwrap();
        assert_eq!((mask.read.bits(), mask.write.bits()), (0x0104, 0x0002));
        assert_eq!(mask.to_bytes(), [0x04, 0x01, 0x02, 0x00]);
        assert_eq!(NegotiationMask::DEFAULT.to_bytes(), [0x04, 0, 0x01, 0]);
    }

    #[test]
    fn a_short_input_is_reported_before_a_short_output() {
        assert_eq!(parse_negotiate(&[0; 3], 0), Err(Status::INVALID_PARAMETER));
        assert_eq!(parse_negotiate(&[0; 4], 3), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse_mask_query(3), Err(Status::BUFFER_TOO_SMALL));
        assert_eq!(parse_device_caps(&[], 1), Err(Status::BUFFER_TOO_SMALL));
    }

    #[test]
    fn a_short_exclusion_excludes_nothing() {
        assert_eq!(parse_device_caps(&[0xFF], 2), Ok(IeeeModes::empty()));
        assert_eq!(
            parse_device_caps(&[0x20, 0x01], 2).map(|m| m.bits()),
            Ok(0x0120)
        );
    }
}
