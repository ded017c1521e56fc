use std::sync::OnceLock;

use crate::{
    Error, InterfaceClass, Limits, Native, System, Transport,
    find::find,
    port::failed,
    transport::opened,
    usbscan::{
        Bitness, ChannelInfo, DeviceDescriptor, DriverVersion, GetDescriptor, IOCTL_CANCEL_IO,
        IOCTL_GET_CHANNEL_ALIGN_RQST, IOCTL_GET_DEVICE_DESCRIPTOR, IOCTL_GET_PIPE_CONFIGURATION,
        IOCTL_GET_USB_DESCRIPTOR, IOCTL_GET_VERSION, IOCTL_READ_REGISTERS, IOCTL_RESET_PIPE,
        IOCTL_SEND_USB_REQUEST, IOCTL_SET_TIMEOUT, IOCTL_WAIT_ON_DEVICE_EVENT,
        IOCTL_WRITE_REGISTERS, IoBlock, IoBlockEx, MAX_NUM_PIPES, PipeConfiguration,
        PipeInformation, PipeType, Timeouts,
    },
};

/// An open still-image device on USB.
pub struct Scanner {
    name: String,
    path: String,
    transport: Box<dyn Transport>,
    limits: Limits,
    /// The largest packet of the interrupt pipe, once it is known.
    event_size: OnceLock<usize>,
}

/// The data stage of [`Scanner::request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// There is none.
    None,
    /// So many bytes from the device, 65535 at most
    In(usize),
    /// These to the device, 65535 at most
    Out(&'a [u8]),
}

impl Scanner {
    /// Opens a scanner of this computer: by its name (`Usbscan0`), its path, or, with `None`, the
    /// only one. It works with the pipes of the highest index of each kind.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or what `CreateFileW` says.
    pub fn open(name: Option<&str>) -> Result<Self, Error> {
        Self::open_on(&Native, name, None)
    }

    /// [`Scanner::open`] on another [`System`], and with the pipe of index `pipe` in the table of
    /// [`Scanner::pipes`] in place of the default of its kind.
    ///
    /// # Errors
    /// The same.
    pub fn open_on(
        system: &dyn System,
        name: Option<&str>,
        pipe: Option<u32>,
    ) -> Result<Self, Error> {
        let found = find(system, InterfaceClass::Image, name)?;
        let mut path = found.path;
        if let Some(index) = pipe {
            path = format!(r"{path}\{index}");
        }
        Ok(Self {
            name: found.name,
            transport: system.open(&path)?,
            path,
            limits: Limits::default(),
            event_size: OnceLock::new(),
        })
    }

    opened!("Usbscan0");

