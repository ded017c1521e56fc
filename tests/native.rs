//! Links the library as a native driver; nothing to do for other targets.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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
