//! The daisy chain as a host finds it, register by register.

use parscan_models::{
    CppViolationKind, DaisyChain, Nanos, Peripheral1284, PortDevice, Printer, Spp, Width,
    extensibility,
};

const US: Nanos = 1_000;

/// Breaks a rule, after the third answer.
type Break = fn(&mut Host);

struct Host {
    port: Spp,
    now: Nanos,
}

impl Host {
    fn new(chain: &DaisyChain<Printer>) -> Self {
        Self {
            port: Spp::new(Box::new(chain.clone())),
            now: 0,
        }
    }

    /// Writes a register, `after` the access before.
    fn write(&mut self, after: Nanos, offset: u16, value: u8) {
        self.now += after;
        self.port
            .write(self.now, 0, offset, Width::Byte, value.into());
    }

    fn data(&mut self, after: Nanos, value: u8) {
        self.write(after, 0, value);
    }

    fn dcr(&mut self, after: Nanos, value: u8) {
        self.write(after, 2, value);
    }

    /// The five status lines.
    fn dsr(&mut self) -> u32 {
        self.port.read(self.now, 0, 1, Width::Byte) & 0xF8
    }

    /// The packet's bytes up to the third answer; gives the answers.
    fn open(&mut self) -> [u32; 3] {
        for byte in [0xAA, 0x55, 0x00, 0xFF] {
            self.data(7 * US, byte);
        }
        let first = self.dsr();
        self.data(7 * US, 0x87);
        let second = self.dsr();
        self.data(7 * US, 0x78);
        [first, second, self.dsr()]
    }

    /// A command, as fast as it may be; gives the lines while nStrobe is low.
    fn command(&mut self, command: u8) -> u32 {
        self.data(7 * US, command);
        self.dcr(US, 0x0D);
        let seen = self.dsr();
        self.dcr(US, 0x0C);
        seen
    }

    fn packet(&mut self, command: u8) -> u32 {
        self.open();
        let seen = self.command(command);
        self.data(7 * US, 0xFF);
        seen
    }
}

fn chain(count: usize) -> (DaisyChain<Printer>, Vec<Peripheral1284>, Printer) {
    let printer = Printer::new();
    let devices: Vec<_> = (0..count).map(|_| Peripheral1284::new()).collect();
    let chain = devices
        .iter()
        .cloned()
        .fold(DaisyChain::new(printer.clone()), DaisyChain::with_device);
    (chain, devices, printer)
}

fn kinds(chain: &DaisyChain<Printer>) -> Vec<CppViolationKind> {
    let violations = chain.violations();
    violations.iter().map(|violation| violation.kind).collect()
}

/// The answers that Linux's imm.c lists: f8/58/78 with no device selected, f8/58/70 with one, Busy of
/// the third for the last device, nAck being anything.
#[test]
fn the_answers() {
    const ANY: u32 = 0xB8;
    let (chain, _, printer) = chain(2);
    let mut host = Host::new(&chain);
    assert_eq!(host.open().map(|dsr| dsr & ANY), [0xB8, 0x18, 0xB8]);
    host.command(0x00);
    // The next one, which is the last.
    assert_eq!(host.dsr() & ANY, 0x38);
    host.command(0x01);
    // The end of the chain.
    assert_eq!(host.dsr(), 0xD8);
    host.data(7 * US, 0xFF);
    assert_eq!(host.packet(0xE0) & ANY, 0xB0);
    assert_eq!(host.open().map(|dsr| dsr & ANY), [0xB8, 0x18, 0xB0]);
    assert_eq!(host.command(0x30) & ANY, 0xB0);
    assert_eq!(host.dsr() & ANY, 0xB8);
    host.data(7 * US, 0xFF);
    assert_eq!(host.packet(0xE1) & ANY, 0x30);
    assert_eq!(chain.selected(), Some(1));
    assert_eq!(chain.commands(), [0x00, 0x01, 0xE0, 0x30, 0xE1]);
    assert_eq!(kinds(&chain), []);
    assert_eq!(printer.received(), []);
}

