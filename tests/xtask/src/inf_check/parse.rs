//! Reading INF files, by the general syntax rules of Microsoft's documentation.
//!
//! The order of sections and lines, repeated sections and line numbers are kept: the checks are
//! about them.

/// An INF, with its strings substituted.
pub(crate) struct Inf {
    /// Sections in the order of the file, repeated ones too.
    pub(crate) sections: Vec<Section>,
    /// `%tokens%` without a string: token and line.
    pub(crate) undefined: Vec<(String, usize)>,
    /// Names of the strings that a line uses, in lower case.
    pub(crate) used: Vec<String>,
    /// Lines that cannot be read, and why.
    pub(crate) errors: Vec<(usize, String)>,
}

/// A section: `[name]` and the lines to the next section.
pub(crate) struct Section {
    pub(crate) name: String,
    /// Line of the name, from 1.
    pub(crate) line: usize,
    pub(crate) entries: Vec<Entry>,
}

/// A line of a section: `key = value, value` or `value, value`.
pub(crate) struct Entry {
    /// Line of its beginning, from 1.
    pub(crate) line: usize,
    key: Option<Field>,
    values: Vec<Field>,
}

/// A key or value, without its quotes.
#[derive(Default)]
struct Field {
    /// As written.
    raw: String,
    /// With its strings substituted.
    text: String,
}

impl Entry {
    /// What stands before `=`; empty if there is none.
    pub(crate) fn key(&self) -> &str {
        self.key.as_ref().map_or("", |key| &key.text)
    }

    /// Is there a `=`?
    pub(crate) const fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Is the key this directive?
    pub(crate) fn is(&self, directive: &str) -> bool {
        self.key().eq_ignore_ascii_case(directive)
    }

    /// The value at the place; empty if there is none.
    pub(crate) fn value(&self, index: usize) -> &str {
        self.values.get(index).map_or("", |value| &value.text)
    }

    /// The value as it is written, before strings are substituted.
    pub(crate) fn raw(&self, index: usize) -> &str {
        self.values.get(index).map_or("", |value| &value.raw)
    }

    /// All values. `key =` has one, which is empty.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|value| value.text.as_str())
    }

    /// The number of values.
    pub(crate) const fn len(&self) -> usize {
        self.values.len()
    }
}

