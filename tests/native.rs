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
        // The crate tracelogging asks for this library of user mode, of which a driver uses nothing:
        // where it is not there, an empty one.
        let folder = std::env::var("OUT_DIR").expect("cargo sets it");
        let library = std::path::Path::new(&folder).join("rpcrt4.lib");
        std::fs::write(library, "!<arch>\n").expect("a file of eight bytes");
        println!("cargo::rustc-link-search=native={folder}");
    }
}
