//! Build script of the drivers of the tests: links the library as a native driver. Nothing to do
//! for other targets.

fn main() {
    // No file of the package: only a change of this script matters.
    println!("cargo::rerun-if-env-changed=CARGO_CFG_WINDOWS");
    if std::env::var("CARGO_CFG_WINDOWS").is_ok() {
        for arg in [
            "/DRIVER",
            "/SUBSYSTEM:NATIVE",
            "/ENTRY:DriverEntry",
            "/NODEFAULTLIB",
            "/DEBUG:NONE",
        ] {
            println!("cargo::rustc-link-arg-cdylib={arg}");
        }
    }
}
