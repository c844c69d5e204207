//! JSON in Go's spelling: four spaces of indent for inspect, `<`, `>` and `&` escaped where Go does.

use std::fmt::Write as _;

use serde_json::Value;

/// A document as `inspect` prints it.
pub(crate) fn pretty(value: &Value) -> String {
    let mut text = String::new();
    indented(&mut text, value, 0);
    text
}

/// One line; `escape` writes `<`, `>` and `&` as Go's `json.Marshal` does.
pub(crate) fn line(value: &Value, escape: bool) -> String {
    let text = value.to_string();
    if escape { html_escape(&text) } else { text }
}

/// Replaces what Go escapes within JSON texts.
pub(crate) fn html_escape(text: &str) -> String {
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn indented(text: &mut String, value: &Value, depth: usize) {
    let pad = |text: &mut String, depth: usize| {
        let _ = write!(text, "\n{:width$}", "", width = depth * 4);
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                pad(text, depth + 1);
                indented(text, item, depth + 1);
            }
            pad(text, depth);
            text.push(']');
        }
        Value::Object(fields) if !fields.is_empty() => {
            text.push('{');
            for (index, (key, item)) in fields.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                pad(text, depth + 1);
                let _ = write!(text, "{}: ", Value::String(key.clone()));
                indented(text, item, depth + 1);
            }
            pad(text, depth);
            text.push('}');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn four_spaces_and_order_kept() {
        let value = json!([{"b": 1, "a": [], "c": {}, "d": ["x", null]}]);
        assert_eq!(
            pretty(&value),
            "[\n    {\n        \"b\": 1,\n        \"a\": [],\n        \"c\": {},\n        \"d\": [\n            \"x\",\n            null\n        ]\n    }\n]"
        );
        assert_eq!(line(&json!("a>b"), true), "\"a\\u003eb\"");
        assert_eq!(line(&json!("a>b"), false), "\"a>b\"");
    }
}
