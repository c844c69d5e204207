//! The tree of commands and the way from a command line to one of them.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::command;
use crate::context::{Context, Globals};
use crate::error::{Failure, REFUSED, Result, tell};
use crate::help;
use crate::parse::{self, PLAIN, Refusal};

/// A command that does something.
pub(crate) struct Leaf {
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// What its own help says instead.
    pub text: &'static str,
    /// The ways to call it, without `rbox`.
    pub paths: &'static [&'static str],
    /// How many plain arguments it takes.
    pub count: Count,
    /// Flags may stand after plain arguments.
    pub interspersed: bool,
    /// Its flags.
    pub arguments: fn(Command) -> Command,
    /// Does it.
    pub run: fn(&Context, &mut ArgMatches, Vec<String>) -> Result<()>,
    /// How its failures are told.
    pub voice: Voice,
}

/// The form of error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// The bare message; exit code 1.
    Plain,
    /// `rbox: message`, an empty line, where to find help; exit code 125.
    Run,
}

/// How many plain arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// None.
    None,
    /// As many as stated.
    Exactly(usize),
    /// As many or more.
    AtLeast(usize),
    /// As many or fewer.
    AtMost(usize),
    /// From the first to the second number.
    Between(usize, usize),
}

/// A verb in a place of the tree.
pub(crate) struct Entry {
    /// What is typed.
    pub name: &'static str,
    /// What may be typed instead.
    pub aliases: &'static [&'static str],
    /// The command.
    pub leaf: &'static Leaf,
    /// Shown among the most used ones.
    pub common: bool,
}

/// A noun.
pub(crate) struct Group {
    /// What is typed.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Its verbs.
    pub entries: &'static [Entry],
}

/// What can follow `rbox`.
pub(crate) enum Node {
    /// A verb.
    Entry(Entry),
    /// A noun.
    Group(Group),
}

impl Node {
    /// What is typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Entry(entry) => entry.name,
            Self::Group(group) => group.name,
        }
    }
}

/// A command as its file writes it: derived flags and what they do.
pub(crate) trait Verb: Args + FromArgMatches {
    /// Does it with the plain arguments.
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()>;
}

impl Leaf {
    /// A command whose flags may stand anywhere.
    pub(crate) const fn new<V: Verb>(
        usage: &'static str,
        about: &'static str,
        paths: &'static [&'static str],
        count: Count,
    ) -> Self {
        Self {
            usage,
            about,
            text: about,
            paths,
            count,
            interspersed: true,
            arguments: V::augment_args,
            run: run_verb::<V>,
            voice: Voice::Plain,
        }
    }

    /// The same, but its flags end at the first plain argument.
    pub(crate) const fn flags_first(mut self) -> Self {
        self.interspersed = false;
        self
    }

    /// The same with more words in its own help.
    pub(crate) const fn help_text(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    /// The same, but failing as `run` does.
    pub(crate) const fn voice(mut self, voice: Voice) -> Self {
        self.voice = voice;
        self
    }
}

impl Entry {
    /// An entry of one name.
    pub(crate) const fn new(name: &'static str, leaf: &'static Leaf) -> Self {
        Self {
            name,
            aliases: &[],
            leaf,
            common: false,
        }
    }

    /// The same with other names.
    pub(crate) const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The same, shown among the most used ones.
    pub(crate) const fn common(mut self) -> Self {
        self.common = true;
        self
    }
}

fn run_verb<V: Verb>(
    context: &Context,
    matches: &mut ArgMatches,
    plain: Vec<String>,
) -> Result<()> {
    let verb = V::from_arg_matches_mut(matches)
        .map_err(|error| Failure::coded(REFUSED, error.to_string()))?;
    verb.run(context, plain)
}

/// The program.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let done = match command::union::helper::is_called(&program) {
        Some(name) => command::union::helper::run(&name, &arguments),
        None => dispatch(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Status(code)) => ExitCode::from(code),
        // what a shell shows for a program that SIGPIPE ended
        Err(Failure::BrokenPipe) => ExitCode::from(141),
        Err(Failure::Said(message)) => {
            // a standard error that cannot be written leaves only the exit code
            let _ = tell(&message);
            ExitCode::from(message.code)
        }
    }
}

