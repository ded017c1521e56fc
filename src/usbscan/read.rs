use super::ScannerCore;
use crate::{
    ioctl::Status,
    kernel::{Data, Exchange, Irp, Next, Shared, Transfer},
    usb::{BulkRead, Step},
};

/// `ReadFile`: [`BulkRead`] says what it is made of. The channel's own memory is its bounce buffer.
pub(super) struct Reads {
    core: Shared<ScannerCore>,
    index: usize,
    stream: BulkRead,
}

impl Reads {
    pub(super) const fn new(core: Shared<ScannerCore>, index: usize, stream: BulkRead) -> Self {
        Self {
            core,
            index,
            stream,
        }
    }
}

impl Exchange for Reads {
    fn begin(&mut self, irp: &Irp) {
        self.stream.begin(irp.transfer_length());
    }

    fn next(&mut self, irp: &mut Irp, own: &mut [u8]) -> Next {
        loop {
            let data = match self.stream.next() {
                Step::Copy { from, to, length } => {
                    let end = from.saturating_add(length);
                    let bytes = own.get(from..end).unwrap_or_default();
                    match irp.copy_to_caller(to, bytes) {
                        Ok(()) => continue,
                        Err(status) => return Next::End(status, 0),
                    }
                }
                Step::Direct { to, length } => Data::Caller { offset: to, length },
                Step::Bounce { length } => Data::Own { length },
                Step::Done { information } => return Next::End(Status::SUCCESS, information),
            };
            return match self.core.pipe(self.index) {
                Some(pipe) => Next::Transfer(Transfer::Pipe { pipe, is_in: true }, data),
                None => Next::End(Status::INVALID_PARAMETER, 0),
            };
        }
    }

    fn moved(&mut self, count: usize) {
        self.stream.received(count);
    }

    fn reset(&mut self) {
        self.stream.reset();
    }
}
