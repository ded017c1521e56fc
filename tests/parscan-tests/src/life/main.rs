//! A scanner's whole life: what the driver does from `DriverEntry` to its unload, step by step, on
//! the processor that this program is built for.
//!
//! Each step is compared with what is documented, and the program fails at the first that differs.
//! What it prints is the same on every processor, but for the lines before the first step and those
//! under [`ALONE`].

use std::{env, fs, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use ntsim::{Caller, DeviceSpec, IoResult, Machine, NodeState, NtStatus, Protection, RegValue};
use parscan_models::Scanner;
use parscan_tests::{
    MS, Setup, check, driver_image,
    scanner::{Opened, ScannerPc, ScannerSetup},
    usbscan_h::{IOCTL_WRITE_REGISTERS, IoBlock},
};

/// Begins what is said of one processor only.
const ALONE: &str = "On this processor alone";

/// Bytes of the scan.
const SCAN: u32 = 200_000;
/// Which of the model's images.
const IMAGE: u32 = 100;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let image = driver_image();
    let bytes = fs::read(&image).with_context(|| format!("cannot read {}", image.display()))?;
    println!(
        "parscan.sys, {} bytes, run by an {} process",
        bytes.len(),
        env::consts::ARCH
    );
    step("DriverEntry, AddDevice and START_DEVICE of a USB scanner");
    let pc = ScannerSetup::default().loaded();
    line("DriverEntry", "STATUS_SUCCESS");
    let (machine, node) = (&pc.machine, pc.node);
    succeeds("AddDevice", check(machine.add_device(node, pc.driver)))?;
    succeeds("IRP_MN_START_DEVICE", check(machine.start(node)))?;
    let functions: Vec<u16> = pc.urbs_since(0).iter().map(|urb| urb.function).collect();
    line("its URBs, by function", &format!("{functions:04X?}"));
    ensure!(
        pc.scanner.configuration() == 1,
        "the scanner is not configured"
    );
    line("the scanner's configuration", "1");

    step(r"A program opens \\.\Usbscan0 and writes and reads registers");
    let file = pc.open();
    line("IRP_MJ_CREATE", "STATUS_SUCCESS");
    good_writes(&pc, file)?;
    step("WRITE_REGISTERS with a bad pbyData: the exception handler around the copy");
    bad_writes(&pc, file)?;
    step("A scan, a button, a cancelled read");
    scan(&pc, file)?;
    button(&pc, file)?;
    cancel(&pc, file)?;
    step("Sleep and wake, CLEANUP and CLOSE, stop and start, removal, unload");
    succeeds("the system sleeps", check(machine.sleep()))?;
    check(pc.machine.wake());
    register_write(&pc, file, "WRITE_REGISTERS afterwards", &[0x5A])?;
    pc.close(file);
    line("IRP_MJ_CLEANUP, IRP_MJ_CLOSE", "STATUS_SUCCESS");
    succeeds("IRP_MN_QUERY_STOP_DEVICE", check(machine.query_stop(node)))?;
    succeeds("IRP_MN_STOP_DEVICE", check(machine.stop(node)))?;
    succeeds("IRP_MN_START_DEVICE", check(machine.start(node)))?;
    succeeds("IRP_MN_REMOVE_DEVICE", check(machine.remove(node)))?;
    unplugged(&pc)?;
    let given = pc.machine.allocations(pc.driver);
    ensure!(given != 0, "the driver allocates nothing");
    // A block, an IRP, a handle or a thread that is left breaks a rule here.
    pc.unload();
    line("DriverUnload", "0 allocations left, nothing else");
    drop(pc);
    if cfg!(target_arch = "aarch64") {
        no_port()?;
    }
    Ok(())
}

fn step(what: &str) {
    println!("\n{what}\n");
}

fn line(what: &str, came: &str) {
    println!("  {what:<52} {came}");
}

/// A status with its name.
fn shown(status: NtStatus) -> String {
    status.name().map_or_else(
        || format!("{:#010X}", status.0),
        |name| format!("STATUS_{name}"),
    )
}

/// Prints a status, which must be the documented one.
fn ensure(what: &str, status: NtStatus, documented: NtStatus) -> Result<()> {
    line(what, &shown(status));
    if status != documented {
        bail!("{what}: not {}", shown(documented));
    }
    Ok(())
}