#[test]
fn who_is_connected() {
    let (chain, devices, printer) = chain(2);
    let mut host = Host::new(&chain);
    let print = |host: &mut Host, byte| {
        host.data(100 * US, byte);
        host.dcr(US, 0x0D);
        host.dcr(US, 0x0C);
    };
    print(&mut host, 1);
    host.open();
    host.command(0);
    host.command(1);
    host.data(7 * US, 0xFF);
    print(&mut host, 2);
    for (command, byte) in [(0xE0, 3), (0xE1, 4), (0x30, 5)] {
        host.packet(command);
        print(&mut host, byte);
    }
    assert_eq!(printer.received(), [1, 2, 5]);
    assert_eq!(devices[0].received(), [3]);
    assert_eq!(devices[1].received(), [4]);
    // A negotiation concerns the selected device only.
    host.packet(0xE1);
    host.data(7 * US, extensibility::NIBBLE);
    host.dcr(US, 0x06);
    host.dcr(US, 0x07);
    host.dcr(US, 0x04);
    assert_eq!(devices[1].negotiations(), [extensibility::NIBBLE]);
    assert_eq!(devices[0].negotiations(), []);
    assert_eq!(kinds(&chain), []);
}

#[test]
fn times_are_watched() {
    // Too short for a packet: nothing happens.
    let (quiet, _, printer) = chain(1);
    let mut host = Host::new(&quiet);
    for byte in [0xAA, 0x55, 0x00, 0xFF] {
        host.data(7 * US - 1, byte);
    }
    assert_eq!(host.dsr(), 0xD8);
    assert_eq!(kinds(&quiet), []);
    assert_eq!(printer.received(), []);

    let cases: [(CppViolationKind, Break); 8] = [
        (CppViolationKind::ByteTooShort, |host| {
            host.data(7 * US - 1, 0x00);
        }),
        (CppViolationKind::SetUpTooShort, |host| {
            host.data(7 * US, 0x00);
            host.dcr(US - 1, 0x0D);
        }),
        (CppViolationKind::StrobeTooShort, |host| {
            host.data(7 * US, 0x00);
            host.dcr(US, 0x0D);
            host.dcr(US - 1, 0x0C);
        }),
        (CppViolationKind::HoldTooShort, |host| {
            host.data(7 * US, 0x00);
            host.dcr(US, 0x0D);
            host.data(US, 0xFF);
        }),
        (CppViolationKind::HoldTooShort, |host| {
            host.command(0x00);
            host.data(7 * US - 1, 0xFF);
        }),
        // The third byte is no command.
        (CppViolationKind::OutOfOrder, |host| host.dcr(7 * US, 0x0D)),
        (CppViolationKind::OutOfOrder, |host| host.dcr(7 * US, 0x04)),
        (CppViolationKind::UnknownCommand(0x55), |host| {
            host.command(0x55);
        }),
    ];
    for (kind, run) in cases {
        let (chain, ..) = chain(1);
        let mut host = Host::new(&chain);
        host.open();
        run(&mut host);
        assert_eq!(kinds(&chain), [kind]);
    }
}

#[test]
fn a_packet_that_is_given_up_changes_nothing() {
    for length in 0..=6 {
        let (chain, _, printer) = chain(1);
        let mut host = Host::new(&chain);
        for byte in [0xAA, 0x55, 0x00, 0xFF, 0x87, 0x78]
            .into_iter()
            .take(length)
        {
            host.data(7 * US, byte);
        }
        for byte in [0xFF, 0x00] {
            host.data(7 * US, byte);
        }
        assert_eq!(host.dsr(), 0xD8, "{length}");
        assert_eq!(kinds(&chain), [], "{length}");
        // And the next one is a packet.
        assert_eq!(host.packet(0x00) & 0xB8, 0x38, "{length}");
        assert_eq!(chain.addresses(), [Some(0)]);
        assert_eq!(printer.received(), []);
    }
}