fn show(text: &str) -> Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn dispatch(arguments: &[OsString]) -> Result<()> {
    let command = parse::dockerize(Globals::augment_args(Command::new("rbox")));
    let mut matches = match parse::parse(command, arguments, false) {
        Ok(matches) => matches,
        Err(Refusal::Help(short)) => {
            deprecated_help(short);
            return show(&root_help());
        }
        Err(Refusal::Flag(text)) => {
            let usage = "Usage:  rbox [OPTIONS] COMMAND [ARG...]";
            return Err(usage_failure(REFUSED, &text, usage, "Run", "rbox"));
        }
    };
    let plain = plain(&mut matches)?;
    let globals = Globals::from_arg_matches_mut(&mut matches)
        .map_err(|error| Failure::coded(REFUSED, error.to_string()))?;
    if globals.version {
        return command::version::print_short();
    }
    let Some(name) = plain.first() else {
        return show(&root_help());
    };
    let rest: Vec<OsString> = plain[1..].iter().map(OsString::from).collect();
    if name == "help" {
        return help_for(&plain[1..]);
    }
    match command::NODES.iter().find(|node| is_called(node, name)) {
        Some(Node::Entry(entry)) => run_leaf(globals, &format!("rbox {name}"), entry.leaf, &rest),
        Some(Node::Group(group)) => run_group(globals, group, &plain[1..], &rest),
        None => Err(unknown(&format!("rbox {name}"), "rbox", None)),
    }
}

fn is_called(node: &Node, name: &str) -> bool {
    match node {
        Node::Entry(entry) => entry.name == name || entry.aliases.contains(&name),
        Node::Group(group) => group.name == name,
    }
}

fn run_group(globals: Globals, group: &Group, plain: &[String], rest: &[OsString]) -> Result<()> {
    let path = format!("rbox {}", group.name);
    let Some(name) = plain.first() else {
        return show(&help::group(&path, group));
    };
    if name == "--help" || name == "-h" {
        deprecated_help(name == "-h");
        return show(&help::group(&path, group));
    }
    if name.starts_with('-') && name.len() > 1 {
        let text = match name.strip_prefix("--") {
            Some(long) => format!("unknown flag: --{long}"),
            None => format!(
                "unknown shorthand flag: '{}' in {name}",
                name.chars().nth(1).unwrap_or_default()
            ),
        };
        let usage = format!("Usage:  {path}");
        return Err(usage_failure(REFUSED, &text, &usage, "Run", &path));
    }
    let entry = group
        .entries
        .iter()
        .find(|entry| entry.name == name || entry.aliases.contains(&name.as_str()));
    match entry {
        Some(entry) => run_leaf(globals, &format!("{path} {name}"), entry.leaf, &rest[1..]),
        None => Err(unknown(
            &format!("{path} {name}"),
            &path,
            Some(&format!("Usage:  {path}")),
        )),
    }
}

fn run_leaf(globals: Globals, path: &str, leaf: &Leaf, arguments: &[OsString]) -> Result<()> {
    let command = parse::dockerize((leaf.arguments)(Command::new("rbox")));
    let mut matches = match parse::parse(command, arguments, leaf.interspersed) {
        Ok(matches) => matches,
        Err(Refusal::Help(short)) => {
            deprecated_help(short);
            return show(&help::leaf(path, leaf));
        }
        Err(Refusal::Flag(text)) => return Err(wrong_flag(&text, path, leaf)),
    };
    let plain = counted(&mut matches, path, leaf)?;
    let context = Context::new(globals);
    (leaf.run)(&context, &mut matches, plain).map_err(|failure| voiced(failure, leaf.voice, path))
}

/// Reads a line for a command without running it.
pub(crate) fn read<V: Verb>(
    leaf: &Leaf,
    path: &str,
    arguments: &[OsString],
) -> Result<(V, Vec<String>)> {
    let command = parse::dockerize(V::augment_args(Command::new("rbox")));
    let mut matches =
        parse::parse(command, arguments, leaf.interspersed).map_err(|refusal| match refusal {
            Refusal::Help(_) => Failure::said(help::leaf(path, leaf)),
            Refusal::Flag(text) => wrong_flag(&text, path, leaf),
        })?;
    let plain = counted(&mut matches, path, leaf)?;
    let verb = V::from_arg_matches_mut(&mut matches)
        .map_err(|error| Failure::coded(REFUSED, error.to_string()))?;
    Ok((verb, plain))
}

