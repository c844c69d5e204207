//! Signals by name and number, as users write them.

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// No such name.
    #[error("Invalid signal: {0}")]
    Invalid(String),
    /// No such number on this system.
    #[error("The linux daemon does not support signal {0}")]
    Unsupported(i32),
}

/// Names in the order of their numbers, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first and the last real-time signal that the C library leaves to programs.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// SIGKILL.
pub const KILL: i32 = 9;

/// SIGTERM.
pub const TERM: i32 = 15;

/// Reads `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
///
/// # Errors
/// [`SignalError`] in Docker's words.
pub fn parse(text: &str) -> Result<i32, SignalError> {
    let invalid = || SignalError::Invalid(text.to_owned());
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            0 => Err(invalid()),
            1..=31 => Ok(number),
            _ if REAL_TIME.contains(&number) => Ok(number),
            _ => Err(SignalError::Unsupported(number)),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(*REAL_TIME.start(), offset, '+').ok_or_else(invalid);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(*REAL_TIME.end(), offset, '-').ok_or_else(invalid);
    }
    let name = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    (1..)
        .zip(NAMES)
        .find(|(_, known)| *known == name)
        .map(|(number, _)| number)
        .ok_or_else(invalid)
}

/// A real-time signal counted from the first upwards or the last downwards.
fn real_time(base: i32, offset: &str, sign: char) -> Option<i32> {
    let number = if offset.is_empty() {
        base
    } else {
        let distance: i32 = offset.strip_prefix(sign)?.parse().ok()?;
        if sign == '+' {
            base.checked_add(distance)?
        } else {
            base.checked_sub(distance)?
        }
    };
    REAL_TIME.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigint", 2),
            ("1", 1),
            ("64", 64),
            ("SYS", 31),
            ("CLD", 17),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-14", 50),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn dockers_words_for_the_rest() {
        assert_eq!(parse("FOO").unwrap_err().to_string(), "Invalid signal: FOO");
        assert_eq!(
            parse("99").unwrap_err().to_string(),
            "The linux daemon does not support signal 99"
        );
        for bad in [
            "",
            "0",
            "-1",
            "SIG",
            "RTMIN+99",
            "RTMIN3",
            "RTMAX+1",
            "SIGSIGTERM",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
