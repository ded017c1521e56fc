//! The demo on our own model of a USB scanner.

use std::{fmt::Write as _, path::Path};

use anstream::println;
use anyhow::{Context, Result, bail, ensure};
use ntsim::{Caller, IoResult, NtStatus, Protection};
use parscan_models::Scanner;
use parscan_tests::{
    MS, check,
    register_write::{RegisterWrite, hex},
    scanner::{Opened, ScannerPc},
    usbscan_h::{IOCTL_READ_REGISTERS, IoBlock},
};

use crate::show;

pub(crate) fn run(out: &Path) -> Result<()> {
    let pc = ScannerPc::new();
    show::machine(
        &pc.machine,
        r"USB\VID_1209&PID_0001, a high-speed scanner: bulk IN, bulk OUT, interrupt",
    );
    let file = pc.open();
    registers(&pc, file)?;
    lengths(&pc, file)?;
    bad_input(&pc, file)?;
    scan(&pc, file)?;
    button(&pc, file)?;
    pc.close(file);
    check(pc.machine.remove(pc.node));
    check(pc.machine.unload(pc.driver));
    let path = out.join("scanner.txt");
    let mut trace = String::new();
    for event in pc.machine.trace() {
        writeln!(trace, "{event}")?;
    }
    std::fs::write(&path, trace).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\n  every request and URB: {}", path.display());
    show::goodbye(&pc.machine, "scanner");
    Ok(())
}

/// Ends the demo where something is not as documented.
fn documented(write: &RegisterWrite) -> Result<()> {
    match write.check() {
        Ok(()) => Ok(()),
        Err(what) => bail!("a register write is not as documented: {what}"),
    }
}

/// From the program to the wire.
fn registers(pc: &ScannerPc, file: Opened) -> Result<()> {
    show::title(r"A program opens \\.\Usbscan0 and sends IOCTL_WRITE_REGISTERS { IO_BLOCK }");
    let write = RegisterWrite::record(pc, file, 0x30, 0x01, &[0x11, 0x22, 0x33, 0x44]);
    show::indented(&write.table());
    documented(&write)
}

/// One byte is another request than several; and what was written is read back.
fn lengths(pc: &ScannerPc, file: Opened) -> Result<()> {
    show::title("One byte is request 0x0C, several are 0x04, and they are read back");
    println!(
        "  {:<6} {:<8} {:<24} {:<12} {:<39} Info",
        "", "uLength", "SETUP", "data", "status"
    );
    let line = |what: &str, length: usize, setup: &[u8], data: &[u8], result: &IoResult| {
        println!(
            "  {what:<6} {length:<8} {:<24} {:<12} {} {}",
            hex(setup),
            hex(data),
            show::status(result.status),
            result.information
        );
    };
    for data in [&[][..], &[0xA0], &[0xB0, 0xB1], &[0xC0, 0xC1, 0xC2, 0xC3]] {
        let write = RegisterWrite::record(pc, file, 0x40, 0, data);
        line("write", data.len(), &write.setup(), data, &write.result);
        documented(&write)?;
    }
    for (length, setup, data) in [
        (1, [0xC0, 0x0C, 0x40, 0, 0, 0, 1, 0], &[0xC0][..]),
        (
            4,
            [0xC0, 0x04, 0x40, 0, 0, 0, 4, 0],
            &[0xC0, 0xC1, 0xC2, 0xC3],
        ),
    ] {
        let before = pc.machine.urb_count();
        let read = pc.read_registers(file, 0x40, length);
        let urbs = pc.urbs_since(before);
        let sent = urbs.first().and_then(|urb| urb.setups.first());
        let sent = sent.context("a read sends a SETUP packet")?;
        let got = read.output.get(..read.information).unwrap_or_default();
        line("read", length as usize, sent, got, &read);
        ensure!(
            *sent == setup && got == data && read.status == NtStatus::SUCCESS,
            "a register read is not as documented"
        );
    }
    Ok(())
}

