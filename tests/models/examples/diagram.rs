//! Prints a printer's reset and two bytes as text diagrams, and writes them as VCD to the file named
//! on the command line: `cargo run -p parscan-models --example diagram [file.vcd]`.

use parscan_models::{
    Line, PortDevice, Printer, Spp, Width,
    waveform::{Signal, ascii, save_vcd},
};

fn main() -> std::io::Result<()> {
    let printer = Printer::new().with_reset_time(300_000_000);
    let mut port = Spp::new(Box::new(printer.clone()));
    let mut write = |now, offset, value| port.write(now, 0, offset, Width::Byte, value);

    // DCR 0x08 is nInit low, 0x0C rest, 0x0D nStrobe low.
    write(1_000_000, 2, 0x08);
    write(1_100_000, 2, 0x0C);
    for (byte, start) in b"OK".iter().zip((400_000_000..).step_by(40_000)) {
        write(start, 0, u32::from(*byte));
        write(start + 1_000, 2, 0x0D);
        write(start + 2_000, 2, 0x0C);
    }
    port.advance(400_080_000);

    let trace = port.trace().expect("this chip traces");
    let reset = [Line::NInit.into(), Line::Busy.into()];
    println!(
        "A reset:\n{}",
        ascii(trace, &reset, 900_000, 400_000_000, 100)
    );
    let bytes = ascii(trace, &Signal::CONNECTOR, 400_000_000, 400_080_000, 100);
    println!("Two bytes:\n{bytes}");
    println!(
        "received {:?}, {} reset, violations {:?}",
        String::from_utf8_lossy(&printer.received()),
        printer.resets(),
        printer.violations()
    );
    if let Some(path) = std::env::args_os().nth(1) {
        save_vcd(trace, "a reset and two bytes", path)?;
    }
    Ok(())
}
