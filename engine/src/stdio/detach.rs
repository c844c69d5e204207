//! The keys that leave a container: their notation, and finding them in what is typed.

use std::str::FromStr;

/// A sequence of keys that detaches, such as `ctrl-p,ctrl-q`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// A key that has no meaning in a detach sequence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid detach keys ({text}): Unknown character: '{key}'")]
pub struct DetachKeysError {
    text: String,
    key: String,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl DetachKeys {
    /// No sequence: nothing that is typed detaches.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The bytes that the keys send.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    /// Reads single characters and `ctrl-X` (a to z, `@`, `[`, `\`, `]`, `^`, `_`), joined by
    /// commas; the empty text is no sequence.
    fn from_str(text: &str) -> Result<Self, DetachKeysError> {
        if text.is_empty() {
            return Ok(Self::none());
        }
        let mut keys = Vec::new();
        for key in text.split(',') {
            let bad = || DetachKeysError {
                text: text.to_owned(),
                key: key.to_owned(),
            };
            let byte = match (key.strip_prefix("ctrl-"), key.as_bytes()) {
                (_, [single]) => *single,
                (Some(name), _) => match name.as_bytes() {
                    [letter @ b'a'..=b'z'] => letter - b'a' + 1,
                    [b'@'] => 0,
                    [letter @ b'['..=b'_'] => letter - b'@',
                    _ => return Err(bad()),
                },
                _ => return Err(bad()),
            };
            keys.push(byte);
        }
        Ok(Self(keys))
    }
}

/// Looks for the detach keys in what is typed, however it is cut into pieces.
///
/// A beginning of the sequence is held back until the next byte tells whether it was meant.
#[derive(Debug)]
pub struct DetachScanner {
    keys: Vec<u8>,
    held: usize,
}

impl DetachScanner {
    /// A scanner for these keys.
    pub fn new(keys: &DetachKeys) -> Self {
        Self {
            keys: keys.0.clone(),
            held: 0,
        }
    }

    /// Takes what was typed and appends what is to be passed on; true when the sequence was met
    /// (what follows it in the same piece is dropped).
    pub fn scan(&mut self, typed: &[u8], pass: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            pass.extend_from_slice(typed);
            return false;
        }
        for &byte in typed {
            self.advance(byte, pass);
            if self.held == self.keys.len() {
                self.held = 0;
                return true;
            }
        }
        false
    }

    /// Matches one more byte; on a mismatch passes on what can no longer begin the sequence.
    fn advance(&mut self, byte: u8, pass: &mut Vec<u8>) {
        loop {
            if self.keys[self.held] == byte {
                self.held += 1;
                return;
            }
            if self.held == 0 {
                pass.push(byte);
                return;
            }
            // The longest shorter beginning that is also an end of what is held.
            let held = self.held;
            let shorter = (0..held)
                .rev()
                .find(|&length| self.keys[..length] == self.keys[held - length..held])
                .unwrap_or(0);
            pass.extend_from_slice(&self.keys[..held - shorter]);
            self.held = shorter;
        }
    }

    /// What is held back when no more is typed.
    pub fn finish(&mut self) -> &[u8] {
        let held = std::mem::take(&mut self.held);
        &self.keys[..held]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut scanner = DetachScanner::new(&keys.parse().unwrap());
        let mut passed = Vec::new();
        for piece in pieces {
            if scanner.scan(piece, &mut passed) {
                return (passed, true);
            }
        }
        passed.extend_from_slice(scanner.finish());
        (passed, false)
    }

    #[test]
    fn reads_the_notation() {
        assert_eq!(DetachKeys::default().bytes(), [16, 17]);
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        let keys: DetachKeys = "ctrl-@,a,ctrl-[,ctrl-_,Z".parse().unwrap();
        assert_eq!(keys.bytes(), [0, b'a', 27, 31, b'Z']);
        assert_eq!("".parse(), Ok(DetachKeys::none()));
        for bad in ["ctrl-", "ctrl-A", "ctrl-1", "xy", "a,,b", "ctrl-ab"] {
            let error = bad.parse::<DetachKeys>().unwrap_err().to_string();
            assert!(error.contains("Unknown character"), "{bad}: {error}");
        }
    }

    #[test]
    fn finds_the_keys_however_they_are_cut() {
        for pieces in [
            &[&b"ab\x10\x11zz"[..]][..],
            &[b"ab\x10", b"\x11"],
            &[b"a", b"b", b"", b"\x10", b"\x11"],
        ] {
            assert_eq!(
                run("ctrl-p,ctrl-q", pieces),
                (b"ab".to_vec(), true),
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn what_only_begins_like_the_keys_is_passed_on() {
        assert_eq!(
            run("ctrl-p,ctrl-q", &[b"\x10\x10x\x11"]),
            (b"\x10\x10x\x11".to_vec(), false)
        );
        assert_eq!(run("ctrl-p,ctrl-q", &[b"\x10"]), (b"\x10".to_vec(), false));
        assert_eq!(
            run("ctrl-p,ctrl-q", &[b"\x10\x10\x11"]),
            (b"\x10".to_vec(), true)
        );
        assert_eq!(run("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(run("a,b,a,c", &[b"abab", b"ac"]), (b"ab".to_vec(), true));
        assert_eq!(run("", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }
}
