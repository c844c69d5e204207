//! Makes clap read a command line as Docker's flag library does.
//!
//! What differs: a switch takes `=false`, a repeated flag's last value counts, a value may begin
//! with a dash, and for some commands everything after the first plain argument belongs to the
//! container. Messages are Docker's.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// The name under which the plain arguments are kept.
pub(crate) const PLAIN: &str = "plain-arguments";

/// Why a command line was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Help was asked for; true when by the old `-h`.
    Help(bool),
    /// A flag is wrong; the message is Docker's.
    Flag(String),
}

/// Turns derived arguments into Docker's: switches with values, last one wins, dashes in values.
pub(crate) fn dockerize(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .mut_args(|argument| {
            if !matches!(argument.get_action(), ArgAction::SetTrue) {
                return argument.allow_hyphen_values(true);
            }
            let plain = argument.get_default_values().is_empty();
            let argument = argument
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .value_parser(ValueParser::new(go_bool))
                .default_missing_value("true");
            if plain {
                argument.default_value("false")
            } else {
                argument
            }
        })
        .arg(
            Arg::new(PLAIN)
                .num_args(0..)
                .action(ArgAction::Append)
                .value_parser(ValueParser::string()),
        )
}

/// Reads `arguments` (without the command's own name).
///
/// With `interspersed` flags may follow plain arguments; without, the first plain argument ends
/// the flags.
pub(crate) fn parse(
    mut command: Command,
    arguments: &[OsString],
    interspersed: bool,
) -> Result<ArgMatches, Refusal> {
    let scan = scan(&command, arguments, interspersed);
    if let Some(Find::Help { short }) = scan.find {
        return Err(Refusal::Help(short));
    }
    let mut line = Vec::with_capacity(arguments.len() + 2);
    line.push(OsString::from("rbox"));
    match scan.plain {
        Some(plain) => {
            line.extend_from_slice(&arguments[..plain]);
            line.push(OsString::from("--"));
            line.extend_from_slice(&arguments[plain..]);
        }
        None => line.extend_from_slice(arguments),
    }
    command
        .try_get_matches_from_mut(line)
        .map_err(|error| Refusal::Flag(message(&error, &command, scan.find)))
}

/// Go's `strconv.ParseBool`.
pub(crate) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

fn message(error: &clap::Error, command: &Command, find: Option<Find>) -> String {
    if error.kind() == ErrorKind::ValueValidation {
        let why = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
        let value = context(error, ContextKind::InvalidValue);
        let flag = context(error, ContextKind::InvalidArg);
        return format!(
            "invalid argument {value:?} for \"{}\" flag: {why}",
            flag_name(command, &flag)
        );
    }
    match find {
        Some(Find::UnknownLong(name)) => format!("unknown flag: --{name}"),
        Some(Find::UnknownShort { letter, group }) => {
            format!("unknown shorthand flag: '{letter}' in -{group}")
        }
        Some(Find::NoValueLong(name)) => format!("flag needs an argument: --{name}"),
        Some(Find::NoValueShort { letter, group }) => {
            format!("flag needs an argument: '{letter}' in -{group}")
        }
        Some(Find::Help { .. }) | None => error.to_string().trim_end().to_owned(),
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    }
}

/// `-m, --memory` of what clap prints as `--memory <bytes>`.
fn flag_name(command: &Command, shown: &str) -> String {
    let name = shown
        .trim_start_matches('-')
        .split([' ', '=', '[', '.'])
        .next()
        .unwrap_or_default();
    let found = command.get_arguments().find(|argument| {
        argument.get_long() == Some(name)
            || argument
                .get_short()
                .is_some_and(|s| shown.starts_with(&format!("-{s} ")))
    });
    match found.map(|argument| (argument.get_short(), argument.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        Some((_, Some(long))) => format!("--{long}"),
        _ => format!("--{name}"),
    }
}

/// What is wrong, or asked for, on a line.
#[derive(Debug, PartialEq, Eq)]
enum Find {
    Help { short: bool },
    UnknownLong(String),
    UnknownShort { letter: char, group: String },
    NoValueLong(String),
    NoValueShort { letter: char, group: String },
}

/// What a walk over the line found.
#[derive(Debug, Default)]
struct Scan {
    /// The first plain argument, where that ends the flags.
    plain: Option<usize>,
    find: Option<Find>,
}

/// Walks over the flags; without `interspersed` up to the first plain argument.
fn scan(command: &Command, arguments: &[OsString], interspersed: bool) -> Scan {
    let mut scan = Scan::default();
    let mut index = 0;
    while index < arguments.len() {
        let text = arguments[index].to_string_lossy();
        let value_follows = if text == "--" {
            break;
        } else if let Some(long) = text.strip_prefix("--") {
            long_flag(command, long)
        } else if let Some(group) = text.strip_prefix('-').filter(|group| !group.is_empty()) {
            short_flags(command, group)
        } else if interspersed {
            Ok(None)
        } else {
            scan.plain = Some(index);
            break;
        };
        match value_follows {
            Ok(None) => {}
            Ok(Some(_)) if index + 1 < arguments.len() => index += 1,
            Ok(Some(find)) | Err(find) => {
                scan.find = Some(find);
                break;
            }
        }
        index += 1;
    }
    scan
}

/// `Ok(Some(…))`: the next argument is the flag's value; if there is none, that is the fault.
fn long_flag(command: &Command, text: &str) -> Result<Option<Find>, Find> {
    let (name, attached) = match text.split_once('=') {
        Some((name, _)) => (name, true),
        None => (text, false),
    };
    match command.get_arguments().find(|a| a.get_long() == Some(name)) {
        None if name == "help" => Err(Find::Help { short: false }),
        None => Err(Find::UnknownLong(name.to_owned())),
        Some(argument) if attached || is_switch(argument) => Ok(None),
        Some(_) => Ok(Some(Find::NoValueLong(name.to_owned()))),
    }
}

fn short_flags(command: &Command, group: &str) -> Result<Option<Find>, Find> {
    for (at, letter) in group.char_indices() {
        let rest = &group[at + letter.len_utf8()..];
        let group = group[at..].to_owned();
        match command
            .get_arguments()
            .find(|a| a.get_short() == Some(letter))
        {
            None if letter == 'h' => return Err(Find::Help { short: true }),
            None => return Err(Find::UnknownShort { letter, group }),
            Some(argument) if is_switch(argument) => {
                if rest.starts_with('=') {
                    return Ok(None);
                }
            }
            Some(_) if rest.is_empty() => return Ok(Some(Find::NoValueShort { letter, group })),
            Some(_) => return Ok(None),
        }
    }
    Ok(None)
}

fn is_switch(argument: &Arg) -> bool {
    argument.is_require_equals_set()
}
