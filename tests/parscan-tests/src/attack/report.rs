//! What was reached of the image, by which machine, and what never.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anstream::println;
use ntsim::{Block, Coverage};
use parscan_tests::symbols::Symbols;

/// One line each: the end of a function's name, a colon, and why blocks of it are never reached.
const REASONS: &str = include_str!("unreached.txt");

/// What a machine reached.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) coverage: &'static Coverage,
}

impl Machine {
    /// Of `NAME=FILE`, as a machine left it.
    pub(crate) fn parse(text: &str) -> Result<(String, PathBuf), String> {
        let (name, file) = text.split_once('=').ok_or("not NAME=FILE")?;
        Ok((name.to_owned(), PathBuf::from(file)))
    }
}

/// Blocks of a function.
#[derive(Default)]
struct Function {
    all: usize,
    missing: Vec<Block>,
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn share(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Prints what these machines reached, and what none of them did, by function; `each` block of it if
/// wanted.
pub(crate) fn print(image: &Path, machines: &[Machine], each: bool) {
    let Some(first) = machines.first() else {
        return;
    };
    let blocks = first.coverage.blocks();
    let by = |block: &Block| {
        let block = *block;
        machines
            .iter()
            .filter(move |it| it.coverage.is_reached(block))
    };
    let reached = blocks.iter().filter(|it| by(it).count() > 0).count();
    never(image, blocks, each, |block| by(block).count() > 0);
    for machine in machines {
        let own = machine.coverage.reached();
        let alone = blocks
            .iter()
            .filter(|it| machine.coverage.is_reached(**it) && by(it).count() == 1);
        println!(
            "{:<12} {own:>6} blocks ({:.1} %), {} of them nothing else",
            machine.name,
            share(own, blocks.len()),
            alone.count()
        );
    }
    println!(
        "{reached} of {} basic blocks reached ({:.1} %)",
        blocks.len(),
        share(reached, blocks.len())
    );
}

/// Lists the functions with blocks that were never reached.
fn never(image: &Path, blocks: &[Block], each: bool, is_reached: impl Fn(&Block) -> bool) {
    let symbols = Symbols::beside(image);
    let mut functions: BTreeMap<String, Function> = BTreeMap::new();
    for block in blocks {
        let place = symbols.name(u64::from(block.start)).unwrap_or_default();
        let name = place.rsplit_once('+').map_or("", |(name, _)| name);
        let function = functions.entry(name.to_owned()).or_default();
        function.all += 1;
        if !is_reached(block) {
            function.missing.push(*block);
        }
    }
    let mut functions: Vec<_> = functions
        .into_iter()
        .filter(|(_, it)| !it.missing.is_empty())
        .collect();
    functions.sort_by_key(|(_, it)| std::cmp::Reverse(it.missing.len()));
    println!("never reached:");
    for (name, function) in functions {
        let missing = function.missing.len();
        println!("  {missing:>4} of {:>4} blocks of {name}", function.all);
        for reason in REASONS
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(end, _)| name.ends_with(end))
        {
            println!("         {}", reason.1);
        }
        for block in function.missing.iter().filter(|_| each) {
            println!("         +{:#x}", block.start);
        }
    }
}