/// What a careless program may send.
fn bad_input(pc: &ScannerPc, file: Opened) -> Result<()> {
    /// An address of kernel memory.
    const KERNEL: usize = 0xFFFF_8000_0000_0000;

    show::title("The same with bad input: nothing reaches the scanner");
    println!("  {:<44} {:<39} Info  URBs", "request", "status");
    let data = pc.machine.user_alloc(Caller::User64, &[0; 4]);
    let locked = pc.machine.user_alloc(Caller::User64, &[0; 4]);
    pc.machine.user_protect(locked, 4, Protection::None);
    let block = |length, address: usize| IoBlock {
        length,
        data: address as u64,
        ..IoBlock::default()
    };
    let write = |block: IoBlock| pc.write_registers(file, block);
    let read = |room| {
        let input = block(4, 0).bytes(file.caller);
        pc.control(file, IOCTL_READ_REGISTERS, &input, room)
    };
    let refused = |what: &str, status, send: &dyn Fn() -> IoResult| {
        let before = pc.machine.urb_count();
        let result = send();
        let urbs = pc.machine.urb_count() - before;
        println!(
            "  {what:<44} {} {:<5} {urbs}",
            show::status(result.status),
            result.information
        );
        ensure!(
            (result.status, result.information, urbs) == (status, 0, 0),
            "{what}: not as documented"
        );
        Ok(())
    };
    let (invalid, violation) = (NtStatus::INVALID_PARAMETER, NtStatus::ACCESS_VIOLATION);
    for (what, status, length, address) in [
        ("pbyData = NULL", invalid, 4, 0),
        ("pbyData may not be read", violation, 4, locked),
        ("pbyData is the kernel's", violation, 4, KERNEL),
        ("uLength = 65536", invalid, 0x1_0000, data),
    ] {
        let what = format!("WRITE_REGISTERS, {what}");
        refused(&what, status, &|| write(block(length, address)))?;
    }
    let what = "READ_REGISTERS, uLength = 4 into 3 bytes";
    refused(what, invalid, &|| read(3))?;
    pc.machine.user_free(locked);
    pc.machine.user_free(data);
    Ok(())
}

/// What is scanned: 850 × 1100 grey pixels, a page of 100 dpi.
const PAGE: u32 = 850 * 1100;
/// Which of the model's images.
const IMAGE: u32 = 100;

/// A command goes out, and an image comes back.
fn scan(pc: &ScannerPc, file: Opened) -> Result<()> {
    show::title("A scan: WriteFile sends the command, one ReadFile of 1 MiB takes the image");
    println!(
        "  {:<10} {:<39} {:<8} {:<9} {:<6} CRC-32",
        "transfer", "status", "Info", "after", "URBs"
    );
    let line = |what: &str, result: &IoResult, urbs: u64, data: &[u8]| {
        println!(
            "  {what:<10} {} {:<8} {:<9} {urbs:<6} {:08X}",
            show::status(result.status),
            result.information,
            show::duration(result.took),
            crc32(data)
        );
    };
    let start = pc.machine.urb_count();
    let command = Scanner::scan_command(PAGE, IMAGE);
    let write = pc.write(file, &command);
    let sent = pc.machine.urb_count();
    line("WriteFile", &write, sent - start, &command);
    let read = pc.read(file, 1 << 20);
    let image = read.output.get(..read.information).unwrap_or_default();
    line("ReadFile", &read, pc.machine.urb_count() - sent, image);
    let scanned = Scanner::image(IMAGE, PAGE as usize);
    println!(
        "\n  The scanner sent {} bytes, CRC-32 {:08X}; a short packet ended the read.",
        scanned.len(),
        crc32(&scanned)
    );
    ensure!(
        (write.status, write.information) == (NtStatus::SUCCESS, command.len())
            && read.status == NtStatus::SUCCESS
            && image == scanned,
        "the image is not the one that was scanned"
    );
    Ok(())
}

/// How long the button is not pressed.
const PATIENCE: u64 = 200_000 * MS;

/// A program waits for the button.
fn button(pc: &ScannerPc, file: Opened) -> Result<()> {
    show::title("The program waits for a button: IOCTL_WAIT_ON_DEVICE_EVENT");
    let wait = pc.wait_on_event(file, 8);
    check(pc.machine.run_for(PATIENCE));
    ensure!(!pc.machine.is_done(&wait), "the wait ended by itself");
    println!("  after {} it still waits", show::duration(PATIENCE));
    let report = [0x01, 0x80];
    let pressed = pc.machine.now();
    pc.scanner.press(&report);
    let result = pc.finish_request(&wait);
    let packet = result.output.get(..result.information).unwrap_or_default();
    println!(
        "  button pressed  {} {:<5} {} later: {}",
        show::status(result.status),
        result.information,
        show::duration(pc.machine.now() - pressed),
        hex(packet)
    );
    ensure!(
        result.status == NtStatus::SUCCESS && packet == report,
        "the event is not the scanner's packet"
    );
    Ok(())
}

/// The checksum of zip and PNG files.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
