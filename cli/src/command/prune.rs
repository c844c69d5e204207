//! What the prune commands share: the question before, the filters, the report after.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};

use jiff::Timestamp;

use crate::error::{Failure, Result};
use crate::output::{size, time};

/// Asks on standard output; anything but yes is no.
pub(crate) fn confirmed(force: bool, warning: &str) -> Result<bool> {
    if force {
        return Ok(true);
    }
    let mut out = io::stdout().lock();
    write!(
        out,
        "WARNING! {warning}\nAre you sure you want to continue? [y/N] "
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// `--filter` of the prune commands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    until: Option<i128>,
    labels: Vec<String>,
    without: Vec<String>,
}

impl Filters {
    /// Reads them; the engine's words for what is none.
    pub(crate) fn parse(words: &[(String, String)], now: Timestamp) -> Result<Self> {
        let mut filters = Self::default();
        for (name, value) in words {
            match name.as_str() {
                "until" => {
                    let point = time::point(value, now).map_err(|_| {
                        Failure::said(format!(
                            "Error response from daemon: Invalid filter 'until={value}'"
                        ))
                    })?;
                    filters.until = Some(point);
                }
                "label" => filters.labels.push(value.clone()),
                "label!" => filters.without.push(value.clone()),
                _ => {
                    return Err(Failure::said(format!(
                        "Error response from daemon: Invalid filter '{name}'"
                    )));
                }
            }
        }
        Ok(filters)
    }

    /// Whether a thing of this age and with these labels goes.
    pub(crate) fn admits(&self, created: Timestamp, labels: &BTreeMap<String, String>) -> bool {
        let has = |label: &String| match label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(label),
        };
        self.until
            .is_none_or(|until| created.as_nanosecond() < until)
            && self.labels.iter().all(has)
            && !self.without.iter().any(has)
    }
}

/// `Deleted Containers:`, the names, an empty line and the sum.
pub(crate) fn report(title: &str, deleted: &[String], bytes: u64) -> Result<()> {
    list(title, deleted)?;
    total(bytes)
}

/// The title and the names; nothing where there are none.
pub(crate) fn list(title: &str, deleted: &[String]) -> Result<()> {
    if !deleted.is_empty() {
        writeln!(io::stdout(), "{title}:\n{}\n", deleted.join("\n"))?;
    }
    Ok(())
}

/// The last line.
pub(crate) fn total(bytes: u64) -> Result<()> {
    writeln!(
        io::stdout(),
        "Total reclaimed space: {}",
        size::human(bytes, 4)
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_and_labels() {
        let now = Timestamp::from_second(1000).unwrap();
        let words = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let cases = [
            (words(&[]), true),
            (words(&[("until", "10s")]), true),
            (words(&[("until", "900s")]), false),
            (words(&[("label", "a")]), true),
            (words(&[("label", "a=2")]), false),
            (words(&[("label!", "a")]), false),
        ];
        for (list, want) in cases {
            let filters = Filters::parse(&list, now).unwrap();
            let created = Timestamp::from_second(500).unwrap();
            assert_eq!(filters.admits(created, &labels), want, "{list:?}");
        }
        assert!(Filters::parse(&words(&[("foo", "1")]), now).is_err());
    }
}
