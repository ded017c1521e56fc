//! `SELECT_CONFIGURATION` and `SELECT_INTERFACE`.

use parscan_models::{Endpoint, Setup};

use super::check::{Broken, resident};
use super::layout::{
    CONFIG_DESCRIPTOR, CONFIG_HANDLE, CONFIG_INTERFACES, INTERFACE_HEAD, PIPE_SIZE,
    SELECT_CONFIGURATION_SIZE, SELECT_INTERFACES, usbd,
};
use super::{Device, Pipe};
use crate::mem::{Va, peek, peek_bytes, poke};
use crate::rules;
use crate::state::{Kernel, with};

/// One `USBD_INTERFACE_INFORMATION` of a URB, with what the descriptors say.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// Where it lies.
    at: Va,
    number: u8,
    alternate: u8,
    class: [u8; 3],
    endpoints: Vec<Endpoint>,
}

/// What a URB selects.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// `bConfigurationValue`; `None` for `SELECT_INTERFACE`.
    configuration: Option<u8>,
    interfaces: Vec<Chosen>,
    /// The whole descriptor, for `SELECT_INTERFACE` later.
    pub descriptor: Vec<u8>,
}

impl Selection {
    /// The control transfers that it takes.
    pub(super) fn setups(&self) -> Vec<Setup> {
        let mut list = Vec::new();
        if let Some(value) = self.configuration {
            list.push(Setup {
                request: 9,
                value: value.into(),
                ..Setup::default()
            });
        }
        for chosen in &self.interfaces {
            if chosen.alternate != 0 || self.configuration.is_none() {
                list.push(Setup {
                    request_type: 1,
                    request: 11,
                    value: chosen.alternate.into(),
                    index: chosen.number.into(),
                    length: 0,
                });
            }
        }
        list
    }

    /// Opens the pipes and writes the URB's answers.
    pub(super) fn apply(&self, pdo: Va, urb: Va) {
        with(|k| {
            let Some(mut d) = k.usb.devices.remove(&pdo) else {
                return;
            };
            match self.configuration {
                Some(0) => {
                    d.configuration = None;
                    d.pipes.clear();
                }
                Some(value) => {
                    let handle = k.usb.new_handle();
                    d.configuration = Some((handle, value));
                    d.descriptor.clone_from(&self.descriptor);
                    d.pipes.clear();
                    poke(urb + CONFIG_HANDLE, handle);
                }
                None => {
                    let changed: Vec<u8> = self.interfaces.iter().map(|c| c.number).collect();
                    d.pipes.retain(|p| !changed.contains(&p.interface));
                }
            }
            for chosen in &self.interfaces {
                chosen.open(k, &mut d);
            }
            k.usb.devices.insert(pdo, d);
        });
    }
}

impl Chosen {
    fn open(&self, k: &mut Kernel, d: &mut Device) {
        let interface = k.usb.new_handle();
        poke(self.at + 4, self.class);
        poke(self.at + 8, interface);
        let count = u32::try_from(self.endpoints.len()).unwrap_or(0);
        poke(self.at + 0x10, count);
        let mut endpoints = self.endpoints.clone();
        if k.usb.reverses {
            endpoints.reverse();
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            let at = self.at + INTERFACE_HEAD + i * PIPE_SIZE;
            // USBD_PF_CHANGE_MAX_PACKET: the driver's own size stays.
            if peek::<u32>(at + 0x14) & 1 == 0 {
                poke(at, endpoint.max_packet & 0x7FF);
            }
            poke(at + 2, endpoint.address);
            poke(at + 3, endpoint.interval);
            poke(at + 4, u32::from(endpoint.attributes & 3));
            let handle = k.usb.new_handle();
            poke(at + 8, handle);
            d.pipes.push(Pipe {
                handle,
                interface: self.number,
                endpoint: Endpoint {
                    max_packet: peek(at),
                    ..*endpoint
                },
                halted: false,
            });
        }
    }
}

type Selected = Result<Result<Selection, u32>, Broken>;

