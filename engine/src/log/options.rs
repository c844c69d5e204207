//! The options of a log driver: `max-size`, `max-file`, and what else Docker's has.

use std::collections::BTreeMap;

use super::attributes::AttributeRule;

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
    #[error("failed to initialize logging driver: invalid size: '{0}'")]
    Size(String),
    /// A number of files that cannot be read.
    #[error("failed to initialize logging driver: max-file cannot be less than 1: '{0}'")]
    Files(String),
    /// A mode that Docker does not have.
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
    /// A buffer is only for a mode that has one.
    #[error("logger: max-buffer-size option is only supported with 'mode=non-blocking'")]
    Buffer,
    /// Files that were put aside are kept as they are.
    #[error("cannot compress log files: rbox keeps them as text; leave 'compress={0}' out")]
    Compress(String),
    /// A pattern that cannot be read.
    #[error("invalid log opt pattern '{pattern}': {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A tag that names what it cannot name.
    #[error(
        "invalid log tag '{0}': it may name {{{{.ID}}}}, {{{{.FullID}}}}, {{{{.Name}}}}, \
         {{{{.ImageID}}}}, {{{{.ImageFullID}}}}, {{{{.ImageName}}}} and {{{{.DaemonName}}}}"
    )]
    Tag(String),
}

impl LogOptions {
    /// Reads the options of `json-file`; those of [`AttributeRule`] are only checked. The modes
    /// come to the same: a file takes what it gets, and one that cannot is not waited for.
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
                "compress" => match value.as_str() {
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => {}
                    other => return Err(LogOptionsError::Compress(other.to_owned())),
                },
                "mode" => match value.as_str() {
                    "" | "blocking" | "non-blocking" => {}
                    other => return Err(LogOptionsError::Mode(other.to_owned())),
                },
                "max-buffer-size" => {
                    size(value)?;
                    if options
                        .get("mode")
                        .is_none_or(|mode| mode != "non-blocking")
                    {
                        return Err(LogOptionsError::Buffer);
                    }
                }
                "labels" | "labels-regex" | "env" | "env-regex" | "tag" => {}
                _ => {
                    return Err(LogOptionsError::Unknown {
                        name: name.clone(),
                        driver: "json-file".to_owned(),
                    });
                }
            }
        }
        AttributeRule::read(options)?;
        Ok(read)
    }
}

/// `10m`, `1g`, `500k`, a plain number of bytes.
fn size(text: &str) -> Result<Option<u64>, LogOptionsError> {
    let bad = || LogOptionsError::Size(text.to_owned());
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
        for (text, bytes) in [("1", Some(1)), ("2k", Some(2048)), ("1GB", Some(1 << 30))] {
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
        for bad in [
            "",
            "-1",
            "m",
            "1x",
            "99999999999999999999",
            "18014398509481984k",
        ] {
            assert!(read(&[("max-size", bad)]).is_err(), "{bad}");
        }
        assert!(read(&[("max-size", "1m"), ("max-file", "0")]).is_err());
        // without a size there is never a second one
        assert_eq!(read(&[("max-file", "2")]).unwrap().max_file, 2);
        assert!(read(&[("mode", "non-blocking"), ("max-buffer-size", "4m")]).is_ok());
        assert_eq!(
            read(&[("max-buffer-size", "4m")]),
            Err(LogOptionsError::Buffer)
        );
        assert!(read(&[("compress", "false"), ("mode", "blocking")]).is_ok());
        for bad in [("compress", "true"), ("mode", "x"), ("tag", "{{.X}}")] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
    }
}
