//! See `parscan_fuzz::peripheral`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |input: parscan_fuzz::peripheral::Input| parscan_fuzz::peripheral::run(&input)
);
