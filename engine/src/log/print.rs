//! What `logs` shows: entries between two times, on their streams, with or without their time.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;

use super::encode::Entry;
use crate::request::LogsRequest;

/// Writes entries to the caller's two streams.
pub struct Printer<'a> {
    request: &'a LogsRequest,
    out: &'a mut dyn Write,
    error: &'a mut dyn Write,
}

impl std::fmt::Debug for Printer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer")
            .field("request", self.request)
            .finish_non_exhaustive()
    }
}

impl<'a> Printer<'a> {
    /// A printer to these streams.
    pub fn new(request: &'a LogsRequest, out: &'a mut dyn Write, error: &'a mut dyn Write) -> Self {
        Self {
            request,
            out,
            error,
        }
    }

    /// Shows one entry if it lies between the times; false when it lies after the last one.
    ///
    /// # Errors
    /// When the caller's stream cannot be written.
    pub fn show(&mut self, entry: &Entry) -> io::Result<bool> {
        if self.request.since.is_some() || self.request.until.is_some() {
            let time = entry
                .time
                .parse::<Timestamp>()
                .map_or(0, Timestamp::as_nanosecond);
            if self.request.since.is_some_and(|since| time < since) {
                return Ok(true);
            }
            if self.request.until.is_some_and(|until| time > until) {
                return Ok(false);
            }
        }
        let to = if entry.stream == "stderr" {
            &mut *self.error
        } else {
            &mut *self.out
        };
        if self.request.timestamps {
            write!(to, "{} ", nine_digits(&entry.time))?;
        }
        if self.request.details {
            write!(to, "{} ", details(&entry.attrs))?;
        }
        to.write_all(entry.log.as_bytes())?;
        Ok(true)
    }

    /// Pushes out what is held back.
    ///
    /// # Errors
    /// When the caller's stream cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.error.flush()
    }
}

/// Attributes as the query of an address: `a=b,c=d+e`.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let pairs = attributes
        .iter()
        .map(|(key, value)| format!("{}={}", query(key), query(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn query(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            b' ' => "+".to_owned(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Docker prints times in columns: nine digits after the point.
fn nine_digits(time: &str) -> String {
    let Some(body) = time.strip_suffix('Z') else {
        return time.to_owned();
    };
    let (seconds, fraction) = body.split_once('.').unwrap_or((body, ""));
    format!("{seconds}.{fraction:0<9}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(request: &LogsRequest) -> (String, String, bool) {
        let (mut out, mut error) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(request, &mut out, &mut error);
        let mut more = true;
        for (text, stream, second) in [
            ("a\n", "stdout", 1),
            ("b\n", "stderr", 2),
            ("c\n", "stdout", 3),
        ] {
            let entry = Entry {
                log: text.to_owned(),
                stream: stream.to_owned(),
                attrs: [("k".to_owned(), "v, w".to_owned())].into(),
                time: format!("1970-01-01T00:00:0{second}.5Z"),
            };
            more = more && printer.show(&entry).unwrap();
        }
        (
            String::from_utf8(out).unwrap(),
            String::from_utf8(error).unwrap(),
            more,
        )
    }

    #[test]
    fn streams_stay_apart_and_times_cut() {
        let all = LogsRequest::default();
        assert_eq!(shown(&all), ("a\nc\n".to_owned(), "b\n".to_owned(), true));
        let since = LogsRequest {
            since: Some(2_000_000_000),
            ..LogsRequest::default()
        };
        assert_eq!(shown(&since), ("c\n".to_owned(), "b\n".to_owned(), true));
        let until = LogsRequest {
            until: Some(2_500_000_000),
            ..LogsRequest::default()
        };
        assert_eq!(shown(&until), ("a\n".to_owned(), "b\n".to_owned(), false));
    }

    #[test]
    fn details_come_between_time_and_text() {
        let request = LogsRequest {
            timestamps: true,
            details: true,
            ..LogsRequest::default()
        };
        let (out, _, _) = shown(&request);
        assert!(
            out.starts_with("1970-01-01T00:00:01.500000000Z k=v%2C+w a\n"),
            "{out}"
        );
        assert_eq!(details(&BTreeMap::new()), "");
    }

    #[test]
    fn times_have_nine_digits() {
        let request = LogsRequest {
            timestamps: true,
            ..LogsRequest::default()
        };
        let (out, _, _) = shown(&request);
        assert!(
            out.starts_with("1970-01-01T00:00:01.500000000Z a\n"),
            "{out}"
        );
        assert_eq!(
            nine_digits("1970-01-01T00:00:01Z"),
            "1970-01-01T00:00:01.000000000Z"
        );
    }
}
