//! Nothing costs more than `tests/parscan-tests/costs.txt` says: exact counts of instructions, memory, locks,
//! switches and port accesses. `cargo xtask bench` writes that file.

use std::process::Command;

#[test]
fn nothing_costs_more_than_it_did() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("--check")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
