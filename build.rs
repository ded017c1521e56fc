//! Link settings of the driver image, and its resources: its version, and the messages that the event
//! viewer shows. They are written here, for there is no resource compiler on every host.

#[path = "src/trace/message.rs"]
#[allow(unreachable_pub, reason = "it is a file of the driver's")]
mod message;

use std::{env, fs, path::Path};

/// English (United States), UTF-16.
const LANGUAGE: u16 = 0x0409;
const CODE_PAGE: u16 = 0x04B0;
/// `RT_MESSAGETABLE` and `RT_VERSION`
const MESSAGE_TABLE: u16 = 11;
const VERSION: u16 = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/trace/message.rs");
    if env::var_os("CARGO_CFG_WINDOWS").is_none() || !cfg!(any(windows, feature = "linux-kit")) {
        println!(
            "cargo::error=parscan.sys is a Windows driver: on this host type `cargo xtask build`, which \
             sets up what is missing and builds it. `cargo xtask --help` lists the rest."
        );
        return Ok(());
    }
    // link.exe implies the header checksum for native images, lld does not.
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    // The same input gives the same bytes.
    println!("cargo::rustc-cdylib-link-arg=/Brepro");
    let path = Path::new(&env::var("OUT_DIR")?).join("parscan.res");
    fs::write(&path, resources()?)?;
    println!("cargo::rustc-cdylib-link-arg={}", path.display());
    #[cfg(any(windows, feature = "linux-kit"))]
    wdk_build::configure_wdk_binary_build()?;
    Ok(())
}

/// A resource file: an empty resource, and ours.
fn resources() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut file = resource(0, 0, 0, &[]);
    file.extend(resource(MESSAGE_TABLE, 1, LANGUAGE, &messages()));
    file.extend(resource(VERSION, 1, LANGUAGE, &version()?));
    Ok(file)
}

/// `RESOURCEHEADER` and its data.
fn resource(kind: u16, name: u16, language: u16, data: &[u8]) -> Vec<u8> {
    /// Kind and name are numbers.
    const NUMBER: u16 = 0xFFFF;
    const HEADER: u32 = 32;
    let mut bytes = Vec::new();
    bytes.extend(length(data).to_le_bytes());
    bytes.extend(HEADER.to_le_bytes());
    for word in [NUMBER, kind, NUMBER, name, 0, 0, 0, language, 0, 0, 0, 0] {
        bytes.extend(u16::to_le_bytes(word));
    }
    bytes.extend(data);
    align(&mut bytes);
    bytes
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a few kilobytes")
}

/// Zeroes up to the next 32-bit boundary.
fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// UTF-16 with a NUL.
fn wide(text: &str) -> impl Iterator<Item = u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes)
}

/// `MESSAGE_RESOURCE_DATA`: one block, whose IDs follow one another.
fn messages() -> Vec<u8> {
    const UNICODE: u16 = 1;
    let [first, .., last] = message::Step::ALL;
    let mut bytes = Vec::new();
    // Blocks; first and last ID; where the first message is.
    for number in [1, first.error_code(), last.error_code(), 16] {
        bytes.extend(u32::to_le_bytes(number));
    }
    for step in message::Step::ALL {
        let (name, remedy) = (step.name(), step.remedy());
        let text = format!("%2 could not be started. Step: {name}. Status: %3. {remedy}\r\n");
        let mut text: Vec<u8> = wide(&text).collect();
        align(&mut text);
        let size = u16::try_from(text.len() + 4).expect("a sentence");
        bytes.extend(size.to_le_bytes());
        bytes.extend(UNICODE.to_le_bytes());
        bytes.extend(text);
    }
    bytes
}

/// A node of `VS_VERSIONINFO`: its key, its value, and what is below it. `words`: the value is text,
/// of so many UTF-16 units.
fn node(key: &str, value: &[u8], words: Option<usize>, below: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    let size = words.unwrap_or(value.len());
    bytes.extend(u16::try_from(size).expect("a short text").to_le_bytes());
    bytes.extend(u16::from(words.is_some()).to_le_bytes());
    bytes.extend(wide(key));
    align(&mut bytes);
    bytes.extend(value);
    for child in below {
        align(&mut bytes);
        bytes.extend(child);
    }
    let size = u16::try_from(bytes.len()).expect("less than a kilobyte");
    bytes[..2].copy_from_slice(&size.to_le_bytes());
    bytes
}

/// `VS_VERSIONINFO`
fn version() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let part = |name| -> Result<u32, Box<dyn std::error::Error>> {
        Ok(env::var(format!("CARGO_PKG_VERSION_{name}"))?.parse()?)
    };
    let (major, minor, patch) = (part("MAJOR")?, part("MINOR")?, part("PATCH")?);
    let (high, low) = (major << 16 | minor, patch << 16);
    let mut fixed = Vec::new();
    // Signature, version of the structure, file and product version, mask and flags, VOS_NT_WINDOWS32,
    // VFT_DRV, VFT2_DRV_SYSTEM, no date.
    for number in [
        0xFEEF_04BD,
        0x1_0000,
        high,
        low,
        high,
        low,
        0x3F,
        0,
        0x4_0004,
        3,
        7,
        0,
        0,
    ] {
        fixed.extend(u32::to_le_bytes(number));
    }
    let number = format!("{major}.{minor}.{patch}.0");
    let texts = [
        ("CompanyName", "parscan project"),
        (
            "FileDescription",
            "Driver for parallel ports and USB still-image devices",
        ),
        ("FileVersion", &number),
        ("InternalName", "parscan.sys"),
        (
            "LegalCopyright",
            "The authors of parscan; MIT or Apache-2.0",
        ),
        ("OriginalFilename", "parscan.sys"),
        ("ProductName", "parscan"),
        ("ProductVersion", &number),
    ];
    let texts = texts.map(|(key, text)| {
        let value: Vec<u8> = wide(text).collect();
        node(key, &value, Some(value.len() / 2), &[])
    });
    let table = node(
        &format!("{LANGUAGE:04X}{CODE_PAGE:04X}"),
        &[],
        Some(0),
        &texts,
    );
    let strings = node("StringFileInfo", &[], Some(0), &[table]);
    let mut translation = LANGUAGE.to_le_bytes().to_vec();
    translation.extend(CODE_PAGE.to_le_bytes());
    let translation = node("Translation", &translation, None, &[]);
    let variables = node("VarFileInfo", &[], Some(0), &[translation]);
    Ok(node("VS_VERSION_INFO", &fixed, None, &[strings, variables]))
}