impl Section {
    /// The first line with this directive.
    pub(crate) fn entry(&self, directive: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is(directive))
    }

    /// The first value of a directive; empty if it is not there.
    pub(crate) fn value(&self, directive: &str) -> &str {
        self.entry(directive).map_or("", |entry| entry.value(0))
    }

    /// Is this the section's name?
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl Inf {
    /// Reads an INF. Lines that cannot be read are in `errors`, and left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut inf = Self {
            sections: Vec::new(),
            undefined: Vec::new(),
            used: Vec::new(),
            errors: Vec::new(),
        };
        let mut lines = text.lines().enumerate();
        while let Some((index, first)) = lines.next() {
            let line = index + 1;
            let mut scanned = scan(first);
            while let Ok(Scanned {
                continues: true, ..
            }) = scanned
            {
                let Some((_, next)) = lines.next() else {
                    scanned = Err("the last line is to be continued".to_owned());
                    break;
                };
                scanned = scan(next).map(|more| join(scanned.unwrap_or_default(), more));
            }
            match scanned {
                Ok(scanned) => inf.take(line, scanned),
                Err(error) => inf.errors.push((line, error)),
            }
        }
        inf.substitute();
        inf
    }

    /// The first section of the name.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.is(name))
    }

    /// Puts a line where it belongs.
    fn take(&mut self, line: usize, scanned: Scanned) {
        if let Some(name) = scanned.section {
            if name.is_empty() || name.len() > 255 || name.ends_with('\\') {
                self.errors
                    .push((line, format!("[{name}] is no name for a section")));
            }
            self.sections.push(Section {
                name,
                line,
                entries: Vec::new(),
            });
        } else if scanned.key.is_some() || !scanned.values.is_empty() {
            let field = |raw| Field {
                raw,
                text: String::new(),
            };
            let entry = Entry {
                line,
                key: scanned.key.map(field),
                values: scanned.values.into_iter().map(field).collect(),
            };
            match self.sections.last_mut() {
                Some(section) => section.entries.push(entry),
                None => self
                    .errors
                    .push((line, "a line before the first section".to_owned())),
            }
        }
    }

    /// Fills in the text of all fields.
    fn substitute(&mut self) {
        let strings: Vec<(String, String)> = self
            .sections
            .iter()
            .filter(|section| section.is("Strings"))
            .flat_map(|section| &section.entries)
            .map(|entry| {
                let name = entry.key.as_ref().map_or("", |key| &key.raw);
                (name.to_ascii_lowercase(), entry.raw(0).to_owned())
            })
            .collect();
        for section in &mut self.sections {
            // What a string holds is taken as it is.
            let literal = is_strings(&section.name);
            for entry in &mut section.entries {
                for field in entry.key.iter_mut().chain(&mut entry.values) {
                    if literal {
                        field.text.clone_from(&field.raw);
                        continue;
                    }
                    let line = entry.line;
                    field.text = expand(&field.raw, |token| {
                        let name = token.to_ascii_lowercase();
                        let found = strings.iter().find(|(known, _)| *known == name);
                        self.used.push(name);
                        if found.is_none() {
                            self.undefined.push((token.to_owned(), line));
                        }
                        found.map(|(_, text)| text.clone())
                    });
                }
            }
        }
    }
}

/// Is it `Strings`, or `Strings` of a language?
pub(crate) fn is_strings(section: &str) -> bool {
    let name = section.to_ascii_lowercase();
    name == "strings" || name.starts_with("strings.")
}

/// Substitutes `%token%`; `%%` is a percent sign, and `%13%` a folder that stays as it is.
fn expand(raw: &str, mut string: impl FnMut(&str) -> Option<String>) -> String {
    let mut text = String::new();
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let Some((token, after)) = after.split_once('%') else {
            text.push('%');
            rest = after;
            continue;
        };
        rest = after;
        if token.is_empty() {
            text.push('%');
        } else if let Some(known) = (!token.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| string(token))
            .flatten()
        {
            text.push_str(&known);
        } else {
            text.push('%');
            text.push_str(token);
            text.push('%');
        }
    }
    text.push_str(rest);
    text
}

/// What one physical line holds.
#[derive(Default)]
struct Scanned {
    section: Option<String>,
    key: Option<String>,
    values: Vec<String>,
    /// It ended with a backslash.
    continues: bool,
}

/// Appends a continuation line: its first value goes on with the last one before.
fn join(mut first: Scanned, more: Scanned) -> Scanned {
    let mut values = more.key.into_iter().chain(more.values);
    if let (Some(last), Some(next)) = (first.values.last_mut(), values.next()) {
        last.push_str(&next);
    }
    first.values.extend(values);
    first.continues = more.continues;
    first
}

