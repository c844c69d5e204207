//! The usage texts, laid out as Docker's: column widths, wrapping and all.

use std::fmt::Write as _;

use clap::Command;

use crate::app::{Entry, Group, Leaf, Node};

/// Wide enough for a line where nobody says how wide the terminal is.
const WIDTH: usize = 80;

/// `Usage:  rbox run [OPTIONS] IMAGE [COMMAND] [ARG...]`.
pub(crate) fn usage_line(path: &str, leaf: &Leaf) -> String {
    let separator = if leaf.usage.is_empty() { "" } else { " " };
    format!("Usage:  {path}{separator}{}", leaf.usage)
}

/// Everything about one command.
pub(crate) fn leaf(path: &str, leaf: &Leaf) -> String {
    let mut text = format!("{}\n\n{}\n", usage_line(path, leaf), leaf.text);
    if !leaf.paths.is_empty() {
        let names: Vec<String> = leaf.paths.iter().map(|p| format!("rbox {p}")).collect();
        let _ = write!(text, "\nAliases:\n  {}\n", names.join(", "));
    }
    let command = (leaf.arguments)(Command::new("rbox"));
    let mut flags = flags(&command);
    if flags.iter().any(|flag| flag.short == Some('h')) {
        flags.push(Flag {
            short: None,
            long: "help".to_owned(),
            kind: String::new(),
            usage: "Print usage".to_owned(),
        });
    }
    if !flags.is_empty() {
        let _ = write!(text, "\nOptions:\n{}", lay_out(&mut flags));
    }
    text
}

/// A noun and its verbs.
pub(crate) fn group(path: &str, group: &Group) -> String {
    let mut text = format!("Usage:  {path} COMMAND\n\n{}\n", group.about);
    let mut entries: Vec<&Entry> = group.entries.iter().collect();
    entries.sort_by_key(|entry| entry.name);
    section(&mut text, "Commands", &entries);
    let _ = write!(
        text,
        "\nRun '{path} COMMAND --help' for more information on a command.\n"
    );
    text
}

/// The whole program.
pub(crate) fn root(nodes: &[Node], globals: &Command) -> String {
    let mut text = String::from(
        "Usage:  rbox [OPTIONS] COMMAND\n\nA container engine for Linux without a daemon\n",
    );
    let entries = |common: bool| -> Vec<&Entry> {
        nodes
            .iter()
            .filter_map(|node| match node {
                Node::Entry(entry) if entry.common == common => Some(entry),
                _ => None,
            })
            .collect()
    };
    section(&mut text, "Common Commands", &entries(true));
    text.push_str("\nManagement Commands:\n");
    let width = nodes
        .iter()
        .map(|node| node.name().len())
        .max()
        .unwrap_or(0)
        .max(11);
    for node in nodes {
        if let Node::Group(group) = node {
            let _ = writeln!(text, "  {:width$} {}", group.name, group.about);
        }
    }
    section(&mut text, "Commands", &entries(false));
    let _ = write!(text, "\nGlobal Options:\n{}", lay_out(&mut flags(globals)));
    text.push_str("\nRun 'rbox COMMAND --help' for more information on a command.\n");
    text
}

fn section(text: &mut String, title: &str, entries: &[&Entry]) {
    let width = entries
        .iter()
        .map(|e| e.name.len())
        .max()
        .unwrap_or(0)
        .max(11);
    let _ = write!(text, "\n{title}:\n");
    for entry in entries {
        let _ = writeln!(text, "  {:width$} {}", entry.name, entry.leaf.about);
    }
}

/// One flag as it is shown.
#[derive(Debug)]
struct Flag {
    short: Option<char>,
    long: String,
    kind: String,
    usage: String,
}

fn flags(command: &Command) -> Vec<Flag> {
    command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .filter_map(|argument| {
            Some(Flag {
                short: argument.get_short(),
                long: argument.get_long()?.to_owned(),
                kind: if argument.get_action().takes_values() {
                    argument
                        .get_value_names()
                        .and_then(<[_]>::first)
                        .map_or_else(String::new, ToString::to_string)
                } else {
                    String::new()
                },
                usage: argument
                    .get_help()
                    .map_or_else(String::new, ToString::to_string),
            })
        })
        .collect()
}

fn lay_out(flags: &mut [Flag]) -> String {
    flags.sort_by(|a, b| a.long.cmp(&b.long));
    let heads: Vec<String> = flags
        .iter()
        .map(|flag| {
            let short = flag
                .short
                .map_or_else(|| "    ".to_owned(), |s| format!("-{s}, "));
            let space = if flag.kind.is_empty() { "" } else { " " };
            format!("  {short}--{}{space}{}", flag.long, flag.kind)
        })
        .collect();
    let widest = heads.iter().map(String::len).max().unwrap_or(0);
    let indent = widest + 3;
    let mut text = String::new();
    for (head, flag) in heads.iter().zip(flags) {
        let usage = wrap(indent, WIDTH - 1, &flag.usage);
        let _ = writeln!(text, "{head:widest$}   {usage}");
    }
    text
}

/// Breaks a usage text into lines of at most `width`, the following ones indented.
fn wrap(indent: usize, width: usize, text: &str) -> String {
    // a line may run over by this much if that saves a short last one
    const SLOP: usize = 5;
    let (mut indent, mut room) = (indent, width.saturating_sub(indent));
    let mut result = String::new();
    if room < 24 {
        indent = 16;
        room = width - indent;
        let _ = write!(result, "\n{:indent$}", "");
    }
    let newline = format!("\n{:indent$}", "");
    let room = room - SLOP;
    let (mut line, mut rest) = split(room, SLOP, text);
    loop {
        result.push_str(&line.replace('\n', &newline));
        if rest.is_empty() {
            return result;
        }
        result.push_str(&newline);
        (line, rest) = split(room, SLOP, rest);
    }
}

/// The first line of a text and what is left of it.
fn split(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let head = &text.as_bytes()[..room];
    let blank = head.iter().rposition(|b| matches!(b, b' ' | b'\t' | b'\n'));
    let Some(blank) = blank.filter(|&at| at > 0) else {
        return (text, "");
    };
    let newline = head.iter().rposition(|&b| b == b'\n').filter(|&at| at > 0);
    let at = newline.filter(|&at| at < blank).unwrap_or(blank);
    (&text[..at], &text[at + 1..])
}
