//! See `parscan_fuzz::port_program`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: parscan_fuzz::port_program::Input| {
    parscan_fuzz::port_program::run(&input);
});