/// Prints a status, which must be a success.
fn succeeds(what: &str, status: NtStatus) -> Result<()> {
    ensure(what, status, NtStatus::SUCCESS)
}

/// Prints how a request ended, which must be as documented.
fn ended(what: &str, result: &IoResult, documented: (NtStatus, usize)) -> Result<()> {
    let came = format!("{}, {} bytes", shown(result.status), result.information);
    line(what, &came);
    if (result.status, result.information) != documented {
        bail!(
            "{what}: not {}, {} bytes",
            shown(documented.0),
            documented.1
        );
    }
    Ok(())
}

/// Writes registers from 0x40 on, and looks at them in the scanner.
fn register_write(pc: &ScannerPc, file: Opened, what: &str, data: &[u8]) -> Result<()> {
    let address = pc.machine.user_alloc(file.caller, data);
    let result = pc.write_registers(file, block(data.len(), address));
    pc.machine.user_free(address);
    ended(what, &result, (NtStatus::SUCCESS, 0))?;
    ensure!(
        pc.scanner.registers(0x40, data.len()) == data,
        "the scanner has other bytes"
    );
    Ok(())
}

fn block(length: usize, address: usize) -> IoBlock {
    IoBlock {
        offset: 0x40,
        length: u32::try_from(length).unwrap_or(u32::MAX),
        data: address as u64,
        index: 0,
    }
}

fn good_writes(pc: &ScannerPc, file: Opened) -> Result<()> {
    register_write(pc, file, "WRITE_REGISTERS of 1 byte", &[0xA0])?;
    let four = [0xB0, 0xB1, 0xB2, 0xB3];
    register_write(pc, file, "WRITE_REGISTERS of 4 bytes", &four)?;
    let many: Vec<u8> = (0..=255).cycle().take(5000).collect();
    register_write(
        pc,
        file,
        "WRITE_REGISTERS of 5000 bytes, on two pages",
        &many,
    )?;
    register_write(pc, file, "WRITE_REGISTERS of 4 bytes", &four)?;
    let read = pc.read_registers(file, 0x40, 4);
    ended("READ_REGISTERS of 4 bytes", &read, (NtStatus::SUCCESS, 4))?;
    ensure!(read.output == four, "other bytes were read");
    let small = pc.open_as(r"\\.\Usbscan0", Caller::User32);
    register_write(
        pc,
        small,
        "WRITE_REGISTERS of a 32-bit program",
        &[0xC0, 0xC1],
    )?;
    pc.close(small);
    Ok(())
}

fn bad_writes(pc: &ScannerPc, file: Opened) -> Result<()> {
    /// Bytes of a page of memory.
    const PAGE: usize = 4096;

    let machine = &pc.machine;
    let memory = |bytes: usize| machine.user_alloc(Caller::User64, &vec![0x11; bytes]);
    let (good, locked, lost, two) = (memory(4), memory(4), memory(4), memory(2 * PAGE));
    machine.user_protect(locked, 4, Protection::None);
    machine.user_protect(lost, 4, Protection::Lost);
    // The last page of the two: the fault comes in the midst of the copy.
    let second = (two + PAGE).next_multiple_of(PAGE);
    machine.user_protect(second, 4, Protection::None);
    let gone = memory(4);
    machine.user_free(gone);
    let (invalid, violation) = (NtStatus::INVALID_PARAMETER, NtStatus::ACCESS_VIOLATION);
    for (what, block, status) in [
        ("NULL", block(4, 0), invalid),
        ("not readable", block(4, locked), violation),
        ("not mapped", block(4, gone), violation),
        (
            "its second page not readable",
            block(2 * PAGE, two),
            violation,
        ),
        (
            "in a file that cannot be read",
            block(4, lost),
            NtStatus::IN_PAGE_ERROR,
        ),
        ("in the kernel", block(4, 0xFFFF_8000_0000_0000), violation),
        ("wraps", block(4, usize::MAX - 1), violation),
    ] {
        let before = machine.urb_count();
        ended(what, &pc.write_registers(file, block), (status, 0))?;
        ensure!(machine.urb_count() == before, "a URB was sent");
    }
    let short = pc.control(file, IOCTL_WRITE_REGISTERS, &[0; 8], 0);
    ended("no whole IO_BLOCK", &short, (invalid, 0))?;
    for address in [good, locked, lost, two] {
        machine.user_free(address);
    }
    register_write(pc, file, "and a good one after all that", &[0xD0, 0xD1])
}

