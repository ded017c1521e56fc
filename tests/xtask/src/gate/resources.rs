//! The resources of parscan.sys: its version, and the messages that the event viewer shows.

use anyhow::{Context, Result, bail};
use object::{
    LittleEndian as LE,
    read::pe::{PeFile64, ResourceDirectory, ResourceDirectoryEntryData, ResourceDirectoryTable},
};

#[path = "../../../../src/trace/message.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a file of the driver's")]
mod message;

/// `RT_MESSAGETABLE` and `RT_VERSION`
const MESSAGE_TABLE: u16 = 11;
const VERSION: u16 = 16;

/// Checks that the image says this version (`1.2.3`), and has a message for each way in which a start
/// can fail. Gives what was found, in a line.
pub(crate) fn check(image: &[u8], version: &str) -> Result<String> {
    let file = PeFile64::parse(image)?;
    let directory = file
        .data_directories()
        .resource_directory(file.data(), &file.section_table())?
        .context("the image has no resources: no version, and no text for the event viewer")?;
    let stated = file_version(find(&file, &directory, VERSION)?)?;
    if stated != format!("{version}.0") {
        bail!("the image says version {stated}, Cargo.toml {version}");
    }
    let texts = messages(find(&file, &directory, MESSAGE_TABLE)?)
        .context("the message table cannot be read")?;
    for step in message::Step::ALL {
        let text = texts
            .iter()
            .find(|(code, _)| *code == step.error_code())
            .map(|(_, text)| text)
            .with_context(|| format!("no message {:#x}", step.error_code()))?;
        if !text.contains(step.name()) || !text.contains("%2") || !text.ends_with(".\r\n") {
            bail!("message {:#x} is {text:?}", step.error_code());
        }
    }
    Ok(format!("version {stated}, {} messages", texts.len()))
}

/// The first resource of a kind.
fn find<'data>(
    file: &PeFile64<'data>,
    directory: &ResourceDirectory<'data>,
    kind: u16,
) -> Result<&'data [u8]> {
    let below = |table: ResourceDirectoryTable<'data>, id: Option<u16>| {
        table
            .entries
            .iter()
            .find(|entry| id.is_none() || entry.name_or_id().id() == id)
            .and_then(|entry| entry.data(*directory).ok())
    };
    let missing = || format!("no resource of type {kind}");
    let names = below(directory.root()?, Some(kind)).and_then(ResourceDirectoryEntryData::table);
    let languages = names
        .and_then(|it| below(it, None))
        .and_then(ResourceDirectoryEntryData::table);
    let data = languages.and_then(|it| below(it, None));
    let entry = data
        .and_then(ResourceDirectoryEntryData::data)
        .with_context(missing)?;
    let bytes = file
        .section_table()
        .pe_data_at(file.data(), entry.offset_to_data.get(LE))
        .with_context(missing)?;
    bytes
        .get(..entry.size.get(LE) as usize)
        .with_context(missing)
}

/// `VS_FIXEDFILEINFO`'s file version.
fn file_version(data: &[u8]) -> Result<String> {
    const SIGNATURE: [u8; 4] = 0xFEEF_04BD_u32.to_le_bytes();
    let at = data
        .windows(4)
        .position(|bytes| bytes == SIGNATURE)
        .context("no VS_FIXEDFILEINFO")?;
    let word = |offset: usize| {
        let bytes = data.get(at + offset..at + offset + 2);
        bytes.map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    Ok(format!(
        "{}.{}.{}.{}",
        word(10),
        word(8),
        word(14),
        word(12)
    ))
}

/// `MESSAGE_RESOURCE_DATA`: codes and texts.
fn messages(data: &[u8]) -> Option<Vec<(u32, String)>> {
    let number = |at: usize| {
        let bytes = data.get(at..at + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let mut found = Vec::new();
    for block in 0..number(0)? as usize {
        let at = 4 + 12 * block;
        let (first, last) = (number(at)?, number(at + 4)?);
        let mut entry = number(at + 8)? as usize;
        for code in first..=last {
            let head = number(entry)?;
            let (length, unicode) = ((head & 0xFFFF) as usize, head >> 16 == 1);
            let text = data.get(entry + 4..entry + length)?;
            let units = text
                .chunks_exact(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
            found.push((code, String::from_utf16(&units).ok().filter(|_| unicode)?));
            entry += length;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_resources_says_so() {
        let error = check(&super::super::tests::plain_image(), "1.2.3").unwrap_err();
        assert!(error.to_string().contains("no resources"), "{error}");
    }

    #[test]
    fn messages_are_read_to_the_end_of_their_block() {
        let mut data = Vec::new();
        for number in [1_u32, 7, 8, 16] {
            data.extend(number.to_le_bytes());
        }
        for text in ["a\0", "bc\0\0"] {
            let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            data.extend(u16::try_from(units.len() + 4).unwrap().to_le_bytes());
            data.extend([1, 0]);
            data.extend(units);
        }
        let expected = [(7, "a".to_owned()), (8, "bc".to_owned())];
        assert_eq!(messages(&data).unwrap(), expected);
        data.truncate(data.len() - 1);
        assert_eq!(messages(&data), None);
    }

    #[test]
    fn a_version_is_read_in_its_order() {
        let mut data = vec![0; 6];
        for number in [0xFEEF_04BD_u32, 0x1_0000, 1 << 16 | 2, 3 << 16 | 4] {
            data.extend(number.to_le_bytes());
        }
        assert_eq!(file_version(&data).unwrap(), "1.2.3.4");
    }
}
