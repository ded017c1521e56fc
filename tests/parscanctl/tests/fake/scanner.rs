//! A scanner on USB, by the tables of usbscan.h. The offsets are those of a program of this
//! host's width.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use parscan_client::{Limits, Moved, Transport};

use super::{Shared, answer, failure, hex};

/// What a scanner does.
#[derive(Clone)]
pub(crate) struct ScannerModel {
    /// Packets of the interrupt pipe; then the user presses Ctrl-C
    pub(crate) events: &'static [&'static [u8]],
    /// Bytes of the image
    pub(crate) image: usize,
    /// What every control request ends with, if not 0
    pub(crate) fails: u32,
}

pub(super) struct Open {
    model: ScannerModel,
    shared: Shared,
    state: Mutex<State>,
}

struct State {
    events: VecDeque<&'static [u8]>,
    sent: usize,
}

const POINTER: usize = size_of::<usize>();

fn dword(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

impl Open {
    pub(super) fn new(model: ScannerModel, shared: Shared) -> Self {
        let events = model.events.iter().copied().collect();
        Self {
            model,
            shared,
            state: Mutex::new(State { events, sent: 0 }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A vendor request: the setup packet by the table of the usbscan pages, into the log.
    fn vendor(&self, block: &[u8], request: u8, direction_in: bool, output: &mut [u8]) -> Moved {
        let (value, length) = (dword(block, 0), dword(block, 4));
        let data = usize::from_le_bytes(block[8..8 + POINTER].try_into().unwrap());
        let index = dword(block, 8 + POINTER);
        let length_bytes = usize::try_from(length).unwrap();
        let bm_request_type = if direction_in { 0xC0 } else { 0x40 };
        let mut line = format!(
            "SETUP {bm_request_type:02x} {request:02x} wValue {value:04x} wIndex {index:04x} \
             wLength {length:04x}"
        );
        if !direction_in && length_bytes > 0 {
            let source = std::ptr::with_exposed_provenance::<u8>(data);
            // SAFETY: pbyData of a write points to uLength bytes, which live until the request has
            // ended: that is what this test is about.
            let bytes = unsafe { std::slice::from_raw_parts(source, length_bytes) };
            line.push(':');
            line.push_str(&hex(bytes));
        }
        if direction_in || (length_bytes > 0 && !output.is_empty()) {
            assert_eq!(data, output.as_ptr().addr(), "pbyData is the output buffer");
            assert_eq!(output.len(), length_bytes);
        }
        self.shared.log(line);
        if self.model.fails != 0 {
            return Err(failure(self.model.fails, 0));
        }
        if direction_in {
            for (byte, number) in output.iter_mut().zip(0xA0..) {
                *byte = number;
            }
            return Ok(output.len());
        }
        Ok(0)
    }
}

impl Transport for Open {
    fn control(&self, code: u32, input: &[u8], output: &mut [u8], _: &Limits) -> Moved {
        // READ_REGISTERS, WRITE_REGISTERS and SEND_USB_REQUEST hold an address: logged by `vendor`.
        if !matches!(code, 0x8000_200C | 0x8000_2010 | 0x8000_2024) {
            self.shared.log(format!("IOCTL 0x{code:08x}{}", hex(input)));
        }
        match code {
            0x8000_2000 => answer(output, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]),
            0x8000_2008 => {
                let Some(packet) = self.state().events.pop_front() else {
                    self.shared.cancel.cancel();
                    return Err(failure(0xC000_0120, 0));
                };
                self.shared.pass(1500);
                answer(output, packet)
            }
            0x8000_200C | 0x8000_2010 => {
                assert_eq!(input.len(), if POINTER == 8 { 24 } else { 16 });
                let request = if dword(input, 4) > 1 { 4 } else { 0x0C };
                let is_read = code == 0x8000_200C;
                assert!(is_read || output.is_empty());
                self.vendor(input, request, is_read, output)
            }
            0x8000_2014 => answer(output, &[8, 0, 0, 0, 0, 2, 0, 0, 0x40, 0, 0, 0]),
            0x8000_2018 => answer(output, &[0xB8, 0x04, 0x10, 0x01, 0x02, 0x01, 0, 0]),
            0x8000_2024 => {
                let extension = 12 + POINTER;
                assert_eq!(input.len(), extension + 4);
                self.vendor(input, input[extension], input[extension + 2] != 0, output)
            }
            0x8000_2028 => {
                let mut pipes = [0; 68];
                pipes[0] = 3;
                pipes[4..28].copy_from_slice(&[
                    8, 0, 0x81, 16, 3, 0, 0, 0, // interrupt IN
                    0, 2, 0x82, 0, 2, 0, 0, 0, // bulk IN
                    0x40, 0, 0x03, 0, 2, 0, 0, 0, // bulk OUT
                ]);
                answer(output, &pipes)
            }
            0x8000_202C => {
                assert_eq!(input.len(), 12);
                Ok(0)
            }
            _ => Err(failure(0xC000_0010, 0)),
        }
    }

    fn read(&self, buffer: &mut [u8], _: &Limits) -> Moved {
        let mut state = self.state();
        let count = buffer.len().min(self.model.image - state.sent);
        let image = (0..251).cycle().skip(state.sent % 251);
        for (byte, pixel) in buffer[..count].iter_mut().zip(image) {
            *byte = pixel;
        }
        state.sent += count;
        self.shared.pass(count as u64 / 1000);
        self.shared
            .log(format!("ReadFile {} -> {count}", buffer.len()));
        Ok(count)
    }

    fn write(&self, bytes: &[u8], _: &Limits) -> Moved {
        self.shared.log(format!("WriteFile {} -> {0}", bytes.len()));
        Ok(bytes.len())
    }
}
