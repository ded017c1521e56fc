//! See `parscan_fuzz::device_id`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |input: parscan_fuzz::device_id::Input| parscan_fuzz::device_id::run(&input)
);
