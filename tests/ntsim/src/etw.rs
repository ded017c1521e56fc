//! Event tracing and the error log: who registered as a provider, what sessions listen to, and what
//! came, decoded from TraceLogging's wire format.
//!
//! Sources: the pages of `EtwRegister` and its kin, of `IoAllocateErrorLogEntry` and of
//! `IO_ERROR_LOG_PACKET`; the format as TraceLoggingProvider.h documents it. That it is read rightly
//! is shown with an event that Microsoft's own crate wrote (`tests/tracing.rs`).

use core::fmt;
use std::collections::BTreeMap;

use crate::Nanos;
use crate::mem::{Kind, Va, peek, peek_bytes, poke};
use crate::nt::types::wide_z;
use crate::rules;
use crate::state::{DriverId, Kernel, Site, fail, with};

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtwValue {
    /// A text.
    Text(String),
    /// A number of any length.
    Number(u64),
}

impl fmt::Display for EtwValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Number(number) => write!(f, "{number:#x}"),
        }
    }
}

/// An event that reached a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtwEvent {
    /// When.
    pub at: Nanos,
    /// Name of the provider, by its traits.
    pub provider: String,
    /// Its GUID, as it is written.
    pub guid: String,
    /// Name of the event.
    pub name: String,
    /// `Level`
    pub level: u8,
    /// `Keyword`
    pub keyword: u64,
    /// Names and values.
    pub fields: Vec<(String, EtwValue)>,
}

impl EtwEvent {
    /// A field's text.
    ///
    /// # Panics
    /// If there is no such text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        match self.fields.iter().find(|(field, _)| field == name) {
            Some((_, EtwValue::Text(text))) => text,
            _ => panic!("no text {name} in {self}"),
        }
    }

    /// A field's number.
    ///
    /// # Panics
    /// If there is no such number.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        match self.fields.iter().find(|(field, _)| field == name) {
            Some((_, EtwValue::Number(number))) => *number,
            _ => panic!("no number {name} in {self}"),
        }
    }
}

impl fmt::Display for EtwEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (level {})", self.provider, self.name, self.level)?;
        for (name, value) in &self.fields {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// An entry of the error log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Name of the driver: the event's source.
    pub source: String,
    /// Name of the device object, or of the driver object: `%1` of the message.
    pub object: String,
    /// `ErrorCode`: the message.
    pub code: u32,
    /// `FinalStatus`
    pub status: u32,
    /// The insertion strings, `%2` and on.
    pub strings: Vec<String>,
}

struct Provider {
    driver: Option<DriverId>,
    guid: [u8; 16],
    callback: Va,
    context: Va,
    traits: Option<Vec<u8>>,
}

struct LogDraft {
    object: Va,
    size: usize,
    driver: Option<DriverId>,
    site: Site,
}

/// What the machine knows of event tracing.
#[derive(Default)]
pub(crate) struct Etw {
    providers: BTreeMap<u64, Provider>,
    last: u64,
    /// The level that a session listens to.
    level: Option<u8>,
    events: Vec<EtwEvent>,
    /// Calls of `EtwWriteTransfer`, whether or not a session listened.
    pub(crate) writes: u64,
    drafts: BTreeMap<Va, LogDraft>,
    log: Vec<LogEntry>,
}

impl Etw {
    pub(crate) fn new(level: Option<u8>) -> Self {
        Self {
            level,
            ..Self::default()
        }
    }

    pub(crate) fn events(&self) -> &[EtwEvent] {
        &self.events
    }

    pub(crate) fn log(&self) -> &[LogEntry] {
        &self.log
    }
}

/// What a driver leaves behind: providers, and log entries.
pub(crate) fn left_by(
    k: &Kernel,
    driver: DriverId,
    unload: &mut Vec<String>,
    leak: &mut Vec<String>,
) {
    let providers = k.etw.providers.values();
    let count = providers.filter(|it| it.driver == Some(driver)).count();
    if count > 0 {
        unload.push(format!("{count} ETW providers"));
    }
    let drafts = k.etw.drafts.values();
    for draft in drafts.filter(|it| it.driver == Some(driver)) {
        leak.push(format!("error log entry from {}", k.site_name(draft.site)));
    }
}

const SUCCESS: usize = 0;
const INVALID_HANDLE: usize = 0xC000_0008;
const INVALID_PARAMETER: usize = 0xC000_000D;
const NO_MEMORY: usize = 0xC000_0017;
/// `EVENT_CONTROL_CODE_DISABLE_PROVIDER` and `EVENT_CONTROL_CODE_ENABLE_PROVIDER`
const DISABLE: usize = 0;
const ENABLE: usize = 1;
/// `EVENT_CONTROL_CODE_CAPTURE_STATE`
const CAPTURE_STATE: usize = 2;

