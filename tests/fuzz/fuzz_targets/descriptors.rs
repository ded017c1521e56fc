//! See `parscan_fuzz::descriptors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: parscan_fuzz::descriptors::Input| {
    parscan_fuzz::descriptors::run(&input);
});
