//! Build script of the DLLs: the same bytes at any time. Nothing to do for other linkers.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name| std::env::var(name).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "windows" && target("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-arg-cdylib=-Wl,--no-insert-timestamp");
    }
}
