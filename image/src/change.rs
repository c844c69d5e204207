//! Changes to an image's config, written as Dockerfile instructions: `import -c`, `commit -c`.

use std::collections::BTreeMap;

use crate::config::{Empty, Healthcheck, RunConfig};
use crate::words::{expand, split};

/// A change that cannot be made; Docker's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Not one of the instructions that change a config.
    #[error("{0} is not a valid change command")]
    Command(String),
    /// Nothing follows the instruction.
    #[error("{0} requires at least one argument")]
    NoArgument(&'static str),
    /// None or several arguments follow.
    #[error("{0} requires exactly one argument")]
    OneArgument(&'static str),
    /// A name without a value.
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    /// One of several words has no `=`.
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    NoEquals(String),
    /// A name is empty.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// A quote is not closed.
    #[error("unexpected end of statement while looking for matching quote in {0:?}")]
    Quote(String),
    /// A variable in a form that is not known.
    #[error("failed to process {0:?}: unsupported substitution")]
    Substitution(String),
    /// Not a port.
    #[error("Invalid containerPort: {0}")]
    Port(String),
    /// Not a protocol.
    #[error("Invalid proto: {0}")]
    Protocol(String),
    /// An empty volume.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// An empty working directory.
    #[error("cannot normalize nothing")]
    EmptyDirectory,
    /// Not a signal.
    #[error("Invalid signal: {0}")]
    Signal(String),
    /// A health check that is neither.
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthType(String),
    /// A health check without a command.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthCommand,
    /// A health check's option.
    #[error("{0}")]
    HealthOption(String),
    /// An instruction that no trigger may have.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    Trigger(String),
    /// Not a platform.
    #[error("{0:?} is an invalid component of a platform: expected os/architecture[/variant]")]
    Platform(String),
    /// Not Linux.
    #[error("operating system is not supported: {0}")]
    OperatingSystem(String),
    /// A trigger of a trigger.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    Chain,
}

type Result<T> = std::result::Result<T, ChangeError>;

/// Makes all changes, in order.
///
/// # Errors
/// [`ChangeError`]; the config is then changed in part.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<()> {
    let mut cmd_set = false;
    for change in changes {
        for line in lines(change) {
            apply_line(config, &line, &mut cmd_set)?;
        }
    }
    Ok(())
}

/// The instructions of a text: comments and empty lines left out, continued lines joined.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for part in text.lines() {
        let part = part.trim();
        if part.is_empty() || part.starts_with('#') {
            continue;
        }
        if let Some(continued) = part.strip_suffix('\\') {
            line.push_str(continued);
            continue;
        }
        line.push_str(part);
        lines.push(std::mem::take(&mut line));
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

fn apply_line(config: &mut RunConfig, line: &str, cmd_set: &mut bool) -> Result<()> {
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match command.to_ascii_lowercase().as_str() {
        "cmd" => {
            config.cmd = Some(command_form(config, rest));
            *cmd_set = true;
        }
        "entrypoint" => {
            let words = command_form(config, rest);
            config.entrypoint = (!words.is_empty()).then_some(words);
            if !*cmd_set {
                config.cmd = None;
            }
        }
        "env" => {
            let before = config.env.clone();
            for (key, value) in pairs("ENV", rest, &before)? {
                set_env(&mut config.env, &key, &value);
            }
        }
        "label" => {
            let labels = pairs("LABEL", rest, &config.env)?;
            config.labels.get_or_insert_default().extend(labels);
        }
        "expose" => expose(config, rest)?,
        "volume" => volume(config, rest)?,
        "user" => config.user = one("USER", rest, &config.env)?,
        "workdir" => workdir(config, rest)?,
        "stopsignal" => {
            let signal = one("STOPSIGNAL", rest, &config.env)?;
            if !is_signal(&signal) {
                return Err(ChangeError::Signal(signal));
            }
            config.stop_signal = Some(signal);
        }
        "healthcheck" => config.healthcheck = Some(healthcheck(rest)?),
        "onbuild" => onbuild(config, rest)?,
        other => return Err(ChangeError::Command(other.to_owned())),
    }
    Ok(())
}

