//! The options of a log driver: `max-size`, `max-file`.

use std::collections::BTreeMap;

/// How the log of a container is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// A file that reached this size is put aside; `None` is without end.
    pub max_size: Option<u64>,
    /// How many files are kept, the one being written included.
    pub max_file: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            max_size: None,
            max_file: 1,
        }
    }
}

/// An option that the driver does not have, or a value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogOptionsError {
    /// Docker's text for an option that the driver does not know.
    #[error("unknown log opt '{name}' for {driver} log driver")]
    Unknown {
        /// The option.
        name: String,
        /// The driver.
        driver: String,
    },
    /// A size that cannot be read.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// A number of files that cannot be read.
    #[error("max-file cannot be less than 1: '{0}'")]
    Files(String),
    /// Several files without a size never come about.
    #[error("max-file option requires max-size")]
    NoSize,
}

impl LogOptions {
    /// Reads the options of `json-file`. `compress`, `labels`, `env`, `tag` are taken and have no
    /// effect on what is written here.
    ///
    /// # Errors
    /// [`LogOptionsError`] for an unknown name or a bad value.
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self, LogOptionsError> {
        let mut read = Self::default();
        for (name, value) in options {
            match name.as_str() {
                "max-size" => read.max_size = size(value)?,
                "max-file" => {
                    read.max_file = value
                        .parse()
                        .ok()
                        .filter(|files| *files > 0)
                        .ok_or_else(|| LogOptionsError::Files(value.clone()))?;
                }
                "compress" | "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "mode"
                | "max-buffer-size" => {}
                _ => {
                    return Err(LogOptionsError::Unknown {
                        name: name.clone(),
                        driver: "json-file".to_owned(),
                    });
                }
            }
        }
        if read.max_file > 1 && read.max_size.is_none() {
            return Err(LogOptionsError::NoSize);
        }
        Ok(read)
    }
}

/// `10m`, `1g`, `500k`, `-1` (without end), a plain number of bytes.
fn size(text: &str) -> Result<Option<u64>, LogOptionsError> {
    let bad = || LogOptionsError::Size(text.to_owned());
    if text == "-1" {
        return Ok(None);
    }
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match lower[digits.len()..].trim_end_matches('b') {
        "" => 1,
        "k" | "ki" => 1 << 10,
        "m" | "mi" => 1 << 20,
        "g" | "gi" => 1 << 30,
        "t" | "ti" => 1 << 40,
        _ => return Err(bad()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| bad())?;
    let bytes = number.checked_mul(factor).ok_or_else(bad)?;
    Ok((bytes > 0).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<LogOptions, LogOptionsError> {
        LogOptions::read(
            &pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn reads_dockers_options() {
        assert_eq!(read(&[]).unwrap(), LogOptions::default());
        let options = read(&[("max-size", "10m"), ("max-file", "3"), ("tag", "x")]).unwrap();
        assert_eq!(options.max_size, Some(10 << 20));
        assert_eq!(options.max_file, 3);
        for (text, bytes) in [
            ("1", Some(1)),
            ("2k", Some(2048)),
            ("1GB", Some(1 << 30)),
            ("-1", None),
        ] {
            assert_eq!(
                read(&[("max-size", text)]).unwrap().max_size,
                bytes,
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        assert_eq!(
            read(&[("foo", "1")]).unwrap_err().to_string(),
            "unknown log opt 'foo' for json-file log driver"
        );
        for bad in ["", "m", "1x", "99999999999999999999", "18014398509481984k"] {
            assert!(read(&[("max-size", bad)]).is_err(), "{bad}");
        }
        assert!(read(&[("max-size", "1m"), ("max-file", "0")]).is_err());
        assert_eq!(read(&[("max-file", "2")]), Err(LogOptionsError::NoSize));
    }
}