fn wrong_flag(text: &str, path: &str, leaf: &Leaf) -> Failure {
    usage_failure(REFUSED, text, &help::usage_line(path, leaf), "Run", path)
}

/// The plain arguments, as many as the command takes.
fn counted(matches: &mut ArgMatches, path: &str, leaf: &Leaf) -> Result<Vec<String>> {
    let plain = plain(matches)?;
    match leaf.count.refuse(plain.len()) {
        None => Ok(plain),
        Some((text, see)) => {
            let text = format!("rbox: '{path}' {text}");
            let usage = help::usage_line(path, leaf);
            Err(usage_failure(1, &text, &usage, see, path))
        }
    }
}

/// Puts a failure of `run` into its form; code 1 becomes 125.
fn voiced(failure: Failure, voice: Voice, path: &str) -> Failure {
    match (failure, voice) {
        (Failure::Said(mut message), Voice::Run) if !message.bare => {
            message.text = format!(
                "rbox: {}\n\nRun '{path} --help' for more information",
                message.text
            );
            message.code = message.run_code;
            Failure::Said(message)
        }
        (failure, _) => failure,
    }
}

impl Count {
    /// What is wrong with `count` arguments, and the first word of the line that points to help.
    fn refuse(self, count: usize) -> Option<(String, &'static str)> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        match self {
            Self::None if count > 0 => Some(("accepts no arguments".to_owned(), "Run")),
            Self::Exactly(n) if count != n => Some((format!("requires {n} {}", plural(n)), "Run")),
            Self::AtLeast(n) if count < n => {
                Some((format!("requires at least {n} {}", plural(n)), "See"))
            }
            Self::AtMost(n) if count > n => {
                Some((format!("requires at most {n} {}", plural(n)), "Run"))
            }
            Self::Between(low, high) if count < low || count > high => Some((
                format!(
                    "requires at least {low} and at most {high} {}",
                    plural(high)
                ),
                "Run",
            )),
            _ => None,
        }
    }
}

fn plain(matches: &mut ArgMatches) -> Result<Vec<String>> {
    let plain = matches
        .try_remove_many::<String>(PLAIN)
        .map_err(|error| Failure::coded(REFUSED, error.to_string()))?;
    Ok(plain.into_iter().flatten().collect())
}

fn root_help() -> String {
    help::root(command::NODES, &Globals::augment_args(Command::new("rbox")))
}

fn help_for(names: &[String]) -> Result<()> {
    let Some(name) = names.first() else {
        return show(&root_help());
    };
    let path = format!("rbox {}", names.join(" "));
    match command::NODES.iter().find(|node| is_called(node, name)) {
        Some(Node::Entry(entry)) => show(&help::leaf(&path, entry.leaf)),
        Some(Node::Group(group)) => match names.get(1) {
            None => show(&help::group(&path, group)),
            Some(verb) => match group.entries.iter().find(|entry| entry.name == verb) {
                Some(entry) => show(&help::leaf(&path, entry.leaf)),
                None => Err(Failure::said(format!(
                    "unknown help topic: {}",
                    names.join(" ")
                ))),
            },
        },
        None => Err(Failure::said(format!(
            "unknown help topic: {}",
            names.join(" ")
        ))),
    }
}

fn deprecated_help(short: bool) {
    if short {
        // help is shown all the same if standard error is closed
        let _ = writeln!(
            std::io::stderr(),
            "Flag shorthand -h has been deprecated, use --help"
        );
    }
}

fn usage_failure(code: u8, text: &str, usage: &str, see: &str, path: &str) -> Failure {
    Failure::coded(
        code,
        format!("{text}\n\n{usage}\n\n{see} '{path} --help' for more information"),
    )
}

fn unknown(typed: &str, parent: &str, usage: Option<&str>) -> Failure {
    let usage = usage.map_or_else(String::new, |usage| format!("\n{usage}\n"));
    Failure::said(format!(
        "rbox: unknown command: {typed}\n{usage}\nRun '{parent} --help' for more information"
    ))
}