/// Calls the enable callback of a provider.
fn tell(guid: [u8; 16], callback: Va, context: Va, level: Option<u8>) {
    let (control, level) = match level {
        Some(level) => (ENABLE, usize::from(level)),
        None => (DISABLE, 0),
    };
    order(guid, callback, context, control, level);
}

fn order(guid: [u8; 16], callback: Va, context: Va, control: usize, level: usize) {
    if callback == 0 {
        return;
    }
    let source = with(|k| {
        let va = k.system_alloc(16, "a provider's GUID");
        crate::mem::poke_bytes(va, &guid);
        va
    });
    let keywords = if control == ENABLE { usize::MAX } else { 0 };
    let entry = crate::nt::Entry::now();
    crate::nt::guest(callback, &[source, control, level, keywords, 0, 0, context]);
    entry.check("EtwEnableCallback");
}

/// A session asks the providers to tell how things are.
pub(crate) fn capture_state() {
    let providers: Vec<_> = with(|k| {
        let all = k.etw.providers.values();
        all.map(|it| (it.guid, it.callback, it.context)).collect()
    });
    for (guid, callback, context) in providers {
        order(guid, callback, context, CAPTURE_STATE, 0);
    }
}

/// A session begins to listen to a level, or none listens any more.
pub(crate) fn listen(level: Option<u8>) {
    let providers: Vec<_> = with(|k| {
        k.etw.level = level;
        let all = k.etw.providers.values();
        all.map(|it| (it.guid, it.callback, it.context)).collect()
    });
    for (guid, callback, context) in providers {
        tell(guid, callback, context, level);
    }
}

pub(crate) extern "efiapi" fn etw_register(
    guid: Va,
    callback: Va,
    context: Va,
    handle: Va,
) -> usize {
    if guid == 0 || handle == 0 {
        return INVALID_PARAMETER;
    }
    let told = with(|k| {
        if k.take_injection() {
            return None;
        }
        k.etw.last += 0x10;
        let value = 0xFFFF_8000_0000_0000 | k.etw.last;
        let guid = peek(guid);
        let provider = Provider {
            driver: k.caller(),
            guid,
            callback,
            context,
            traits: None,
        };
        k.etw.providers.insert(value, provider);
        poke(handle, value);
        Some((guid, k.etw.level))
    });
    let Some((guid, level)) = told else {
        return NO_MEMORY;
    };
    if level.is_some() {
        tell(guid, callback, context, level);
    }
    SUCCESS
}

pub(crate) extern "efiapi" fn etw_unregister(handle: u64) -> usize {
    known(handle, "EtwUnregister");
    with(|k| k.etw.providers.remove(&handle));
    SUCCESS
}

/// Stops the machine unless the handle is one of the caller's.
fn known(handle: u64, function: &str) {
    let known = with(|k| {
        let caller = k.caller();
        let provider = k.etw.providers.get(&handle);
        provider.is_some_and(|it| it.driver == caller)
    });
    if !known {
        fail(
            rules::ETW_HANDLE,
            format!("{function} with {handle:#x}, which is not registered"),
        );
    }
}

pub(crate) extern "efiapi" fn etw_set_information(
    handle: u64,
    class: u32,
    information: Va,
    length: u32,
) -> usize {
    /// `EventProviderSetTraits`
    const SET_TRAITS: u32 = 2;
    known(handle, "EtwSetInformation");
    if class != SET_TRAITS {
        return 0xC000_0010;
    }
    let traits = peek_bytes(information, length as usize);
    // Their length, and a name with a NUL.
    let stated = traits.get(..2).map(|it| u16::from_le_bytes([it[0], it[1]]));
    if stated.map(u32::from) != Some(length) || !traits.get(2..).unwrap_or_default().contains(&0) {
        return INVALID_PARAMETER;
    }
    with(|k| {
        if k.take_injection() {
            return INVALID_HANDLE;
        }
        if let Some(provider) = k.etw.providers.get_mut(&handle) {
            provider.traits = Some(traits);
        }
        SUCCESS
    })
}

/// Bytes that are read one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let bytes = self.take(bytes)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |n, byte| n << 8 | u64::from(*byte)),
        )
    }

    fn text(&mut self) -> Option<String> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(length + 1)?;
        String::from_utf8(text[..length].to_vec()).ok()
    }

    fn wide(&mut self) -> Option<String> {
        let mut units = Vec::new();
        loop {
            let unit = u16::try_from(self.number(2)?).ok()?;
            if unit == 0 {
                return String::from_utf16(&units).ok();
            }
            units.push(unit);
        }
    }
}

