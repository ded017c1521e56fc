//! Link settings of the driver image.

fn main() -> Result<(), wdk_build::ConfigError> {
    // link.exe implies the header checksum for native images, lld does not.
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    // The same input gives the same bytes.
    println!("cargo::rustc-cdylib-link-arg=/Brepro");
    wdk_build::configure_wdk_binary_build()
}
