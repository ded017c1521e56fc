use parscan_core::ioctl::parallel::{
    IOCTL_IEEE1284_GET_MODE, IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEFAULT_MODES,
    IOCTL_PAR_GET_DEVICE_CAPS, IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_QUERY_DEVICE_ID,
    IOCTL_PAR_QUERY_INFORMATION, IOCTL_PAR_QUERY_LOCATION, IOCTL_PAR_QUERY_RAW_DEVICE_ID,
    IOCTL_PAR_SET_INFORMATION, IOCTL_PAR_SET_READ_ADDRESS, IOCTL_PAR_SET_WRITE_ADDRESS,
    IOCTL_SERIAL_GET_TIMEOUTS, IOCTL_SERIAL_SET_TIMEOUTS, SetInformation,
};

use crate::{
    Error, Failure, IeeeModes, InterfaceClass, Limits, Native, NegotiationMask, ParStatus,
    SerialTimeouts, System, Transport, find::find, transport::opened,
};

/// The longest device ID, 65535 bytes with its prefix, and its NUL.
const LONGEST_ID: usize = 0x1_0000;
/// `LPTn.m` and its NUL, and more.
const LONGEST_LOCATION: usize = 64;

/// An open device on a parallel port.
///
/// A port can be open once at a time. What was chosen here (modes, addresses, time-outs) is
/// forgotten when it is closed, which dropping it does.
pub struct Port {
    name: String,
    path: String,
    transport: Box<dyn Transport>,
    limits: Limits,
}

/// One call, with what it needs.
pub(crate) struct Request<'a> {
    pub(crate) name: &'static str,
    pub(crate) code: u32,
    pub(crate) input: &'a [u8],
}

impl Port {
    /// Opens a port of this computer: by its name (`LPT1`), its path, or, with `None`, the only
    /// one.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or what `CreateFileW` says:
    /// [`Condition::AccessDenied`](crate::Condition::AccessDenied) where another program has the
    /// port open.
    pub fn open(name: Option<&str>) -> Result<Self, Error> {
        Self::open_on(&Native, name)
    }

    /// [`Port::open`] on another [`System`].
    ///
    /// # Errors
    /// The same.
    pub fn open_on(system: &dyn System, name: Option<&str>) -> Result<Self, Error> {
        let found = find(system, InterfaceClass::ParallelDevice, name)?;
        let transport = match found.opened {
            Some(transport) => transport,
            None => system.open(&found.path)?,
        };
        Ok(Self::new(
            &found.name,
            &found.path,
            transport,
            Limits::default(),
        ))
    }

