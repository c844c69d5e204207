//! `rbox ps`: lists containers.

use std::collections::BTreeMap;
use std::io;

use clap::Args;
use engine::container::list::{Filters, ListRequest, Row as Container};
use engine::container::size::Sizes;
use engine::mount::MountKind;
use jiff::Timestamp;
use netns::port::ps_text;

use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_TABLE;
use crate::context::Context;
use crate::error::{Failure, Result, tell};
use crate::option::{filter, number};
use crate::output::list::{self, Kind, Row};
use crate::output::{ellipsis, size, time};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<PsArgs>(
    "[OPTIONS]",
    "List containers",
    &["container ls", "container list", "container ps", "ps"],
    Count::None,
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    #[arg(long, value_name = "string", help = FORMAT_TABLE)]
    format: Option<String>,
    /// Show n last created containers (includes all states) (default -1)
    #[arg(short = 'n', long, value_name = "int", value_parser = number::integer)]
    last: Option<i64>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

const KIND: Kind = Kind {
    type_name: "ContainerContext",
    heads: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
};

const COLUMNS: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels:{{if .Labels}} {{.Labels}}{{end}}\nports:{{if .Ports}} {{.Ports}}{{end}}\n";

impl Verb for PsArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        let (format, default) = self.format();
        let last = match self.last {
            Some(last) if last > 0 => usize::try_from(last).ok(),
            _ => self.latest.then_some(1),
        };
        let (containers, damaged) = context.engine()?.list_and_damaged(&ListRequest {
            all: self.all,
            last,
            filters: Filters(self.filter.clone()),
            size: self.size || format.contains(".Size") || format.contains("json ."),
        })?;
        let now = Timestamp::now();
        let rows: Vec<Row> = containers
            .iter()
            .map(|container| row(container, now, !self.no_trunc))
            .collect();
        list::write(&mut io::stdout().lock(), KIND, &format, &default, &rows)?;
        for error in damaged {
            if let Failure::Said(message) = Failure::from(error) {
                tell(&message)?;
            }
        }
        Ok(())
    }
}

impl PsArgs {
    /// The wanted form and the template of the plain table.
    fn format(&self) -> (String, String) {
        let mut columns = COLUMNS.to_owned();
        if self.size {
            columns.push_str("\t{{.Size}}");
        }
        let format = match self.format.as_deref() {
            None | Some("" | "table") if self.quiet => "{{.ID}}".to_owned(),
            None | Some("") => String::new(),
            Some("raw") if self.quiet => "container_id: {{.ID}}".to_owned(),
            Some("raw") if self.size => format!("{RAW}size: {{{{.Size}}}}\n"),
            Some("raw") => RAW.to_owned(),
            Some(format) => format.to_owned(),
        };
        (format, columns)
    }
}

fn row(container: &Container, now: Timestamp, short: bool) -> Row {
    let id = if short {
        container.id.short()
    } else {
        container.id.as_str()
    };
    let names: Vec<&str> = container
        .names
        .iter()
        .map(String::as_str)
        // names that links give have a slash
        .filter(|name| !short || !name.contains('/'))
        .collect();
    let labels: Vec<String> = container
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            let name = if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            };
            if short {
                ellipsis(name, 15)
            } else {
                name.clone()
            }
        })
        .collect();
    let volumes = container
        .mounts
        .iter()
        .filter(|mount| mount.kind == MountKind::Volume);
    let command = command_text(&container.command);
    let command = if short {
        ellipsis(&command, 20)
    } else {
        command
    };
    let created = container.created.timestamp();
    let fields = BTreeMap::from([
        ("ID", id.to_owned()),
        ("Names", names.join(",")),
        ("Image", container.image.clone()),
        ("Command", quoted(&command)),
        ("CreatedAt", time::local(created)),
        ("RunningFor", format!("{} ago", time::since(created, now))),
        ("Ports", ps_text(&container.ports)),
        ("State", container.status.as_str().to_owned()),
        ("Status", container.status_text.clone()),
        ("Size", size_text(container.size)),
        ("Labels", labels.join(",")),
        ("Mounts", mounts.join(",")),
        ("LocalVolumes", volumes.count().to_string()),
        ("Networks", container.networks.join(",")),
        ("Platform", String::new()),
    ]);
    Row {
        fields,
        labels: container.labels.clone(),
    }
}

/// `0B (virtual 1.98MB)`.
fn size_text(size: Option<Sizes>) -> String {
    match size {
        Some(sizes) => format!(
            "{} (virtual {})",
            size::human(sizes.writable, 3),
            size::human(sizes.all, 3)
        ),
        None => "0B".to_owned(),
    }
}

/// The command line; an argument with a blank is put in quotes.
pub(super) fn command_text(words: &[String]) -> String {
    let words: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(index, word)| {
            if index > 0 && word.contains(' ') {
                format!("'{word}'")
            } else {
                word.clone()
            }
        })
        .collect();
    words.join(" ")
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut result = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            '\t' => result.push_str("\\t"),
            letter if letter.is_control() => {
                result.push_str(&format!("\\x{:02x}", u32::from(letter)));
            }
            letter => result.push(letter),
        }
    }
    result.push('"');
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_and_cut() {
        let words = |line: &[&str]| line.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let cases = [
            (words(&["sh"]), "\"sh\""),
            (words(&["sleep", "1000"]), "\"sleep 1000\""),
            (words(&["sh", "-c", "echo hi"]), "\"sh -c 'echo hi'\""),
            (
                words(&["/docker-entrypoint.sh", "nginx"]),
                "\"/docker-entrypoint.…\"",
            ),
            (words(&["echo", "\"x\""]), "\"echo \\\"x\\\"\""),
        ];
        for (line, want) in cases {
            assert_eq!(quoted(&ellipsis(&command_text(&line), 20)), want);
        }
    }
}
