//! `rbox images`: lists images.

use std::collections::BTreeMap;
use std::io;

use clap::Args;
use image::reference::Reference;
use image::store::Summary;
use jiff::Timestamp;

use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_TABLE;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::option::filter;
use crate::output::list::{self, Kind, Row};
use crate::output::{size, time};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<ImagesArgs>(
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    &["image ls", "image list", "images"],
    Count::AtMost(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    #[arg(long, value_name = "string", help = FORMAT_TABLE)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List multi-platform images as a tree (EXPERIMENTAL)
    #[arg(long)]
    tree: bool,
}

const KIND: Kind = Kind {
    type_name: "imageContext",
    heads: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

const NONE: &str = "<none>";

/// One line of the list.
#[derive(Debug, Clone)]
struct Line {
    id: String,
    repository: String,
    tag: String,
    digest: String,
    created: Option<Timestamp>,
    size: u64,
}

impl Line {
    fn row(&self, now: Timestamp, short: bool) -> Row {
        let id = if short {
            self.id
                .trim_start_matches("sha256:")
                .chars()
                .take(12)
                .collect()
        } else {
            self.id.clone()
        };
        let since = self
            .created
            .map(|then| format!("{} ago", time::since(then, now)));
        Row {
            fields: BTreeMap::from([
                ("ID", id),
                ("Repository", self.repository.clone()),
                ("Tag", self.tag.clone()),
                ("Digest", self.digest.clone()),
                ("CreatedSince", since.unwrap_or_else(|| "N/A".to_owned())),
                (
                    "CreatedAt",
                    self.created.map_or_else(|| "N/A".to_owned(), time::local),
                ),
                ("Size", size::human(self.size, 3)),
                ("VirtualSize", size::human(self.size, 4)),
                ("Containers", "N/A".to_owned()),
                ("SharedSize", "N/A".to_owned()),
                ("UniqueSize", "N/A".to_owned()),
            ]),
            labels: BTreeMap::new(),
        }
    }
}

impl Verb for ImagesArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        if self.tree {
            return Err(Failure::said(
                "--tree is not supported by rbox: images hold one platform each",
            ));
        }
        let store = context.images()?;
        let now = Timestamp::now();
        let list = store.list()?;
        let filters = Filters::parse(&self.filter, plain.first(), &list, now)?;
        let rows: Vec<Row> = list
            .iter()
            .filter(|summary| filters.admit(summary))
            .flat_map(|summary| self.lines(summary, &filters))
            .map(|line| line.row(now, !self.no_trunc))
            .collect();
        let columns = if self.digests {
            "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        } else {
            "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        };
        let format = match self.format.as_deref() {
            None | Some("" | "table") if self.quiet => "{{.ID}}",
            None => "",
            Some(format) => format,
        };
        list::write(&mut io::stdout().lock(), KIND, format, columns, &rows)
    }
}

impl ImagesArgs {
    /// One line for each name of an image.
    fn lines(&self, summary: &Summary, filters: &Filters) -> Vec<Line> {
        let image = &summary.image;
        let line = |repository: String, tag: &str, digest: &str| Line {
            id: image.id.to_string(),
            repository,
            tag: tag.to_owned(),
            digest: digest.to_owned(),
            created: image
                .config
                .created
                .as_deref()
                .and_then(|text| text.parse().ok()),
            size: image.size,
        };
        if summary.tags.is_empty() {
            return vec![line(NONE.to_owned(), NONE, NONE)];
        }
        summary
            .tags
            .iter()
            .filter(|name| filters.admit_name(name))
            .map(|name| {
                let digest = name
                    .digest()
                    .map_or_else(|| NONE.to_owned(), ToString::to_string);
                line(name.familiar_name(), name.tag().unwrap_or(NONE), &digest)
            })
            .collect()
    }
}

/// `--filter` of images, and the name that was asked for.
#[derive(Debug, Default)]
struct Filters {
    references: Vec<String>,
    labels: Vec<String>,
    dangling: Option<bool>,
    before: Option<String>,
    since: Option<String>,
    until: Option<i128>,
}

impl Filters {
    fn parse(
        words: &[(String, String)],
        name: Option<&String>,
        list: &[Summary],
        now: Timestamp,
    ) -> Result<Self> {
        let refuse = |text: String| Failure::said(format!("Error response from daemon: {text}"));
        let mut filters = Self {
            references: name.into_iter().cloned().collect(),
            ..Self::default()
        };
        for (key, value) in words {
            let invalid = || refuse(format!("Invalid filter '{key}={value}'"));
            match key.as_str() {
                "reference" => filters.references.push(value.clone()),
                "label" => filters.labels.push(value.clone()),
                "dangling" => {
                    filters.dangling = Some(match value.as_str() {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => return Err(invalid()),
                    });
                }
                "before" => filters.before = Some(created(list, value)?),
                "since" => filters.since = Some(created(list, value)?),
                "until" => {
                    filters.until = Some(time::point(value, now).map_err(|_| invalid())?);
                }
                _ => return Err(refuse(format!("Invalid filter '{key}'"))),
            }
        }
        Ok(filters)
    }

    fn admit(&self, summary: &Summary) -> bool {
        let config = &summary.image.config;
        let created = config.created.clone().unwrap_or_default();
        let labels = config.config.labels.clone().unwrap_or_default();
        let has_label = |label: &String| match label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(label),
        };
        let instant = created
            .parse::<Timestamp>()
            .map_or(0, Timestamp::as_nanosecond);
        self.dangling
            .is_none_or(|wanted| wanted == summary.tags.is_empty())
            && self.labels.iter().all(has_label)
            && self.before.as_ref().is_none_or(|before| created < *before)
            && self.since.as_ref().is_none_or(|since| created > *since)
            && self.until.is_none_or(|until| instant < until)
            && (self.references.is_empty() || summary.tags.iter().any(|name| self.admit_name(name)))
    }

    fn admit_name(&self, name: &Reference) -> bool {
        self.references.is_empty()
            || self.references.iter().any(|pattern| {
                matches(pattern, &name.familiar()) || matches(pattern, &name.familiar_name())
            })
    }
}