    pub(crate) fn new(
        name: &str,
        path: &str,
        transport: Box<dyn Transport>,
        limits: Limits,
    ) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_owned(),
            transport,
            limits,
        }
    }

    pub(crate) fn into_transport(self) -> Box<dyn Transport> {
        self.transport
    }

    opened!("LPT1");

    /// Limits every later request. At first there are none.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What the status lines say (`IOCTL_PAR_QUERY_INFORMATION`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn status(&self) -> Result<ParStatus, Error> {
        self.answer(&Request {
            name: "IOCTL_PAR_QUERY_INFORMATION",
            code: IOCTL_PAR_QUERY_INFORMATION,
            input: &[],
        })
        .map(ParStatus::from_bytes)
    }

    /// Resets and initialises the device, and waits until it is ready, some seconds at most
    /// (`IOCTL_PAR_SET_INFORMATION`).
    ///
    /// # Errors
    /// The device's condition, if it is not ready.
    pub fn initialize(&self) -> Result<(), Error> {
        self.order(&Request {
            name: "IOCTL_PAR_SET_INFORMATION",
            code: IOCTL_PAR_SET_INFORMATION,
            input: &SetInformation.to_bytes(),
        })
    }

    /// What the device says it is, without length prefix and NUL (`IOCTL_PAR_QUERY_DEVICE_ID`).
    ///
    /// # Errors
    /// [`Condition::Protocol`](crate::Condition::Protocol) where the device has no ID.
    pub fn device_id(&self) -> Result<Vec<u8>, Error> {
        self.text(
            &Request {
                name: "IOCTL_PAR_QUERY_DEVICE_ID",
                code: IOCTL_PAR_QUERY_DEVICE_ID,
                input: &[],
            },
            LONGEST_ID,
        )
    }

    /// The same with the two bytes of the length prefix, as the device sent them: for
    /// [`DeviceId`](crate::DeviceId) (`IOCTL_PAR_QUERY_RAW_DEVICE_ID`).
    ///
    /// # Errors
    /// [`Condition::Protocol`](crate::Condition::Protocol) where the device has no ID.
    pub fn raw_device_id(&self) -> Result<Vec<u8>, Error> {
        self.text(
            &Request {
                name: "IOCTL_PAR_QUERY_RAW_DEVICE_ID",
                code: IOCTL_PAR_QUERY_RAW_DEVICE_ID,
                input: &[],
            },
            LONGEST_ID + 2,
        )
    }

    /// The modes that port and device have (`IOCTL_PAR_GET_DEVICE_CAPS`). Those in `exclude` are
    /// not used from now on.
    ///
    /// # Errors
    /// The driver refused.
    pub fn device_modes(&self, exclude: IeeeModes) -> Result<IeeeModes, Error> {
        self.answer(&Request {
            name: "IOCTL_PAR_GET_DEVICE_CAPS",
            code: IOCTL_PAR_GET_DEVICE_CAPS,
            input: &exclude.to_bytes(),
        })
        .map(IeeeModes::from_bytes)
    }

    /// The modes in use (`IOCTL_IEEE1284_GET_MODE`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn modes(&self) -> Result<NegotiationMask, Error> {
        self.answer(&Request {
            name: "IOCTL_IEEE1284_GET_MODE",
            code: IOCTL_IEEE1284_GET_MODE,
            input: &[],
        })
        .map(NegotiationMask::from_bytes)
    }

    /// The modes that are in use when no program has chosen others (`IOCTL_PAR_GET_DEFAULT_MODES`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn default_modes(&self) -> Result<NegotiationMask, Error> {
        self.answer(&Request {
            name: "IOCTL_PAR_GET_DEFAULT_MODES",
            code: IOCTL_PAR_GET_DEFAULT_MODES,
            input: &[],
        })
        .map(NegotiationMask::from_bytes)
    }

    /// Chooses the fastest of these modes for each direction and gives the two that were chosen
    /// (`IOCTL_IEEE1284_NEGOTIATE`).
    ///
    /// # Errors
    /// Port or device have none of them.
    pub fn negotiate(&self, read: IeeeModes, write: IeeeModes) -> Result<NegotiationMask, Error> {
        self.answer(&Request {
            name: "IOCTL_IEEE1284_NEGOTIATE",
            code: IOCTL_IEEE1284_NEGOTIATE,
            input: &NegotiationMask { read, write }.to_bytes(),
        })
        .map(NegotiationMask::from_bytes)
    }

    /// The ECP channel or EPP address of later reads (`IOCTL_PAR_SET_READ_ADDRESS`).
    ///
    /// # Errors
    /// The driver refused: an ECP channel is 127 at most.
    pub fn set_read_address(&self, address: u8) -> Result<(), Error> {
        self.order(&Request {
            name: "IOCTL_PAR_SET_READ_ADDRESS",
            code: IOCTL_PAR_SET_READ_ADDRESS,
            input: &[address],
        })
    }

    /// The ECP channel or EPP address of later writes (`IOCTL_PAR_SET_WRITE_ADDRESS`).
    ///
    /// # Errors
    /// The driver refused: an ECP channel is 127 at most.
    pub fn set_write_address(&self, address: u8) -> Result<(), Error> {
        self.order(&Request {
            name: "IOCTL_PAR_SET_WRITE_ADDRESS",
            code: IOCTL_PAR_SET_WRITE_ADDRESS,
            input: &[address],
        })
    }

    /// Whether no client uses the port at this moment (`IOCTL_PAR_IS_PORT_FREE`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn is_free(&self) -> Result<bool, Error> {
        let [free] = self.answer(&Request {
            name: "IOCTL_PAR_IS_PORT_FREE",
            code: IOCTL_PAR_IS_PORT_FREE,
            input: &[],
        })?;
        Ok(free != 0)
    }

    /// `LPTn`, by the driver's own word (`IOCTL_PAR_QUERY_LOCATION`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn location(&self) -> Result<String, Error> {
        let name = self.text(
            &Request {
                name: "IOCTL_PAR_QUERY_LOCATION",
                code: IOCTL_PAR_QUERY_LOCATION,
                input: &[],
            },
            LONGEST_LOCATION,
        )?;
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// How long transfers may take, by the driver's clock (`IOCTL_SERIAL_GET_TIMEOUTS`).
    ///
    /// # Errors
    /// The driver refused.
    pub fn timeouts(&self) -> Result<SerialTimeouts, Error> {
        self.answer(&Request {
            name: "IOCTL_SERIAL_GET_TIMEOUTS",
            code: IOCTL_SERIAL_GET_TIMEOUTS,
            input: &[],
        })
        .map(|answer| SerialTimeouts::from_bytes(&answer))
    }

    /// Sets the above (`IOCTL_SERIAL_SET_TIMEOUTS`). A transfer that takes longer fails with
    /// [`Condition::TimedOut`](crate::Condition::TimedOut) and the bytes that went.
    ///
    /// # Errors
    /// The driver refused.
    pub fn set_timeouts(&self, timeouts: SerialTimeouts) -> Result<(), Error> {
        self.order(&Request {
            name: "IOCTL_SERIAL_SET_TIMEOUTS",
            code: IOCTL_SERIAL_SET_TIMEOUTS,
            input: &timeouts.to_bytes(),
        })
    }

    /// Sends bytes in the write mode, by one `WriteFile`. Gives how many went.
    ///
    /// # Errors
    /// With the bytes that went until then ([`Error::transferred`]): the device's condition, a
    /// time-out, a cancellation.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        self.transport
            .write(bytes, &self.limits)
            .map_err(failed("WriteFile"))
    }

    /// Takes what the device has in the read mode, by one `ReadFile`. Gives how many came: none,
    /// where it has nothing at this moment and no time-out was set.
    ///
    /// # Errors
    /// With the bytes that came until then: a time-out, a cancellation.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.transport
            .read(buffer, &self.limits)
            .map_err(failed("ReadFile"))
    }

    fn control(&self, request: &Request, output: &mut [u8]) -> Result<usize, Error> {
        self.transport
            .control(request.code, request.input, output, &self.limits)
            .map_err(failed(request.name))
    }

    /// A request without an answer.
    pub(crate) fn order(&self, request: &Request) -> Result<(), Error> {
        self.control(request, &mut []).map(drop)
    }

    /// A request whose answer has a fixed size.
    pub(crate) fn answer<const N: usize>(&self, request: &Request) -> Result<[u8; N], Error> {
        let mut answer = [0; N];
        let bytes = self.control(request, &mut answer)?;
        if bytes < N {
            return Err(Error::ShortAnswer {
                request: request.name,
                bytes,
            });
        }
        Ok(answer)
    }

    /// A request whose answer is as long as it is.
    pub(crate) fn bytes(&self, request: &Request, longest: usize) -> Result<Vec<u8>, Error> {
        let mut answer = vec![0; longest];
        let bytes = self.control(request, &mut answer)?;
        answer.truncate(bytes);
        Ok(answer)
    }

    /// A request whose answer is text with a NUL, of which the text.
    fn text(&self, request: &Request, longest: usize) -> Result<Vec<u8>, Error> {
        let mut answer = self.bytes(request, longest)?;
        if answer.last() == Some(&0) {
            answer.pop();
        }
        Ok(answer)
    }
}

/// Says which request failed.
pub(crate) fn failed(request: &'static str) -> impl Fn(Failure) -> Error {
    move |failure| Error::Failed { request, failure }
}
