//! The pictures of the documents show what the current code does.

use std::{env, fs, path::Path};

use parscan_lab::negotiation;

/// Set, the pictures are made anew instead.
const UPDATE: &str = "PARSCAN_UPDATE_PICTURES";

#[test]
fn the_negotiation_is_the_recorded_one() {
    let pc = negotiation::pc();
    let recording = negotiation::record(&pc);
    pc.finish();
    same("negotiation.svg", &recording.svg());
}

fn same(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("pictures")
        .join(name);
    if env::var_os(UPDATE).is_some() {
        fs::write(&path, made).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "{} is not what the code does now. To make it anew: {UPDATE}=1 cargo test -p parscan-lab \
         --test pictures",
        path.display()
    );
}