fn created(list: &[Summary], word: &str) -> Result<String> {
    let reference = word.parse::<Reference>().map(Reference::or_latest).ok();
    list.iter()
        .find(|summary| {
            let hex = summary.image.id.to_string();
            reference
                .as_ref()
                .is_some_and(|name| summary.tags.contains(name))
                || hex.trim_start_matches("sha256:").starts_with(word)
                || hex == word
        })
        .map(|summary| summary.image.config.created.clone().unwrap_or_default())
        .ok_or_else(|| Failure::said(format!("Error response from daemon: No such image: {word}")))
}

/// Go's `path.Match`: `*` and `?` stop at slashes; `[a-z]`; `\` takes a letter as it is.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    matches_at(&pattern, &text)
}

fn matches_at(pattern: &[char], text: &[char]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some('*'), _) => {
            matches_at(&pattern[1..], text)
                || text.first().is_some_and(|&c| c != '/') && matches_at(pattern, &text[1..])
        }
        (Some('?'), Some(&letter)) => letter != '/' && matches_at(&pattern[1..], &text[1..]),
        (Some('['), Some(&letter)) => {
            let Some(end) = pattern.iter().position(|&c| c == ']') else {
                return false;
            };
            in_class(&pattern[1..end], letter) && matches_at(&pattern[end + 1..], &text[1..])
        }
        (Some('\\'), Some(letter)) => {
            pattern.get(1) == Some(letter) && matches_at(&pattern[2..], &text[1..])
        }
        (Some(wanted), Some(letter)) => wanted == letter && matches_at(&pattern[1..], &text[1..]),
        (Some(_) | None, _) => false,
    }
}

fn in_class(class: &[char], letter: char) -> bool {
    let (negated, mut class) = match class.first() {
        Some('^') => (true, &class[1..]),
        _ => (false, class),
    };
    let mut found = false;
    while let Some(&low) = class.first() {
        if let [_, '-', high, ..] = class {
            found |= (low..=*high).contains(&letter);
            class = &class[3..];
        } else {
            found |= low == letter;
            class = &class[1..];
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        let cases = [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("busy*", "busybox:latest", true),
            ("*", "me/busybox", false),
            ("*/*", "me/busybox", true),
            ("b?sybox", "busybox", true),
            ("[a-c]usybox", "busybox", true),
            ("[^a-c]usybox", "busybox", false),
            ("busybox:1", "busybox", false),
            ("[", "a", false),
        ];
        for (pattern, text, want) in cases {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn a_line_of_the_list() {
        let line = Line {
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            repository: "busybox".to_owned(),
            tag: "latest".to_owned(),
            digest: NONE.to_owned(),
            created: "2026-01-01T00:00:00Z".parse().ok(),
            size: 1_982_319,
        };
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        let row = line.row(now, true);
        assert_eq!(row.fields["ID"], "0123456789ab");
        assert_eq!(row.fields["CreatedSince"], "2 minutes ago");
        assert_eq!(row.fields["Size"], "1.98MB");
        assert_eq!(row.fields["VirtualSize"], "1.982MB");
    }
}
