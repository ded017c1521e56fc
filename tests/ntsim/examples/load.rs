//! Loads a driver, starts it on a parallel port without anything behind it, removes and unloads it,
//! and prints what happened: `cargo run -p ntsim --example load -- driver.sys [service]`.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use ntsim::{Config, DeviceSpec, Machine, Resource};

    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which driver?")?;
    let service = args.next().unwrap_or_else(|| "parscan".to_owned());
    let machine = Machine::boot(Config {
        echo: true,
        trace_calls: true,
        ..Config::default()
    });
    let driver = machine.load_driver(&path, &service, &[])?;
    let node = machine.plug(
        DeviceSpec {
            enumerator: "ACPI".into(),
            device_id: "PNP0400".into(),
            instance: "1".into(),
            hardware_ids: vec![r"ACPI\PNP0400".into(), "*PNP0400".into()],
            class: "Ports".into(),
            class_guid: "{4d36e978-e325-11ce-bfc1-08002be10318}".into(),
            ..DeviceSpec::default()
        }
        .with_resources(&[Resource::Port {
            base: 0x378,
            len: 8,
        }]),
    );
    println!("AddDevice: {}", machine.add_device(node, driver)?);
    println!("START: {}", machine.start(node)?);
    for device in machine.devices() {
        println!("{device:?}");
    }
    println!("{:?}", machine.children(node));
    machine.remove(node)?;
    machine.unload(driver)?;
    println!("{:?}", machine.times());
    Ok(())
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {}