/// Tags: seven bits a byte, the highest says that more follow.
fn tags(reader: &mut Reader<'_>) -> Option<()> {
    while reader.byte()? & 0x80 != 0 {}
    Some(())
}

/// Name and fields of an event, by its metadata and its values. `None`: they do not fit.
fn decode(metadata: &[u8], values: &[u8]) -> Option<(String, Vec<(String, EtwValue)>)> {
    let mut reader = Reader(metadata);
    let mut values = Reader(values);
    if reader.number(2)? != metadata.len() as u64 {
        return None;
    }
    tags(&mut reader)?;
    let name = reader.text()?;
    let mut fields = Vec::new();
    while !reader.0.is_empty() {
        let field = reader.text()?;
        let in_type = reader.byte()?;
        if in_type & 0x80 != 0 && reader.byte()? & 0x80 != 0 {
            tags(&mut reader)?;
        }
        // In-types without counts: those of scalars and texts.
        let value = match in_type & 0x7F {
            1 => EtwValue::Text(values.wide()?),
            2 => EtwValue::Text(values.text()?),
            3 | 4 => EtwValue::Number(values.number(1)?),
            5 | 6 => EtwValue::Number(values.number(2)?),
            7 | 8 | 13 | 20 => EtwValue::Number(values.number(4)?),
            9 | 10 | 21 => EtwValue::Number(values.number(8)?),
            22 => {
                let bytes = usize::try_from(values.number(2)?).ok()?;
                let mut text = Reader(values.take(bytes)?);
                let units: Option<Vec<_>> = (0..bytes / 2)
                    .map(|_| u16::try_from(text.number(2)?).ok())
                    .collect();
                EtwValue::Text(String::from_utf16(&units?).ok()?)
            }
            23 => {
                let bytes = usize::try_from(values.number(2)?).ok()?;
                EtwValue::Text(String::from_utf8(values.take(bytes)?.to_vec()).ok()?)
            }
            _ => return None,
        };
        fields.push((field, value));
    }
    values.0.is_empty().then_some((name, fields))
}

/// A GUID, as it is written.
fn guid_text(guid: [u8; 16]) -> String {
    // Three numbers are little-endian in memory, and first in the text.
    let number = u128::from_le_bytes(guid);
    let rest = u128::from_be_bytes(guid);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        number & 0xFFFF_FFFF,
        number >> 32 & 0xFFFF,
        number >> 48 & 0xFFFF,
        rest >> 48 & 0xFFFF,
        rest & 0xFFFF_FFFF_FFFF
    )
}

pub(crate) extern "efiapi" fn etw_write_transfer(
    handle: u64,
    descriptor: Va,
    _activity: Va,
    _related: Va,
    count: u32,
    data: Va,
) -> usize {
    const MOST: u32 = 128;
    known(handle, "EtwWriteTransfer");
    if count > MOST {
        return INVALID_PARAMETER;
    }
    let mut blocks: [Vec<u8>; 3] = Default::default();
    for index in 0..count as usize {
        let at = data + 16 * index;
        let address: u64 = peek(at);
        let size: u32 = peek(at + 8);
        let kind: u8 = peek(at + 12);
        let reserved: [u8; 3] = peek(at + 13);
        if kind > 2 || reserved != [0; 3] {
            fail(
                rules::ETW_EVENT,
                format!("block {index} has type {kind}, reserved bytes {reserved:?}"),
            );
        }
        let address = usize::try_from(address).unwrap_or(0);
        let (raised, paged) = with(|k| {
            let raised = k.sched.thread().irql > crate::nt::APC;
            (raised, k.mem.live(address).is_some_and(|block| block.paged))
        });
        if raised && paged {
            fail(
                rules::PAGED_AT_DISPATCH,
                format!("EtwWriteTransfer with paged memory, block {index}"),
            );
        }
        // A fault here is the driver's: the address is its.
        blocks[usize::from(kind)].extend(peek_bytes(address, size as usize));
    }
    let [values, metadata, traits] = blocks;
    let channel: u8 = peek(descriptor + 3);
    let level: u8 = peek(descriptor + 4);
    let keyword: u64 = peek(descriptor + 8);
    let event = (channel == 11)
        .then(|| decode(&metadata, &values))
        .flatten()
        .filter(|_| keyword != 0);
    let Some((name, fields)) = event else {
        fail(
            rules::ETW_EVENT,
            format!(
                "channel {channel}, keyword {keyword:#x}, metadata {metadata:02x?}, values {values:02x?}"
            ),
        );
    };
    let torn = with(|k| {
        k.etw.writes += 1;
        let now = k.now;
        let Some(provider) = k.etw.providers.get(&handle) else {
            return false;
        };
        // Without traits ETW takes the types for data; fault injection does that.
        let torn = provider.traits.as_ref().is_some_and(|its| *its != traits);
        let listened = k.etw.level.is_some_and(|its| its == 0 || its >= level);
        let event = EtwEvent {
            at: now,
            provider: Reader(traits.get(2..).unwrap_or_default())
                .text()
                .unwrap_or_default(),
            guid: guid_text(provider.guid),
            name,
            level,
            keyword,
            fields,
        };
        k.note(format!("ETW {event}"));
        if listened {
            k.etw.events.push(event);
        }
        torn
    });
    if torn {
        fail(
            rules::ETW_EVENT,
            "the event's traits are not those of the provider",
        );
    }
    SUCCESS
}