fn scan(pc: &ScannerPc, file: Opened) -> Result<()> {
    let command = Scanner::scan_command(SCAN, IMAGE);
    let write = pc.write(file, &command);
    ended(
        "WriteFile of the command",
        &write,
        (NtStatus::SUCCESS, command.len()),
    )?;
    let read = pc.read(file, 1 << 20);
    let image = Scanner::image(IMAGE, SCAN as usize);
    ended("ReadFile of 1 MiB", &read, (NtStatus::SUCCESS, image.len()))?;
    ensure!(
        read.output.get(..image.len()) == Some(&image[..]),
        "the image is another"
    );
    line("the image", "the one that was scanned");
    Ok(())
}

fn button(pc: &ScannerPc, file: Opened) -> Result<()> {
    let wait = pc.wait_on_event(file, 8);
    check(pc.machine.run_for(10_000 * MS));
    ensure!(!pc.machine.is_done(&wait), "the wait ended by itself");
    let report = [0x01, 0x80];
    pc.scanner.press(&report);
    let result = pc.finish_request(&wait);
    ended(
        "WAIT_ON_DEVICE_EVENT, pressed after 10 s",
        &result,
        (NtStatus::SUCCESS, report.len()),
    )
}

fn cancel(pc: &ScannerPc, file: Opened) -> Result<()> {
    let read = pc.machine.start_read(file.handle, 512);
    check(pc.machine.run_for(10 * MS));
    ensure!(!pc.machine.is_done(&read), "the read ended by itself");
    ensure!(check(pc.machine.cancel(&read)), "it cannot be cancelled");
    let result = pc.finish_request(&read);
    ended(
        "ReadFile, cancelled by CancelIo",
        &result,
        (NtStatus::CANCELLED, 0),
    )
}

/// A second scanner is pulled out while a program waits for it.
fn unplugged(pc: &ScannerPc) -> Result<()> {
    let machine = &pc.machine;
    let scanner = Scanner::default();
    let function = std::rc::Rc::new(std::cell::RefCell::new(scanner));
    let node = machine.plug_usb(ScannerSetup::default().device("2"), function);
    ensure(
        "a second scanner: AddDevice",
        check(machine.add_device(node, pc.driver)),
        NtStatus::SUCCESS,
    )?;
    ensure(
        "its START_DEVICE",
        check(machine.start(node)),
        NtStatus::SUCCESS,
    )?;
    let name = machine.links().into_iter().map(|(link, _)| link);
    let name = name
        .filter_map(|link| Some(format!(r"\\.\{}", link.rsplit_once('\\')?.1)))
        .find(|link| link.contains("Usbscan"))
        .context("it has no name")?;
    let file = pc.open_as(&name, Caller::User64);
    let read = machine.start_read(file.handle, 512);
    check(machine.run_for(10 * MS));
    ensure(
        "IRP_MN_SURPRISE_REMOVAL, while a read waits",
        check(machine.unplug(node)),
        NtStatus::SUCCESS,
    )?;
    let result = pc.finish_request(&read);
    ensure!(!result.status.is_success(), "the read ended well");
    line("the read", &shown(result.status));
    pc.close(file);
    ensure!(
        machine.node_state(node) != NodeState::Started,
        "the scanner is still there"
    );
    if machine.node_state(node) != NodeState::Removed {
        ensure(
            "IRP_MN_REMOVE_DEVICE",
            check(machine.remove(node)),
            NtStatus::SUCCESS,
        )?;
    }
    Ok(())
}

/// Where there is no I/O space, a port is refused.
fn no_port() -> Result<()> {
    step(ALONE);
    for parameters in [vec![("Role", RegValue::Dword(1))], Vec::new()] {
        let machine = Machine::boot(ntsim::Config::default());
        let driver = machine
            .load_driver(driver_image(), "ParscanPort", &parameters)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let device: DeviceSpec = Setup::default().device();
        let node = machine.plug(device);
        ensure(
            "AddDevice of a port",
            check(machine.add_device(node, driver)),
            NtStatus::NOT_SUPPORTED,
        )?;
        check(machine.unload(driver));
    }
    Ok(())
}