/// Reads a physical line: comment, quotes, `=`, commas.
fn scan(line: &str) -> Result<Scanned, String> {
    let mut scanned = Scanned::default();
    let trimmed = line.trim();
    if let Some(rest) = trimmed.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').ok_or("a section's name without ]")?;
        let rest = rest.trim();
        if !rest.is_empty() && !rest.starts_with(';') {
            return Err(format!("{rest} after a section's name"));
        }
        if name.contains(['[', '%', ';', '"']) {
            return Err(format!("[{name}] is no name for a section"));
        }
        scanned.section = Some(name.trim().to_owned());
        return Ok(scanned);
    }
    // Text of the field so far; its length up to the last quoted or printing character.
    let (mut field, mut kept) = (String::new(), 0);
    let (mut quoted, mut seen, mut comma) = (false, false, false);
    let mut characters = trimmed.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                field.push('"');
                kept = field.len();
                characters.next();
            }
            '"' => {
                quoted = !quoted;
                seen = true;
                kept = field.len();
            }
            ';' if !quoted => break,
            '=' if !quoted && scanned.key.is_none() && !comma => {
                field.truncate(kept);
                scanned.key = Some(std::mem::take(&mut field));
                (kept, seen) = (0, true);
            }
            ',' if !quoted => {
                field.truncate(kept);
                scanned.values.push(std::mem::take(&mut field));
                (kept, seen, comma) = (0, true, true);
            }
            _ if !quoted && character.is_whitespace() => {
                if !field.is_empty() {
                    field.push(character);
                }
            }
            _ => {
                field.push(character);
                kept = field.len();
                seen = true;
            }
        }
    }
    if quoted {
        return Err("a quotation mark is missing".to_owned());
    }
    field.truncate(kept);
    if field.ends_with('\\') {
        field.pop();
        scanned.continues = true;
    }
    if seen {
        scanned.values.push(field);
    }
    if scanned.key.as_ref().is_some_and(String::is_empty) {
        return Err("nothing before =".to_owned());
    }
    Ok(scanned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and values of the only line of a section.
    fn line(text: &str) -> (String, Vec<String>) {
        let inf = Inf::parse(&format!(
            "[S]\n{text}\n[Strings]\nName = \"a \"\"b\"\"; c\"\n"
        ));
        assert!(inf.errors.is_empty(), "{text}: {:?}", inf.errors);
        let entry = &inf.section("s").unwrap().entries[0];
        let values = entry.values().map(str::to_owned).collect();
        (entry.key().to_owned(), values)
    }

    fn owned(key: &str, values: &[&str]) -> (String, Vec<String>) {
        (
            key.to_owned(),
            values.iter().map(|&value| value.to_owned()).collect(),
        )
    }

    #[test]
    fn lines_are_split_as_windows_does() {
        assert_eq!(line("a = b, c ,d ; comment"), owned("a", &["b", "c", "d"]));
        assert_eq!(
            line("HKR,,X,,\"D:P(A;;GA;;;SY)\"\t; kept"),
            owned("", &["HKR", "", "X", "", "D:P(A;;GA;;;SY)"])
        );
        assert_eq!(line("a = \"x = y, z\""), owned("a", &["x = y, z"]));
        assert_eq!(line("a ="), owned("a", &[""]));
        assert_eq!(line("1 = d,,,\"\""), owned("1", &["d", "", "", ""]));
        assert_eq!(line("x,y=z"), owned("", &["x", "y=z"]));
    }

    #[test]
    fn strings_are_substituted() {
        assert_eq!(line("a = %Name%"), owned("a", &["a \"b\"; c"]));
        assert_eq!(line("a = \"%nAME%\""), owned("a", &["a \"b\"; c"]));
        assert_eq!(line("a = 100%%"), owned("a", &["100%"]));
        assert_eq!(line("a = %13%\\b.sys"), owned("a", &["%13%\\b.sys"]));
        let inf = Inf::parse("[S]\n\na = %other%\n");
        assert_eq!(inf.undefined, [("other".to_owned(), 3)]);
    }

    #[test]
    fn a_backslash_continues_a_line() {
        assert_eq!(line("a = b, \\\n c, d"), owned("a", &["b", "c", "d"]));
        let inf = Inf::parse("[S]\na = b,\\\n");
        assert_eq!(inf.errors.len(), 1);
    }

    #[test]
    fn unreadable_lines_are_told() {
        for text in [
            "[S",
            "[S] x",
            "[S;]",
            "[]",
            "[a\\]",
            "[S]\na = \"b",
            "a = b",
        ] {
            assert_eq!(Inf::parse(text).errors.len(), 1, "{text}");
        }
    }
}