/// `ERROR_LOG_MAXIMUM_SIZE` of 64-bit Windows.
const LARGEST_ENTRY: usize = 240;
/// `FIELD_OFFSET(IO_ERROR_LOG_PACKET, DumpData)`
const ENTRY_HEAD: usize = 0x28;

pub(crate) extern "efiapi" fn io_allocate_error_log_entry(object: Va, size: u8) -> Va {
    let size = usize::from(size);
    let known = with(|k| {
        k.devices.get(&object).is_some_and(|device| !device.deleted)
            || k.drivers.iter().any(|driver| driver.object == object)
    });
    if !known || !(ENTRY_HEAD..=LARGEST_ENTRY).contains(&size) {
        fail(
            rules::ERROR_LOG,
            format!("IoAllocateErrorLogEntry of {size} bytes for {object:#x}"),
        );
    }
    with(|k| {
        if k.take_injection() {
            return 0;
        }
        let (driver, site) = (k.caller(), k.site());
        // What is never written is seen in the log.
        let kind = Kind::System("an error log entry");
        let va = k.mem.alloc(size, kind, false, None, site, || 0xA5);
        let draft = LogDraft {
            object,
            size,
            driver,
            site,
        };
        k.etw.drafts.insert(va, draft);
        va
    })
}

pub(crate) extern "efiapi" fn io_free_error_log_entry(entry: Va) {
    take_draft(entry, "IoFreeErrorLogEntry");
}

fn take_draft(entry: Va, function: &str) -> LogDraft {
    let draft = with(|k| k.etw.drafts.remove(&entry));
    draft.unwrap_or_else(|| {
        fail(
            rules::ERROR_LOG,
            format!("{function} with {entry:#x}, which is no entry"),
        )
    })
}

/// Name of what an entry is about, and of its driver.
fn names(k: &Kernel, object: Va) -> (String, String) {
    if let Some(device) = k.devices.get(&object) {
        let name = device.name.clone().unwrap_or_default();
        return (k.driver(device.driver).name.clone(), name);
    }
    let driver = k.drivers.iter().find(|driver| driver.object == object);
    let name = driver.map_or_else(String::new, |driver| driver.name.clone());
    (name.clone(), format!(r"\Driver\{name}"))
}

pub(crate) extern "efiapi" fn io_write_error_log_entry(entry: Va) {
    let draft = take_draft(entry, "IoWriteErrorLogEntry");
    let dump: u16 = peek(entry + 2);
    let count: u16 = peek(entry + 4);
    let offset: u16 = peek(entry + 6);
    let code: u32 = peek(entry + 0xC);
    let status: u32 = peek(entry + 0x14);
    let (dump, mut at) = (usize::from(dump), usize::from(offset));
    let mut strings = Vec::new();
    let mut whole = dump.is_multiple_of(4) && ENTRY_HEAD + dump <= draft.size;
    for _ in 0..count {
        let end = (at..draft.size.saturating_sub(1))
            .step_by(2)
            .find(|at| peek::<u16>(entry + at) == 0);
        let Some(end) = end.filter(|_| at >= ENTRY_HEAD + dump && at.is_multiple_of(2)) else {
            whole = false;
            break;
        };
        strings.push(wide_z(entry + at));
        at = end + 2;
    }
    let untouched: Vec<u8> = peek_bytes(entry, draft.size);
    let holds_old = untouched.windows(4).any(|bytes| bytes == [0xA5; 4]);
    if !whole || code == 0 || holds_old {
        fail(
            rules::ERROR_LOG,
            format!(
                "entry of {} bytes: DumpDataSize {dump}, {count} strings at {offset}, code {code:#x}, old bytes {holds_old}",
                draft.size
            ),
        );
    }
    with(|k| {
        let (source, object) = names(k, draft.object);
        let site = k.site();
        k.mem.free(entry, site);
        let entry = LogEntry {
            source,
            object,
            code,
            status,
            strings,
        };
        k.note(format!("error log {entry:x?}"));
        k.etw.log.push(entry);
    });
}
