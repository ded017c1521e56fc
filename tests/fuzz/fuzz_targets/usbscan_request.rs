//! See `parscan_fuzz::usbscan_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: parscan_fuzz::usbscan_request::Input| {
    parscan_fuzz::usbscan_request::run(&input);
});
