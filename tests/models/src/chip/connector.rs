//! The connector: the lines that a chip drives, and the peripheral on the other side.

use alloc::boxed::Box;

use crate::{HostLines, Levels, LineTrace, Nanos, Peripheral, PeripheralLines};

/// A peripheral, the host's lines to it, the time up to which both have been followed, and the
/// trace if one is kept.
///
/// Without a trace nothing looks at the lines between two accesses, so time costs nothing then.
pub(super) struct Connector {
    peripheral: Box<dyn Peripheral>,
    host: HostLines,
    now: Nanos,
    trace: Option<LineTrace>,
}

impl Connector {
    pub(super) fn new(mut peripheral: Box<dyn Peripheral>, host: HostLines) -> Self {
        peripheral.host_changed(0, host);
        Self {
            peripheral,
            host,
            now: 0,
            trace: None,
        }
    }

    pub(super) fn start_trace(&mut self) {
        let levels = self.levels();
        self.trace = Some(LineTrace::new(self.now, levels));
    }

    pub(super) fn stop_trace(&mut self) {
        self.trace = None;
    }

    pub(super) fn restart_trace(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.restart();
        }
    }

    pub(super) const fn trace(&self) -> Option<&LineTrace> {
        self.trace.as_ref()
    }

    /// The time of the last look, which is never before that of the last access.
    pub(super) const fn now(&self) -> Nanos {
        self.now
    }

    pub(super) const fn host(&self) -> HostLines {
        self.host
    }

    /// Lets time pass up to `now`, with every change of the peripheral's lines at its own time.
    pub(super) fn catch_up(&mut self, now: Nanos) {
        if self.trace.is_some() {
            while let Some(next) = self.next_change(now) {
                self.now = next;
                self.sample();
            }
        }
        self.now = self.now.max(now);
        if self.trace.is_some() {
            self.sample();
        }
    }

    /// Lets time pass up to `now`, and the peripheral know.
    pub(super) fn look(&mut self, now: Nanos) {
        self.catch_up(now);
        self.peripheral.lines(self.now);
    }

    /// Waits for the peripheral's lines to fulfil `wanted`, no longer than `until`. Time passes up
    /// to that moment, or up to `until`.
    pub(super) fn wait(&mut self, until: Nanos, wanted: impl Fn(PeripheralLines) -> bool) -> bool {
        loop {
            if wanted(self.lines()) {
                return true;
            }
            match self.next_change(until) {
                Some(next) => self.now = next,
                None if self.now < until => self.now = until,
                None => return false,
            }
        }
    }

    /// Drives the host's lines.
    pub(super) fn drive(&mut self, host: HostLines) {
        if host != self.host {
            self.host = host;
            self.peripheral.host_changed(self.now, host);
            self.sample();
        }
    }

    /// The peripheral's lines.
    pub(super) fn lines(&mut self) -> PeripheralLines {
        self.sample();
        self.peripheral.lines(self.now)
    }

    /// The byte on the data lines.
    pub(super) fn bus(&mut self) -> u8 {
        self.host.bus(self.peripheral.data(self.now))
    }

    pub(super) fn levels(&mut self) -> Levels {
        let data = self.bus();
        Levels::new(self.host, self.peripheral.lines(self.now)).with_data(data)
    }

    /// The peripheral's next change, if it comes by `until`.
    fn next_change(&self, until: Nanos) -> Option<Nanos> {
        let next = self.peripheral.next_change(self.now)?;
        (next > self.now && next <= until).then_some(next)
    }

    fn sample(&mut self) {
        if self.trace.is_some() {
            let levels = self.levels();
            if let Some(trace) = &mut self.trace {
                trace.record(self.now, levels);
            }
        }
    }
}
