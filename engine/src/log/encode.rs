//! One log entry as a line of JSON, and back.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Stream;

/// A line as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The text; without a line feed at its end it is a part of a longer line.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// What was chosen of the container's labels and variables.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
    /// RFC 3339 with nanoseconds, in UTC.
    pub time: String,
}

/// The part of every entry that tells the container's attributes; empty where there are none.
pub fn attributes(attrs: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in attrs {
        out.extend_from_slice(if out.is_empty() {
            b"\"attrs\":{\""
        } else {
            b",\""
        });
        escape(&mut out, key.as_bytes());
        out.extend_from_slice(b"\":\"");
        escape(&mut out, value.as_bytes());
        out.push(b'"');
    }
    if !out.is_empty() {
        out.extend_from_slice(b"},");
    }
    out
}

/// Appends one entry to `out`, with the part that [`attributes`] made.
pub fn entry(out: &mut Vec<u8>, text: &[u8], stream: Stream, attributes: &[u8], time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, text);
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(attributes);
    out.extend_from_slice(b"\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// For each ASCII byte, whether it stands for itself. Docker's writer also escapes `<`, `>`, `&`.
const PLAIN: [bool; 128] = {
    let mut plain = [true; 128];
    let mut byte = 0;
    while byte < 128 {
        let special = matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        plain[byte] = byte >= 0x20 && !special;
        byte += 1;
    }
    plain
};

/// Escapes for a JSON string; what is no UTF-8 becomes U+FFFD, as in Docker's logs.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        escape_valid(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn escape_valid(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest
        .iter()
        .position(|byte| !PLAIN.get(usize::from(*byte)).copied().unwrap_or(true))
    {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(byte >> 4)]);
                out.push(DIGITS[usize::from(byte & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &[u8]) -> String {
        let mut out = Vec::new();
        entry(&mut out, text, Stream::Stdout, b"", "T");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_dockers_form() {
        assert_eq!(
            encoded(b"out1\n"),
            "{\"log\":\"out1\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n"
        );
        assert!(encoded(b"a<b>&\x1b[0m\t\"\\").contains(r#"a\u003cb\u003e\u0026\u001b[0m\t\"\\"#));
        assert!(encoded(b"\xff\xfe ok").contains("\u{fffd}\u{fffd} ok"));
        assert!(encoded("grün 🦀".as_bytes()).contains("grün 🦀"));
    }

    #[test]
    fn attributes_come_back() {
        let attrs = [("a", "b \"c\""), ("x.y", "<1>")];
        let attrs: BTreeMap<String, String> = attrs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let mut line = Vec::new();
        entry(&mut line, b"t", Stream::Stderr, &attributes(&attrs), "T");
        let read: Entry = serde_json::from_slice(&line).unwrap();
        assert_eq!(read.attrs, attrs);
        let start = br#"{"log":"t","stream":"stderr","attrs":{"a":"b \"c\"","x.y":"#;
        assert!(
            line.starts_with(start),
            "{}",
            String::from_utf8_lossy(&line)
        );
        assert_eq!(attributes(&BTreeMap::new()), b"");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in any::<String>()) {
            let line = encoded(text.as_bytes());
            let entry: Entry = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(entry.log, text);
        }

        #[test]
        fn any_bytes_make_one_line_of_json(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let line = encoded(&bytes);
            let entry: Entry = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(entry.log, String::from_utf8_lossy(&bytes).into_owned());
            prop_assert_eq!(line.matches('\n').count(), 1);
        }
    }
}
