use std::fmt::Write as _;

use parscan_client::{DeviceId, Error, IeeeModes, NegotiationMask, ParStatus, Port, mode_names};
use serde::Serialize;

use crate::{
    complaint::Complaint,
    render::{hex, or_dash, printable, report},
};

#[derive(Serialize)]
pub(super) struct Status {
    port: String,
    ready: bool,
    /// The condition in words
    condition: &'static str,
    /// The names of the set bits of `PAR_QUERY_INFORMATION.Status`
    flags: Vec<&'static str>,
    bits: u8,
    /// Whether no other client uses the port; `null` where the driver does not tell
    free: Option<bool>,
    modes: Option<Modes>,
}

#[derive(Serialize)]
struct Modes {
    read: Vec<String>,
    write: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Initialized {
    port: String,
    ready: bool,
}

#[derive(Serialize)]
pub(super) struct Identity {
    port: String,
    id: String,
    manufacturer: Option<String>,
    model: Option<String>,
    class: Option<String>,
    command_set: Option<String>,
    fields: Vec<Field>,
    /// All bytes, with the length prefix
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

#[derive(Serialize)]
struct Field {
    key: String,
    value: String,
}

#[derive(Serialize)]
pub(super) struct Caps {
    port: String,
    modes: Vec<String>,
    bits: u16,
    default: Modes,
}

#[derive(Serialize)]
pub(super) struct Mode {
    port: String,
    #[serde(flatten)]
    chosen: Modes,
    /// Whether they were chosen by this command
    negotiated: bool,
}

report!(Status);
report!(Initialized);
report!(Identity);
report!(Caps);
report!(Mode);

impl From<NegotiationMask> for Modes {
    fn from(mask: NegotiationMask) -> Self {
        Self {
            read: mode_names(mask.read),
            write: mode_names(mask.write),
        }
    }
}

/// `parscanctl status`
pub(super) fn status(port: &Port) -> Result<Status, Complaint> {
    let status = port.status()?;
    Ok(Status {
        port: port.name().to_owned(),
        ready: is_ready(status),
        condition: condition(status),
        flags: status.iter_names().map(|(name, _)| name).collect(),
        bits: status.bits(),
        free: port.is_free().ok(),
        modes: port.modes().ok().map(Modes::from),
    })
}

fn is_ready(status: ParStatus) -> bool {
    status.bits() == ParStatus::SELECTED.bits()
}

/// What the flags mean, the worst first.
fn condition(status: ParStatus) -> &'static str {
    [
        (ParStatus::NOT_CONNECTED, "nothing is attached"),
        (ParStatus::POWER_OFF, "no power"),
        (ParStatus::PAPER_EMPTY, "out of paper"),
        (ParStatus::OFF_LINE, "off-line"),
        (ParStatus::BUSY, "busy"),
        (ParStatus::SELECTED, "ready"),
    ]
    .into_iter()
    .find(|(flag, _)| status.contains(*flag))
    .map_or("unknown", |(_, what)| what)
}

impl Status {
    fn lines(&self) -> String {
        let flags = if self.flags.is_empty() {
            "none"
        } else {
            &self.flags.join(" ")
        };
        let mut text = format!(
            "{}: {}\n  flags  0x{:02x} {flags}\n",
            self.port, self.condition, self.bits
        );
        if let Some(free) = self.free {
            let free = if free { "free" } else { "in use" };
            let _ = writeln!(text, "  port   {free}");
        }
        if let Some(modes) = &self.modes {
            let _ = writeln!(text, "  modes  {}", modes.line());
        }
        text
    }
}

impl Modes {
    fn line(&self) -> String {
        format!(
            "reading {}, writing {}",
            or_dash(&self.read),
            or_dash(&self.write)
        )
    }
}

/// `parscanctl init`
pub(super) fn initialize(port: &Port) -> Result<Initialized, Complaint> {
    port.initialize()?;
    Ok(Initialized {
        port: port.name().to_owned(),
        ready: true,
    })
}

impl Initialized {
    fn lines(&self) -> String {
        format!("{}: initialised, ready\n", self.port)
    }
}

/// `parscanctl id`
pub(super) fn id(port: &Port, with_raw: bool) -> Result<Identity, Complaint> {
    let raw = port.raw_device_id()?;
    if raw.len() <= 2 {
        return Err(Error::ShortAnswer {
            request: "IOCTL_PAR_QUERY_RAW_DEVICE_ID",
            bytes: raw.len(),
        }
        .into());
    }
    let id = DeviceId(&raw);
    let value = |keys| id.get(keys).map(printable);
    Ok(Identity {
        port: port.name().to_owned(),
        id: printable(id.cooked()),
        manufacturer: value(DeviceId::MANUFACTURER),
        model: value(DeviceId::MODEL),
        class: value(DeviceId::CLASS),
        command_set: value(DeviceId::COMMAND_SET),
        fields: id
            .pairs()
            .map(|(key, value)| Field {
                key: printable(key),
                value: printable(value),
            })
            .collect(),
        raw: with_raw.then(|| hex(&raw)),
    })
}

impl Identity {
    fn lines(&self) -> String {
        let name = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        let mut text = format!(
            "{}: {} {}\n",
            self.port,
            name(&self.manufacturer),
            name(&self.model)
        );
        let width = self.fields.iter().map(|f| f.key.len()).max().unwrap_or(0);
        for field in &self.fields {
            let _ = writeln!(text, "  {:width$}  {}", field.key, field.value);
        }
        if let Some(raw) = &self.raw {
            let _ = writeln!(text, "  raw: {raw}");
        }
        text
    }
}

/// `parscanctl caps`
pub(super) fn caps(port: &Port, exclude: IeeeModes) -> Result<Caps, Complaint> {
    let modes = port.device_modes(exclude)?;
    Ok(Caps {
        port: port.name().to_owned(),
        modes: mode_names(modes),
        bits: modes.bits(),
        default: port.default_modes()?.into(),
    })
}

impl Caps {
    fn lines(&self) -> String {
        format!(
            "{}: {}\n  by default {}\n",
            self.port,
            or_dash(&self.modes),
            self.default.line()
        )
    }
}

/// `parscanctl mode`
pub(super) fn mode(
    port: &Port,
    read: Option<IeeeModes>,
    write: Option<IeeeModes>,
) -> Result<Mode, Complaint> {
    let negotiated = read.is_some() || write.is_some();
    let modes = if negotiated {
        negotiate(port, read, write)?
    } else {
        port.modes()?
    };
    Ok(Mode {
        port: port.name().to_owned(),
        chosen: modes.into(),
        negotiated,
    })
}

/// Chooses modes. The direction that was not given keeps what it has.
pub(super) fn negotiate(
    port: &Port,
    read: Option<IeeeModes>,
    write: Option<IeeeModes>,
) -> Result<NegotiationMask, Error> {
    let now = port.modes()?;
    port.negotiate(read.unwrap_or(now.read), write.unwrap_or(now.write))
}

impl Mode {
    fn lines(&self) -> String {
        let how = if self.negotiated {
            "a negotiation chooses "
        } else {
            ""
        };
        format!("{}: {how}{}\n", self.port, self.chosen.line())
    }
}
