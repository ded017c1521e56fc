//! See `parscan_fuzz::engine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: parscan_fuzz::engine::Input| parscan_fuzz::engine::run(&input));
