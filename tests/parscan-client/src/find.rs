use crate::{Error, Interface, InterfaceClass, Limits, Native, Port, System, Transport};

/// The devices on this computer's parallel ports. None of them is opened.
///
/// # Errors
/// Windows could not list them.
pub fn ports() -> Result<Vec<Interface>, Error> {
    list(&Native, InterfaceClass::ParallelDevice)
}

/// The still-image devices of this computer. None of them is opened.
///
/// # Errors
/// Windows could not list them.
pub fn scanners() -> Result<Vec<Interface>, Error> {
    list(&Native, InterfaceClass::Image)
}

/// The devices of a class, sorted by name. None of them is opened.
///
/// # Errors
/// Windows could not list them.
pub fn list(system: &dyn System, class: InterfaceClass) -> Result<Vec<Interface>, Error> {
    let mut found = system.interfaces(class)?;
    // LPT2 before LPT10.
    found.sort_by_key(|interface| {
        let name = interface.name();
        (name.len(), name)
    });
    Ok(found)
}

/// What a name stands for, and the opened device if it had to be opened to know.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) opened: Option<Box<dyn Transport>>,
}

/// Finds a device: by its short name in any case, or by a path, which is used as it is. Without a
/// name, the only one that there is.
pub(crate) fn find(
    system: &dyn System,
    class: InterfaceClass,
    name: Option<&str>,
) -> Result<Found, Error> {
    if let Some(path) = name.filter(|name| name.starts_with('\\')) {
        return Ok(Found {
            name: path.to_owned(),
            path: path.to_owned(),
            opened: None,
        });
    }
    let devices = list(system, class)?;
    let known = || devices.iter().map(Interface::name).collect();
    let found = |device: &Interface| Found {
        name: device.name(),
        path: device.path.clone(),
        opened: None,
    };
    let Some(wanted) = name.map(|name| name.trim_end_matches(':')) else {
        return match devices.as_slice() {
            [only] => Ok(found(only)),
            [] => Err(Error::NotFound {
                class,
                name: None,
                known: Vec::new(),
            }),
            _ => Err(Error::Ambiguous {
                class,
                known: known(),
            }),
        };
    };
    if let Some(device) = devices
        .iter()
        .find(|device| device.name().eq_ignore_ascii_case(wanted))
    {
        return Ok(found(device));
    }
    if class == InterfaceClass::ParallelDevice {
        // Windows has not told the names of all of them: ask those.
        for device in devices.iter().filter(|d| d.short_name().is_none()) {
            let Ok(transport) = system.open(&device.path) else {
                continue;
            };
            let port = Port::new(&device.path, &device.path, transport, Limits::default());
            if let Ok(location) = port.location()
                && location.eq_ignore_ascii_case(wanted)
            {
                return Ok(Found {
                    name: location,
                    path: device.path.clone(),
                    opened: Some(port.into_transport()),
                });
            }
        }
    }
    Err(Error::NotFound {
        class,
        name: Some(wanted.to_owned()),
        known: known(),
    })
}