/// `["a", "b"]` as it stands; anything else through the shell.
fn command_form(config: &RunConfig, text: &str) -> Vec<String> {
    if let Some(words) = json_words(text) {
        return words;
    }
    if text.is_empty() {
        return Vec::new();
    }
    let shell = config.shell.clone();
    let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    words.push(text.to_owned());
    words
}

fn json_words(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

/// `key=value …`, or the old form `key rest of the line`.
fn pairs(command: &'static str, text: &str, env: &[String]) -> Result<Pairs> {
    let words = split(text);
    let Some(first) = words.first() else {
        return Err(ChangeError::NoArgument(command));
    };
    if !first.contains('=') {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or(ChangeError::TwoArguments(command))?;
        return Ok(vec![(expand(key, env)?, expand(value.trim(), env)?)]);
    }
    let mut pairs = Vec::new();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err(ChangeError::NoEquals(word));
        };
        let key = expand(key, env)?;
        if key.is_empty() {
            return Err(ChangeError::BlankName(command));
        }
        pairs.push((key, expand(value, env)?));
    }
    Ok(pairs)
}

type Pairs = Vec<(String, String)>;

/// Sets a variable in its place, or at the end.
pub fn set_env(env: &mut Vec<String>, key: &str, value: &str) {
    let entry = format!("{key}={value}");
    let same = |old: &&mut String| old.split_once('=').is_some_and(|(name, _)| name == key);
    match env.iter_mut().find(same) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn one(command: &'static str, text: &str, env: &[String]) -> Result<String> {
    match &split(text)[..] {
        [word] => expand(word, env),
        _ => Err(ChangeError::OneArgument(command)),
    }
}

fn expose(config: &mut RunConfig, text: &str) -> Result<()> {
    let words = split(text);
    if words.is_empty() {
        return Err(ChangeError::NoArgument("EXPOSE"));
    }
    for word in words {
        let word = expand(&word, &config.env)?;
        let (ports, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(ChangeError::Protocol(protocol));
        }
        let bad = || ChangeError::Port(ports.to_owned());
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let first: u16 = first.parse().map_err(|_| bad())?;
        let last: u16 = last.parse().map_err(|_| bad())?;
        if first > last {
            return Err(bad());
        }
        for port in first..=last {
            let key = format!("{port}/{protocol}");
            config.exposed_ports.insert(key, Empty {});
        }
    }
    Ok(())
}

fn volume(config: &mut RunConfig, text: &str) -> Result<()> {
    let words = match json_words(text) {
        Some(words) => words,
        None => split(text),
    };
    if words.is_empty() {
        return Err(ChangeError::NoArgument("VOLUME"));
    }
    for word in words {
        let word = expand(&word, &config.env)?;
        if word.trim().is_empty() {
            return Err(ChangeError::EmptyVolume);
        }
        config
            .volumes
            .get_or_insert_with(BTreeMap::new)
            .insert(word, Empty {});
    }
    Ok(())
}

fn workdir(config: &mut RunConfig, text: &str) -> Result<()> {
    let path = expand(text, &config.env)?;
    if text.is_empty() {
        return Err(ChangeError::OneArgument("WORKDIR"));
    }
    if path.is_empty() {
        return Err(ChangeError::EmptyDirectory);
    }
    let whole = if path.starts_with('/') {
        path
    } else {
        format!("{}/{path}", config.working_dir)
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    config.working_dir = format!("/{}", parts.join("/"));
    Ok(())
}

fn is_signal(name: &str) -> bool {
    const NAMES: &str = " ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF \
        PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU \
        XFSZ RTMIN RTMAX ";
    if let Ok(number) = name.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |text: &str, limit: u32| {
        text.parse::<u32>()
            .is_ok_and(|n| (1..=limit).contains(&n) && !text.starts_with('+'))
    };
    match (bare.strip_prefix("RTMIN+"), bare.strip_prefix("RTMAX-")) {
        (Some(offset), _) => real_time(offset, 15),
        (_, Some(offset)) => real_time(offset, 14),
        _ => !bare.is_empty() && !bare.contains(' ') && NAMES.contains(&format!(" {bare} ")),
    }
}

fn healthcheck(text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text.trim();
    while let Some(flag) = rest.strip_prefix("--") {
        let end = flag.find(char::is_whitespace).unwrap_or(flag.len());
        health_option(&mut check, &flag[..end])?;
        rest = flag[end..].trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    match kind.to_ascii_uppercase().as_str() {
        "" => return Err(ChangeError::NoArgument("HEALTHCHECK")),
        "NONE" if command.is_empty() => check.test = vec!["NONE".to_owned()],
        "NONE" => {
            let text = "HEALTHCHECK NONE takes no arguments".to_owned();
            return Err(ChangeError::HealthOption(text));
        }
        "CMD" if command.is_empty() => return Err(ChangeError::HealthCommand),
        "CMD" => {
            check.test = match json_words(command) {
                Some(words) if words.is_empty() => return Err(ChangeError::HealthCommand),
                Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
                None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            };
        }
        other => return Err(ChangeError::HealthType(other.to_owned())),
    }
    Ok(check)
}

fn health_option(check: &mut Healthcheck, flag: &str) -> Result<()> {
    let bad = |text: String| ChangeError::HealthOption(text);
    let (name, value) = flag
        .split_once('=')
        .ok_or_else(|| bad(format!("Missing a value on flag: {flag}")))?;
    if name == "retries" {
        check.retries = value
            .parse()
            .ok()
            .filter(|retries| *retries >= 1)
            .ok_or_else(|| bad(format!("--retries must be at least 1 (not {value})")))?;
        return Ok(());
    }
    let target = match name {
        "interval" => &mut check.interval,
        "timeout" => &mut check.timeout,
        "start-period" => &mut check.start_period,
        "start-interval" => &mut check.start_interval,
        _ => return Err(bad(format!("Unknown flag: {name}"))),
    };
    let duration =
        duration(value).ok_or_else(|| bad(format!("time: invalid duration {value:?}")))?;
    if duration != 0 && duration < 1_000_000 {
        return Err(bad(format!("Interval {value:?} cannot be less than 1ms")));
    }
    *target = duration;
    Ok(())
}

/// Reads Go's durations: `1h30m`, `1.5s`, `300ms`; in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut total = 0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    // Far above any use, and still exact enough.
    #[allow(clippy::cast_possible_truncation)]
    (!text.is_empty() && total < 9e18).then_some(total.round() as i64)
}

fn onbuild(config: &mut RunConfig, text: &str) -> Result<()> {
    let first = text.split_whitespace().next().unwrap_or_default();
    match first.to_ascii_uppercase().as_str() {
        "" => return Err(ChangeError::NoArgument("ONBUILD")),
        "ONBUILD" => return Err(ChangeError::Chain),
        trigger @ ("FROM" | "MAINTAINER") => {
            return Err(ChangeError::Trigger(trigger.to_owned()));
        }
        _ => config
            .on_build
            .get_or_insert_default()
            .push(text.to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn changed(changes: &[&str]) -> std::result::Result<Value, String> {
        let mut config = RunConfig {
            env: vec!["PATH=/bin".to_owned()],
            cmd: Some(vec!["sh".to_owned()]),
            working_dir: "/w".to_owned(),
            ..RunConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        apply(&mut config, &changes).map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(config).unwrap())
    }

    #[test]
    fn changes_what_the_instruction_names() {
        for (changes, field, expected) in [
            (&["CMD [\"a\", \"b\"]"][..], "Cmd", json!(["a", "b"])),
            (&["CMD a b"], "Cmd", json!(["/bin/sh", "-c", "a b"])),
            (&["cmd []"], "Cmd", json!([])),
            (&["ENTRYPOINT [\"e\"]"], "Entrypoint", json!(["e"])),
            (&["ENTRYPOINT [\"e\"]"], "Cmd", json!(null)),
            (&["CMD [\"x\"]", "ENTRYPOINT [\"e\"]"], "Cmd", json!(["x"])),
            (&["ENTRYPOINT []"], "Entrypoint", json!(null)),
            (
                &["ENV A=1 B=\"x y\""],
                "Env",
                json!(["PATH=/bin", "A=1", "B=x y"]),
            ),
            (&["ENV A 1 2  3"], "Env", json!(["PATH=/bin", "A=1 2  3"])),
            (&["ENV PATH=/x:$PATH"], "Env", json!(["PATH=/x:/bin"])),
            (&["ENV A=1 B=$A"], "Env", json!(["PATH=/bin", "A=1", "B="])),
            (
                &["ENV A=1", "ENV B=$A"],
                "Env",
                json!(["PATH=/bin", "A=1", "B=1"]),
            ),
            (
                &["LABEL a=1 b.c='d e'"],
                "Labels",
                json!({"a": "1", "b.c": "d e"}),
            ),
            (
                &["EXPOSE 80 53/UDP 90-91"],
                "ExposedPorts",
                json!({"53/udp": {}, "80/tcp": {}, "90/tcp": {}, "91/tcp": {}}),
            ),
            (&["USER me:us"], "User", json!("me:us")),
            (&["VOLUME /a /b"], "Volumes", json!({"/a": {}, "/b": {}})),
            (&["VOLUME [\"/a b\"]"], "Volumes", json!({"/a b": {}})),
            (&["WORKDIR x/../y/./z"], "WorkingDir", json!("/w/y/z")),
            (&["WORKDIR /"], "WorkingDir", json!("/")),
            (&["STOPSIGNAL SIGUSR1"], "StopSignal", json!("SIGUSR1")),
            (&["STOPSIGNAL 9"], "StopSignal", json!("9")),
            (&["STOPSIGNAL RTMIN+3"], "StopSignal", json!("RTMIN+3")),
            (
                &["HEALTHCHECK --interval=1m30s --retries=2 CMD curl x"],
                "Healthcheck",
                json!({"Test": ["CMD-SHELL", "curl x"], "Interval": 90_000_000_000_i64, "Retries": 2}),
            ),
            (
                &["HEALTHCHECK CMD [\"a\"]"],
                "Healthcheck",
                json!({"Test": ["CMD", "a"]}),
            ),
            (
                &["HEALTHCHECK NONE"],
                "Healthcheck",
                json!({"Test": ["NONE"]}),
            ),
            (&["ONBUILD RUN x y"], "OnBuild", json!(["RUN x y"])),
            (
                &["# nothing\nCMD a \\\n b\n"],
                "Cmd",
                json!(["/bin/sh", "-c", "a b"]),
            ),
        ] {
            assert_eq!(changed(changes).unwrap()[field], expected, "{changes:?}");
        }
    }

    #[test]
    fn refuses_with_dockers_words() {
        for (change, message) in [
            ("RUN x", "run is not a valid change command"),
            ("nonsense", "nonsense is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            (
                "ENV A=1 B",
                "Syntax error - can't find = in \"B\". Must be of the form: name=value",
            ),
            ("ENV =1", "ENV names can not be blank"),
            (
                "ENV A='x",
                "unexpected end of statement while looking for matching quote in \"'x\"",
            ),
            ("EXPOSE x", "Invalid containerPort: x"),
            ("EXPOSE 9-8", "Invalid containerPort: 9-8"),
            ("EXPOSE 80/icmp", "Invalid proto: icmp"),
            ("EXPOSE", "EXPOSE requires at least one argument"),
            ("USER a b", "USER requires exactly one argument"),
            (
                "VOLUME [\"\"]",
                "VOLUME specified can not be an empty string",
            ),
            ("WORKDIR $nothing", "cannot normalize nothing"),
            ("STOPSIGNAL FOO", "Invalid signal: FOO"),
            ("STOPSIGNAL 65", "Invalid signal: 65"),
            ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
            (
                "HEALTHCHECK TCP 80",
                "Unknown type \"TCP\" in HEALTHCHECK (try CMD)",
            ),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            (
                "HEALTHCHECK --retries=0 CMD x",
                "--retries must be at least 1 (not 0)",
            ),
            (
                "HEALTHCHECK --interval=x CMD x",
                "time: invalid duration \"x\"",
            ),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            (
                "ONBUILD ONBUILD RUN x",
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            ),
        ] {
            assert_eq!(changed(&[change]).unwrap_err(), message, "{change}");
        }
    }
}
