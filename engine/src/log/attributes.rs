//! What `--log-opt` puts beside every entry of a log: chosen labels and variables, and a tag.

use std::collections::BTreeMap;

use regex_lite::Regex;

use super::options::LogOptionsError;
use crate::store::Record;

/// What a tag can name, and what stands for it.
const FIELDS: [&str; 7] = [
    "ID",
    "FullID",
    "Name",
    "ImageID",
    "ImageFullID",
    "ImageName",
    "DaemonName",
];

/// Which of a container's labels and variables are written.
#[derive(Debug, Default)]
pub struct AttributeRule {
    labels: Choice,
    env: Choice,
    tag: Vec<Piece>,
}

/// Names that are listed, or that match.
#[derive(Debug, Default)]
struct Choice {
    names: Vec<String>,
    pattern: Option<Regex>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(&'static str),
}

impl AttributeRule {
    /// Reads `labels`, `labels-regex`, `env`, `env-regex` and `tag`.
    ///
    /// # Errors
    /// [`LogOptionsError`] for a pattern or a tag that cannot be read.
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self, LogOptionsError> {
        let choice = |list: &str, pattern: &str| {
            let names = options.get(list).map(String::as_str).unwrap_or_default();
            let pattern = options.get(pattern).filter(|text| !text.is_empty());
            let compile = |text: &String| {
                Regex::new(text).map_err(|error| LogOptionsError::Pattern {
                    pattern: text.clone(),
                    why: error.to_string(),
                })
            };
            Ok(Choice {
                names: names.split(',').map(str::to_owned).collect(),
                pattern: pattern.map(compile).transpose()?,
            })
        };
        Ok(Self {
            labels: choice("labels", "labels-regex")?,
            env: choice("env", "env-regex")?,
            tag: tag(options.get("tag").map(String::as_str).unwrap_or_default())?,
        })
    }

    /// The attributes of a container with this name.
    pub(crate) fn of(&self, record: &Record, name: &str) -> BTreeMap<String, String> {
        let labels = &record.config.labels;
        let labels = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let variables = record.config.env.iter();
        let variables = variables.filter_map(|variable| variable.split_once('='));
        let mut all: BTreeMap<String, String> = labels
            .filter(|(key, _)| self.labels.has(key))
            .chain(variables.filter(|(key, _)| self.env.has(key)))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if !self.tag.is_empty() {
            let texts = self.tag.iter().map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Field(field) => value(field, record, name),
            });
            all.insert("tag".to_owned(), texts.collect());
        }
        all
    }
}

impl Choice {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|one| one == name)
            || self.pattern.as_ref().is_some_and(|one| one.is_match(name))
    }
}

fn value<'a>(field: &str, record: &'a Record, name: &'a str) -> &'a str {
    let short = |id: &'a str| id.get(..12).unwrap_or(id);
    match field {
        "ID" => short(record.id.as_str()),
        "FullID" => record.id.as_str(),
        "Name" => name,
        "ImageID" => short(record.image.trim_start_matches("sha256:")),
        "ImageFullID" => &record.image,
        "ImageName" => &record.config.image,
        _ => "rbox",
    }
}

/// A tag's text with `{{.Name}}` and the like in it.
fn tag(text: &str) -> Result<Vec<Piece>, LogOptionsError> {
    let bad = || LogOptionsError::Tag(text.to_owned());
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").ok_or_else(bad)?;
        let name = inside.trim().strip_prefix('.').ok_or_else(bad)?;
        let field = FIELDS
            .iter()
            .find(|field| **field == name)
            .ok_or_else(bad)?;
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Field(field));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::tests::record;

    fn of(options: &[(&str, &str)]) -> Result<Vec<String>, LogOptionsError> {
        let options = options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut record = record("first");
        record.image = format!("sha256:{}", "ab".repeat(32));
        record.config.image = "busybox".to_owned();
        record.config.env = ["A=1", "APP=2", "B=x=y", "C"].map(str::to_owned).into();
        let labels = [("team", "db"), ("org.x", "1"), ("org.y", "2")];
        record.config.labels = labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let all = AttributeRule::read(&options)?.of(&record, "web");
        Ok(all
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect())
    }

    #[test]
    fn chosen_labels_and_variables() {
        assert_eq!(of(&[]).unwrap(), [""; 0]);
        let listed = of(&[("labels", "team,none"), ("env", "B,C")]).unwrap();
        assert_eq!(listed, ["B=x=y", "team=db"]);
        let matched = of(&[("labels-regex", "^org\\."), ("env-regex", "^A")]).unwrap();
        assert_eq!(matched, ["A=1", "APP=2", "org.x=1", "org.y=2"]);
        assert!(of(&[("env-regex", "(")]).is_err());
    }

    #[test]
    fn tags_name_the_container() {
        let tag = |text| of(&[("tag", text)]);
        assert_eq!(
            tag("{{.ImageName}}/{{ .Name }}/{{.ImageID}}").unwrap(),
            ["tag=busybox/web/abababababab"]
        );
        assert_eq!(tag("plain").unwrap(), ["tag=plain"]);
        for bad in ["{{.Name", "{{.Foo}}", "{{Name}}"] {
            let said = tag(bad).unwrap_err().to_string();
            assert!(said.contains(bad) && said.contains("{{.Name}}"), "{said}");
        }
    }
}