    /// Limits every later request. At first there are none but the driver's own
    /// ([`Scanner::set_timeouts`]).
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The driver's version (`IOCTL_GET_VERSION`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn version(&self) -> Result<DriverVersion, Error> {
        self.answer("IOCTL_GET_VERSION", IOCTL_GET_VERSION, &[])
            .map(|answer| DriverVersion::from_bytes(&answer))
    }

    /// Who made the device (`IOCTL_GET_DEVICE_DESCRIPTOR`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn descriptor(&self) -> Result<DeviceDescriptor, Error> {
        // The page names the structure as input, too.
        self.answer(
            "IOCTL_GET_DEVICE_DESCRIPTOR",
            IOCTL_GET_DEVICE_DESCRIPTOR,
            &[0; DeviceDescriptor::SIZE],
        )
        .map(|answer| DeviceDescriptor::from_bytes(&answer))
    }

    /// A descriptor as the device sends it, `longest` bytes at most
    /// (`IOCTL_GET_USB_DESCRIPTOR`). `kind` is 1 for the device, 2 a configuration, 3 a string.
    ///
    /// # Errors
    /// The device has none, or the driver refused.
    pub fn usb_descriptor(
        &self,
        kind: u8,
        index: u8,
        language: u16,
        longest: u16,
    ) -> Result<Vec<u8>, Error> {
        let request = GetDescriptor {
            descriptor_type: kind,
            index,
            language_id: language,
            length: longest,
        };
        let mut answer = vec![0; longest.into()];
        let bytes = self.control(
            "IOCTL_GET_USB_DESCRIPTOR",
            IOCTL_GET_USB_DESCRIPTOR,
            &request.to_bytes(),
            &mut answer,
        )?;
        answer.truncate(bytes);
        Ok(answer)
    }

    /// The endpoints of the device (`IOCTL_GET_PIPE_CONFIGURATION`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn pipes(&self) -> Result<Vec<PipeInformation>, Error> {
        self.answer(
            "IOCTL_GET_PIPE_CONFIGURATION",
            IOCTL_GET_PIPE_CONFIGURATION,
            &[],
        )
        .map(|answer| {
            let mut table = [PipeInformation::default(); MAX_NUM_PIPES];
            PipeConfiguration::from_bytes(&answer, &mut table)
                .pipes
                .to_vec()
        })
    }

    /// The largest packets of this handle's pipes (`IOCTL_GET_CHANNEL_ALIGN_RQST`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn packet_sizes(&self) -> Result<ChannelInfo, Error> {
        self.answer(
            "IOCTL_GET_CHANNEL_ALIGN_RQST",
            IOCTL_GET_CHANNEL_ALIGN_RQST,
            &[],
        )
        .map(|answer| ChannelInfo::from_bytes(&answer))
    }

    /// Reads `length` bytes of registers: a vendor request with wValue `offset` and wIndex `index`
    /// (`IOCTL_READ_REGISTERS`). The answer may be shorter.
    ///
    /// # Errors
    /// [`Error::TooLong`], or the device or driver refused.
    pub fn read_registers(&self, offset: u16, index: u16, length: usize) -> Result<Vec<u8>, Error> {
        let mut buffer = vec![0; length];
        let block = block(offset, index, &mut buffer)?.to_bytes(OWN);
        let bytes = self.control(
            "IOCTL_READ_REGISTERS",
            IOCTL_READ_REGISTERS,
            block.as_bytes(),
            &mut buffer,
        )?;
        buffer.truncate(bytes);
        Ok(buffer)
    }

    /// Writes registers: a vendor request with wValue `offset` and wIndex `index`
    /// (`IOCTL_WRITE_REGISTERS`).
    ///
    /// # Errors
    /// [`Error::TooLong`], or the device or driver refused.
    pub fn write_registers(&self, offset: u16, index: u16, bytes: &[u8]) -> Result<(), Error> {
        let mut buffer = bytes.to_vec();
        let block = block(offset, index, &mut buffer)?.to_bytes(OWN);
        // `buffer` lives until the request has ended: pbyData points to it.
        self.control(
            "IOCTL_WRITE_REGISTERS",
            IOCTL_WRITE_REGISTERS,
            block.as_bytes(),
            &mut [],
        )
        .map(drop)
    }

    /// A vendor request to the device on the control pipe (`IOCTL_SEND_USB_REQUEST`). Gives what
    /// the device sent.
    ///
    /// # Errors
    /// [`Error::TooLong`], or the device or driver refused.
    pub fn request(
        &self,
        request: u8,
        value: u16,
        index: u16,
        data: Data,
    ) -> Result<Vec<u8>, Error> {
        let mut buffer = match data {
            Data::None => Vec::new(),
            Data::In(length) => vec![0; length],
            Data::Out(bytes) => bytes.to_vec(),
        };
        // Without data the page wants FALSE.
        let direction_in = matches!(data, Data::In(1..));
        let block = IoBlockEx {
            block: block(value, index, &mut buffer)?,
            request,
            // The documentation says both that it is used and that it is not. This is what it
            // would be.
            request_type: if direction_in { 0xC0 } else { 0x40 },
            direction_in,
        }
        .to_bytes(OWN);
        // Of a write, too, the page wants the data's buffer as output.
        let bytes = self.control(
            "IOCTL_SEND_USB_REQUEST",
            IOCTL_SEND_USB_REQUEST,
            block.as_bytes(),
            &mut buffer,
        )?;
        buffer.truncate(if direction_in { bytes } else { 0 });
        Ok(buffer)
    }

    /// Takes image data from the bulk IN pipe, by one `ReadFile`. Fewer bytes than asked for mean
    /// that the device ended its transfer.
    ///
    /// # Errors
    /// The device stalled, went away, or took too long.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.transport
            .read(buffer, &self.limits)
            .map_err(failed("ReadFile"))
    }

    /// Sends commands to the bulk OUT pipe, by one `WriteFile`.
    ///
    /// # Errors
    /// The device stalled, went away, or took too long.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        self.transport
            .write(bytes, &self.limits)
            .map_err(failed("WriteFile"))
    }

    /// Waits for a packet of the interrupt pipe, a button for example, and gives its bytes
    /// (`IOCTL_WAIT_ON_DEVICE_EVENT`).
    ///
    /// # Errors
    /// The device has no such pipe; it was cancelled, also by Windows going to sleep.
    pub fn wait_event(&self) -> Result<Vec<u8>, Error> {
        let size = if let Some(size) = self.event_size.get() {
            *size
        } else {
            let size = usize::try_from(self.packet_sizes()?.event).unwrap_or(usize::MAX);
            // A packet of USB has 1024 bytes at most.
            *self.event_size.get_or_init(|| size.clamp(1, 1024))
        };
        let mut packet = vec![0; size];
        let bytes = self.control(
            "IOCTL_WAIT_ON_DEVICE_EVENT",
            IOCTL_WAIT_ON_DEVICE_EVENT,
            &[],
            &mut packet,
        )?;
        packet.truncate(bytes);
        Ok(packet)
    }

    /// Cancels what is under way on a pipe (`IOCTL_CANCEL_IO`).
    ///
    /// # Errors
    /// There is no such pipe.
    pub fn cancel(&self, pipe: PipeType) -> Result<(), Error> {
        self.order("IOCTL_CANCEL_IO", IOCTL_CANCEL_IO, pipe)
    }

    /// Cancels what is under way on a pipe, and clears its stall (`IOCTL_RESET_PIPE`).
    ///
    /// # Errors
    /// There is no such pipe.
    pub fn reset(&self, pipe: PipeType) -> Result<(), Error> {
        self.order("IOCTL_RESET_PIPE", IOCTL_RESET_PIPE, pipe)
    }

    /// How long transfers may take, by the driver's clock (`IOCTL_SET_TIMEOUT`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), Error> {
        self.control(
            "IOCTL_SET_TIMEOUT",
            IOCTL_SET_TIMEOUT,
            &timeouts.to_bytes(),
            &mut [],
        )
        .map(drop)
    }

    fn order(&self, request: &'static str, code: u32, pipe: PipeType) -> Result<(), Error> {
        self.control(request, code, &pipe.to_bytes(), &mut [])
            .map(drop)
    }

    fn answer<const N: usize>(
        &self,
        request: &'static str,
        code: u32,
        input: &[u8],
    ) -> Result<[u8; N], Error> {
        let mut answer = [0; N];
        let bytes = self.control(request, code, input, &mut answer)?;
        if bytes < N {
            return Err(Error::ShortAnswer { request, bytes });
        }
        Ok(answer)
    }

    fn control(
        &self,
        request: &'static str,
        code: u32,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, Error> {
        self.transport
            .control(code, input, output, &self.limits)
            .map_err(failed(request))
    }
}

/// How wide the pointers of this program are.
const OWN: Bitness = if size_of::<usize>() == size_of::<u32>() {
    Bitness::Bits32
} else {
    Bitness::Native
};

/// `IO_BLOCK` for a buffer: `pbyData` is its address, or null where it is empty.
fn block(offset: u16, index: u16, buffer: &mut [u8]) -> Result<IoBlock, Error> {
    let length = u16::try_from(buffer.len()).map_err(|_| Error::TooLong {
        bytes: buffer.len(),
    })?;
    let data = if length == 0 {
        0
    } else {
        buffer.as_mut_ptr().expose_provenance() as u64
    };
    Ok(IoBlock {
        offset: offset.into(),
        length: length.into(),
        data,
        index: index.into(),
    })
}
