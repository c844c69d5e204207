//! Lists of objects: the default table, `table …`, `json`, `raw` and free templates.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use crate::error::{Failure, Result};
use crate::output::table;
use crate::output::template::{Data, ExecuteError, Program};

/// What kind of things are listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Docker's name of the type, for error messages.
    pub type_name: &'static str,
    /// Every field and its column head.
    pub heads: &'static [(&'static str, &'static str)],
}

/// One thing of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// Values by field.
    pub fields: BTreeMap<&'static str, String>,
    /// What `.Label` looks in.
    pub labels: BTreeMap<String, String>,
}

/// Writes a list in the wanted form; `default` is the template of the plain table.
pub(crate) fn write(
    out: &mut impl Write,
    kind: Kind,
    format: &str,
    default: &str,
    rows: &[Row],
) -> Result<()> {
    let (is_table, source) = source(format, default);
    let program = Program::parse(&source)
        .map_err(|text| Failure::said(format!("failed to parse template: {text}")))?;
    let mut text = String::new();
    for row in rows {
        let data = Data::row(&row.fields, row.labels.clone());
        let line = program
            .execute(&data)
            .map_err(|error| refuse(&error, kind))?;
        let _ = writeln!(text, "{line}");
    }
    if !is_table {
        out.write_all(text.as_bytes())?;
        return Ok(());
    }
    let head = head(&source, kind)?;
    table::write(out, &format!("{head}\n{text}"), 10)?;
    Ok(())
}

/// Whether it is a table, and the template of one line.
fn source(format: &str, default: &str) -> (bool, String) {
    let unescape = |text: &str| text.replace("\\t", "\t").replace("\\n", "\n");
    match format {
        "" | "table" => (true, default.to_owned()),
        "json" => (false, "{{json .}}".to_owned()),
        format => match format.strip_prefix("table") {
            Some(rest) => (true, unescape(rest.trim_matches(' '))),
            None => (false, unescape(format)),
        },
    }
}

/// The line of column heads: the same template over the heads' names.
fn head(source: &str, kind: Kind) -> Result<String> {
    let fields: BTreeMap<&str, String> = kind
        .heads
        .iter()
        .map(|(field, head)| (*field, (*head).to_owned()))
        .collect();
    let source = label_heads(source);
    // functions leave heads as they are
    let source = plain_heads(&source);
    let program = Program::parse(&source)
        .map_err(|text| Failure::said(format!("failed to parse template: {text}")))?;
    program
        .execute(&Data::row(&fields, BTreeMap::new()))
        .map_err(|error| refuse(&error, kind))
}

/// `{{.Label "com.example.my-key"}}` heads its column as `my key`.
fn label_heads(source: &str) -> String {
    let mut result = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("{{.Label \"") {
        let after = &rest[at + "{{.Label \"".len()..];
        let Some(end) = after.find("\"}}") else {
            break;
        };
        result.push_str(&rest[..at]);
        let name = after[..end].rsplit('.').next().unwrap_or_default();
        result.push_str(&name.replace(['-', '_'], " "));
        rest = &after[end + "\"}}".len()..];
    }
    result.push_str(rest);
    result
}

/// Takes `json`, `upper` and the like away from simple fields.
fn plain_heads(source: &str) -> String {
    let mut result = source.to_owned();
    for function in ["json", "upper", "lower", "title"] {
        result = result.replace(&format!("{{{{{function} ."), "{{.");
    }
    result
}

fn refuse(error: &ExecuteError, kind: Kind) -> Failure {
    Failure::said(match error {
        ExecuteError::Missing(missing) => format!(
            "failed to execute template: template: :{}: executing \"\" at <{}>: can't evaluate field {} in type *formatter.{}",
            missing.position, missing.path, missing.name, kind.type_name
        ),
        ExecuteError::Other(text) => format!("failed to execute template: template: {text}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        type_name: "ContainerContext",
        heads: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
    };

    fn show(format: &str) -> std::result::Result<String, String> {
        let rows = [Row {
            fields: BTreeMap::from([("ID", "123".to_owned()), ("Names", "web".to_owned())]),
            labels: BTreeMap::from([("a.my-key".to_owned(), "v".to_owned())]),
        }];
        let mut out = Vec::new();
        match write(&mut out, KIND, format, "{{.ID}}\t{{.Names}}", &rows) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(Failure::Said(message)) => Err(message.text),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form() {
        let cases = [
            ("", "CONTAINER ID   NAMES\n123            web\n"),
            (
                "table {{.Names}}\\t{{.ID}}",
                "NAMES     CONTAINER ID\nweb       123\n",
            ),
            ("table {{.Label \"a.my-key\"}}", "my key\nv\n"),
            ("table {{upper .Names}}", "NAMES\nWEB\n"),
            ("json", "{\"ID\":\"123\",\"Names\":\"web\"}\n"),
            ("{{.ID}}\\t{{.Names}}", "123\tweb\n"),
        ];
        for (format, want) in cases {
            assert_eq!(show(format).unwrap(), want, "{format}");
        }
    }

    #[test]
    fn errors_are_docker_s() {
        assert_eq!(
            show("{{.Foo}}").unwrap_err(),
            "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
        );
        assert_eq!(
            show("{{.ID").unwrap_err(),
            "failed to parse template: template: :1: unclosed action"
        );
    }
}
