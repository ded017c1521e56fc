//! Writes an SVG picture of a negotiation and a nibble-mode byte to the file named on the command
//! line, or prints it: `cargo run -p parscan-models --example picture nibble.svg`.

use std::{env, fs, io};

use parscan_models::{
    Nanos, Peripheral1284, PortDevice, Spp, Width, extensibility,
    waveform::{Signal, svg},
};

/// After so much time a register gets a value, and these events follow.
type Step = (Nanos, u16, u8, &'static [(Nanos, &'static str)]);

fn main() -> io::Result<()> {
    let device = Peripheral1284::new()
        .with_response(3_000)
        .with_byte_time(400_000);
    device.give(&[0x5A]);
    let mut port = Spp::new(Box::new(device));
    let mut now = 0;
    let mut marks: Vec<(Nanos, &str)> = Vec::new();
    let steps: [Step; 10] = [
        (10_000, 0, extensibility::NIBBLE, &[(0, "0")]),
        (1_000, 2, 0x06, &[(0, "1"), (3_000, "2")]),
        (5_000, 2, 0x07, &[(0, "3")]),
        (1_000, 2, 0x04, &[(0, "4"), (3_000, "5, 6")]),
        (10_000, 2, 0x06, &[(0, "7"), (400_000, "8, 9")]),
        (405_000, 2, 0x04, &[(0, "10"), (3_000, "11")]),
        (6_000, 2, 0x06, &[(0, "7"), (3_000, "8, 9")]),
        (5_000, 2, 0x04, &[(0, "10"), (3_000, "11 to 13")]),
        (10_000, 2, 0x0C, &[(0, "22"), (3_000, "23, 24")]),
        (5_000, 2, 0x0E, &[(0, "25"), (3_000, "26, 27")]),
    ];
    for (wait, offset, value, events) in steps {
        now += wait;
        port.write(now, 0, offset, Width::Byte, value.into());
        marks.extend(events.iter().map(|(after, name)| (now + after, *name)));
    }
    now += 5_000;
    port.write(now, 0, 2, Width::Byte, 0x0C);
    marks.push((now, "28"));
    port.advance(now + 5_000);

    let trace = port.trace().expect("this chip traces");
    let title = "Nibble mode: negotiation, the byte 5A, termination";
    let picture = svg(trace, &Signal::CONNECTOR, 5_000, now + 5_000, &marks, title);
    if let Some(path) = env::args_os().nth(1) {
        fs::write(path, picture)?;
    } else {
        print!("{picture}");
    }
    Ok(())
}
