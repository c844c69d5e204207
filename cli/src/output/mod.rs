//! What commands print: tables, templates, JSON, sizes and times.

pub(crate) mod document;
pub(crate) mod json;
pub(crate) mod list;
pub(crate) mod order;
pub(crate) mod size;
mod syntax;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;
mod unsaid;

/// A line on standard error that is no failure.
pub(crate) fn warn(text: &str) {
    use std::io::Write as _;
    // a standard error that cannot be written must not stop the command
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// At most so many letters, the last of them `…` where something was cut.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    if most > 1 {
        cut.push('…');
    }
    cut
}