/// Reads a `_URB_SELECT_CONFIGURATION`. The inner error is a `USBD_STATUS`.
pub(super) fn configuration(k: &Kernel, urb: Va, length: usize) -> Selected {
    let wrong = |right: usize| {
        let what = format!("SELECT_CONFIGURATION: Hdr.Length {length}, should be {right}");
        Err((rules::URB_LENGTH, what))
    };
    let at: Va = peek(urb + CONFIG_DESCRIPTOR);
    if at == 0 {
        if length != SELECT_CONFIGURATION_SIZE {
            return wrong(SELECT_CONFIGURATION_SIZE);
        }
        return Ok(Ok(Selection {
            configuration: Some(0),
            interfaces: Vec::new(),
            descriptor: Vec::new(),
        }));
    }
    let paged = |why| (rules::URB_CONFIG, why);
    readable(k, at, 9).map_err(paged)?;
    let head = peek_bytes(at, 9);
    let total = usize::from(u16::from_le_bytes([head[2], head[3]]));
    if head[0] < 9 || head[1] != 2 || total < 9 {
        return Ok(Err(usbd::INVALID_CONFIGURATION_DESCRIPTOR));
    }
    readable(k, at, total).map_err(paged)?;
    let descriptor = peek_bytes(at, total);
    let interfaces = match interfaces(urb, CONFIG_INTERFACES, length, &descriptor)? {
        Ok(list) => list,
        Err(status) => return Ok(Err(status)),
    };
    Ok(Ok(Selection {
        configuration: Some(descriptor[5]),
        interfaces,
        descriptor,
    }))
}

/// Reads a `_URB_SELECT_INTERFACE`.
pub(super) fn interface(urb: Va, length: usize, descriptor: &[u8]) -> Selected {
    Ok(
        interfaces(urb, SELECT_INTERFACES, length, descriptor)?.map(|interfaces| Selection {
            configuration: None,
            interfaces,
            descriptor: Vec::new(),
        }),
    )
}

/// The stack reads descriptors in the caller's context at `PASSIVE_LEVEL`: they may be pageable.
fn readable(k: &Kernel, va: Va, len: usize) -> Result<(), String> {
    match k.mem.find(va) {
        Some(b) if b.paged && va >= b.va && va + len <= b.va + b.size => Ok(()),
        _ => resident(k, va, len),
    }
}

/// The `USBD_INTERFACE_INFORMATION`s of a URB from offset `from` on.
fn interfaces(
    urb: Va,
    from: usize,
    length: usize,
    descriptor: &[u8],
) -> Result<Result<Vec<Chosen>, u32>, Broken> {
    let mut places = Vec::new();
    let mut at = from;
    while at < length {
        let size = usize::from(peek::<u16>(urb + at));
        if size < INTERFACE_HEAD || at + size > length {
            let what = format!("Interface.Length {size} at {at:#x}, Hdr.Length {length}");
            return Err((rules::URB_LENGTH, what));
        }
        places.push((at, size));
        at += size;
    }
    if places.is_empty() {
        return Err((rules::URB_LENGTH, "no interface selected".to_owned()));
    }
    let mut list = Vec::new();
    for (at, size) in places {
        let number: u8 = peek(urb + at + 2);
        let alternate: u8 = peek(urb + at + 3);
        let Some((class, count, endpoints)) = find(descriptor, number, alternate) else {
            return Ok(Err(usbd::INTERFACE_NOT_FOUND));
        };
        if endpoints.len() < count {
            return Ok(Err(usbd::BAD_NUMBER_OF_ENDPOINTS));
        }
        if size < INTERFACE_HEAD + count * PIPE_SIZE {
            return Ok(Err(usbd::BUFFER_TOO_SMALL));
        }
        list.push(Chosen {
            at: urb + at,
            number,
            alternate,
            class,
            endpoints,
        });
    }
    Ok(Ok(list))
}

/// An interface in a configuration descriptor: class bytes, `bNumEndpoints`, that many endpoints
/// or as many as there are.
fn find(bytes: &[u8], number: u8, alternate: u8) -> Option<([u8; 3], usize, Vec<Endpoint>)> {
    let mut list = Descriptors(bytes)
        .skip_while(|d| d.len() < 9 || d[1] != 4 || d[2] != number || d[3] != alternate);
    let head = list.next()?;
    let count = usize::from(head[4]);
    let endpoints = list
        .take_while(|d| d[1] != 4)
        .filter(|d| d[1] == 5 && d.len() >= 7)
        .take(count)
        .map(|d| Endpoint {
            address: d[2],
            attributes: d[3],
            max_packet: u16::from_le_bytes([d[4], d[5]]),
            interval: d[6],
        })
        .collect();
    Some(([head[5], head[6], head[7]], count, endpoints))
}

/// One descriptor after the other, up to the first that does not fit.
struct Descriptors<'a>(&'a [u8]);

impl<'a> Iterator for Descriptors<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.0.first()?);
        if length < 2 || length > self.0.len() {
            return None;
        }
        let (one, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(one)
    }
}
