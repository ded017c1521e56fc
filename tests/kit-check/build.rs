//! `cargo build` of the driver on a host that is not Windows, before `cargo xtask setup` was there:
//! Microsoft's crates would say that they need Windows. This says what to type.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WDKContentRoot");
    // The setup's settings name the kit.
    if cfg!(windows) || std::env::var_os("WDKContentRoot").is_some() {
        return;
    }
    println!(
        "cargo::error=parscan.sys is a Windows driver. On this host type `cargo xtask build`: it sets \
         up what is missing and builds the driver (`cargo xtask demo` also shows it at work)."
    );
}
