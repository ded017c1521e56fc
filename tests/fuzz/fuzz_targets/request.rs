//! See `parscan_fuzz::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |input: parscan_fuzz::request::Input| parscan_fuzz::request::run(&input)
);
