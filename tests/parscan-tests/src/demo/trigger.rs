//! A trigger under load.

use anstream::println;
use ntsim::Nanos;
use parscan_tests::{check, trigger};

use crate::show;

/// How many of each kind.
const COUNT: usize = 50;

pub(crate) fn run() {
    show::title(&format!(
        "A program sends triggers of {} by port programs, while other threads want the processor",
        show::duration(trigger::WIDTH)
    ));
    let pc = trigger::pc();
    let recording = trigger::record(&pc, COUNT);
    println!("  {:<32} {:<10} longest", "IOCTL_PARSCAN_RUN", "shortest");
    let row = |name, widths: &[Nanos]| {
        let (shortest, longest) = (widths.iter().min(), widths.iter().max());
        let shown = |width: Option<&Nanos>| show::duration(width.copied().unwrap_or(0));
        println!("  {name:<32} {:<10} {}", shown(shortest), shown(longest));
    };
    row("data 1, delay 10us, data 0", &recording.plain);
    row("the same, ATOMIC", &recording.atomic);
    println!();
    show::indented(&recording.text(100));
    show::note("Two of them at the connector: the plug leads D0 back to nFault.");
    check(pc.machine.remove(pc.node));
    check(pc.machine.unload(pc.driver));
}
