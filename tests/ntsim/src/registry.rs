//! The registry: keys by path, values by name, both without regard to case.

use std::collections::BTreeMap;

/// The content of a registry value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegValue {
    /// `REG_DWORD`.
    Dword(u32),
    /// `REG_QWORD`.
    Qword(u64),
    /// `REG_SZ`.
    Sz(String),
    /// `REG_EXPAND_SZ`.
    ExpandSz(String),
    /// `REG_MULTI_SZ`.
    MultiSz(Vec<String>),
    /// `REG_BINARY`.
    Binary(Vec<u8>),
    /// Any type number with any bytes: what a careless or hostile writer left there.
    Raw(u32, Vec<u8>),
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

impl RegValue {
    /// Type number and bytes, as the registry stores them.
    #[must_use]
    pub fn encode(&self) -> (u32, Vec<u8>) {
        match self {
            Self::Sz(s) => (1, wide(s)),
            Self::ExpandSz(s) => (2, wide(s)),
            Self::Binary(b) => (3, b.clone()),
            Self::Dword(d) => (4, d.to_le_bytes().to_vec()),
            Self::MultiSz(list) => {
                let mut bytes: Vec<u8> = list.iter().flat_map(|s| wide(s)).collect();
                bytes.extend([0, 0]);
                (7, bytes)
            }
            Self::Qword(q) => (11, q.to_le_bytes().to_vec()),
            Self::Raw(kind, bytes) => (*kind, bytes.clone()),
        }
    }

    /// The value that type number and bytes mean; [`RegValue::Raw`] where they do not fit.
    #[must_use]
    pub fn decode(kind: u32, bytes: &[u8]) -> Self {
        let text = || {
            let units: Vec<u16> = bytes
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        };
        match (kind, bytes.len()) {
            (1, _) => Self::Sz(text().trim_end_matches('\0').to_owned()),
            (2, _) => Self::ExpandSz(text().trim_end_matches('\0').to_owned()),
            (3, _) => Self::Binary(bytes.to_vec()),
            (4, 4) => Self::Dword(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            (7, _) => Self::MultiSz(
                text()
                    .split('\0')
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
            _ => Self::Raw(kind, bytes.to_vec()),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Key {
    path: String,
    values: BTreeMap<String, (String, u32, Vec<u8>)>,
}

/// All keys of a machine.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    keys: BTreeMap<String, Key>,
}

fn fold(path: &str) -> String {
    path.trim_end_matches('\\').to_lowercase()
}

impl Registry {
    /// Makes a key and its parents. Returns whether it was new.
    pub fn create(&mut self, path: &str) -> bool {
        let path = path.trim_end_matches('\\');
        let mut new = false;
        for (i, _) in path.match_indices('\\').chain([(path.len(), "")]) {
            if i > 0 {
                let part = &path[..i];
                self.keys.entry(fold(part)).or_insert_with(|| {
                    new = true;
                    Key {
                        path: part.to_owned(),
                        ..Key::default()
                    }
                });
            }
        }
        new
    }

    /// Whether the key exists.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.keys.contains_key(&fold(path))
    }

    /// Sets a value; makes the key if needed.
    pub fn set(&mut self, path: &str, name: &str, value: &RegValue) {
        let (kind, bytes) = value.encode();
        self.set_raw(path, name, kind, bytes);
    }

    pub(crate) fn set_raw(&mut self, path: &str, name: &str, kind: u32, bytes: Vec<u8>) {
        self.create(path);
        if let Some(key) = self.keys.get_mut(&fold(path)) {
            key.values
                .insert(name.to_lowercase(), (name.to_owned(), kind, bytes));
        }
    }

    /// Reads a value.
    #[must_use]
    pub fn get(&self, path: &str, name: &str) -> Option<RegValue> {
        let (_, kind, bytes) = self.get_raw(path, name)?;
        Some(RegValue::decode(kind, &bytes))
    }

    pub(crate) fn get_raw(&self, path: &str, name: &str) -> Option<(String, u32, Vec<u8>)> {
        self.keys
            .get(&fold(path))?
            .values
            .get(&name.to_lowercase())
            .cloned()
    }

    /// Deletes a value. Returns whether it was there.
    pub fn delete(&mut self, path: &str, name: &str) -> bool {
        self.keys
            .get_mut(&fold(path))
            .is_some_and(|k| k.values.remove(&name.to_lowercase()).is_some())
    }

    /// Names of the values of a key.
    #[must_use]
    pub fn value_names(&self, path: &str) -> Vec<String> {
        self.keys.get(&fold(path)).map_or_else(Vec::new, |k| {
            k.values.values().map(|v| v.0.clone()).collect()
        })
    }

    /// Names of the keys directly below a key.
    #[must_use]
    pub fn subkeys(&self, path: &str) -> Vec<String> {
        let prefix = fold(path) + "\\";
        self.keys
            .iter()
            .filter(|(k, _)| k.starts_with(&prefix) && !k[prefix.len()..].contains('\\'))
            .map(|(_, key)| key.path[prefix.len()..].to_owned())
            .collect()
    }
}
