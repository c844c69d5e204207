//! `rbox stats`: what containers use, once or again and again.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use engine::container::list::ListRequest;
use engine::container::stats::{Numbers, Usage};
use engine::{ContainerId, Engine, ErrorKind};

use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_TABLE;
use crate::context::Context;
use crate::error::Result;
use crate::output::list::{self, Kind, Row};
use crate::output::size;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<StatsArgs>(
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    &["container stats", "stats"],
    Count::AtLeast(0),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    #[arg(long, value_name = "string", help = FORMAT_TABLE)]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
}

const KIND: Kind = Kind {
    type_name: "statsContext",
    heads: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

const COLUMNS: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// Between two looks: shares are those of this time.
const PAUSE: Duration = Duration::from_secs(1);

impl Verb for StatsArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let named = plain
            .iter()
            .map(|word| Ok((word.clone(), engine.resolve(word)?)))
            .collect::<Result<Vec<_>>>()?;
        let format = self.format.as_deref().unwrap_or_default();
        let mut out = io::stdout().lock();
        let mut before = BTreeMap::new();
        self.look(&engine, &named, &mut before)?;
        loop {
            std::thread::sleep(PAUSE);
            let rows = self.look(&engine, &named, &mut before)?;
            let mut text = Vec::new();
            list::write(&mut text, KIND, format, COLUMNS, &rows)?;
            if self.no_stream {
                out.write_all(&text)?;
                return Ok(out.flush()?);
            }
            // Over what was shown before; the rest of each line and of the screen is cleared.
            let text = String::from_utf8_lossy(&text).replace('\n', "\x1b[K\n");
            write!(out, "\x1b[H{text}\x1b[J")?;
            out.flush()?;
        }
    }
}

impl StatsArgs {
    /// Looks at all that are wanted; `before` is what was seen last time.
    fn look(
        &self,
        engine: &Engine,
        named: &[(String, ContainerId)],
        before: &mut BTreeMap<String, Numbers>,
    ) -> Result<Vec<Row>> {
        let wanted = match named {
            [] => self.all_of(engine)?,
            named => named.to_vec(),
        };
        let mut seen = BTreeMap::new();
        let mut rows = Vec::new();
        for (word, id) in wanted {
            let usage = match engine.usage(&id) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            let last = before.get(id.as_str());
            rows.push(row(&word, &usage, last, self.no_trunc));
            if let Some(numbers) = usage.numbers {
                seen.insert(id.to_string(), numbers);
            }
        }
        *before = seen;
        Ok(rows)
    }

    fn all_of(&self, engine: &Engine) -> Result<Vec<(String, ContainerId)>> {
        let request = ListRequest {
            all: self.all,
            ..ListRequest::default()
        };
        let rows = engine.list(&request)?;
        Ok(rows
            .into_iter()
            .map(|row| (row.id.to_string(), row.id))
            .collect())
    }
}

fn row(word: &str, usage: &Usage, before: Option<&Numbers>, whole: bool) -> Row {
    let id = usage.id.to_string();
    let id = match whole {
        true => id,
        false => id.chars().take(12).collect(),
    };
    let numbers = usage.numbers;
    let share = |share: f64| format!("{share:.2}%");
    let cpu = match (numbers, before) {
        (Some(now), Some(before)) => now.cpu_share(before),
        _ => 0.0,
    };
    let of = |get: fn(&Numbers) -> u64| numbers.as_ref().map_or(0, get);
    let pair =
        |one: u64, other: u64| format!("{} / {}", size::human(one, 3), size::human(other, 3));
    let memory = (of(|all| all.memory), of(|all| all.memory_limit));
    Row {
        fields: BTreeMap::from([
            ("Container", word.to_owned()),
            ("ID", id),
            ("Name", usage.name.clone()),
            ("CPUPerc", share(cpu)),
            (
                "MemUsage",
                format!("{} / {}", size::binary(memory.0), size::binary(memory.1)),
            ),
            (
                "MemPerc",
                share(numbers.map_or(0.0, |all| all.memory_share())),
            ),
            ("NetIO", pair(of(|all| all.received), of(|all| all.sent))),
            ("BlockIO", pair(of(|all| all.read), of(|all| all.written))),
            ("PIDs", of(|all| all.processes).to_string()),
        ]),
        labels: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_row_is_dockers() {
        let before = Numbers {
            at: Instant::now(),
            cpu: 0,
            memory: 3 << 20,
            memory_limit: 12 << 20,
            processes: 2,
            read: 0,
            written: 4096,
            received: 1500,
            sent: 0,
        };
        let now = Numbers {
            at: before.at + PAUSE,
            cpu: 255_000_000,
            ..before
        };
        let usage = |numbers| Usage {
            id: "ab".repeat(32).parse().unwrap(),
            name: "web".to_owned(),
            numbers,
        };
        let show = |usage: &Usage| {
            let mut out = Vec::new();
            let rows = [row("web", usage, Some(&before), false)];
            list::write(&mut out, KIND, "", COLUMNS, &rows).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            show(&usage(Some(now))),
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O      BLOCK I/O    PIDS\n\
             abababababab   web       25.50%    3MiB / 12MiB        25.00%    1.5kB / 0B   0B / 4.1kB   2\n"
        );
        let idle = show(&usage(None));
        assert!(
            idle.contains("0.00%     0B / 0B             0.00%     0B / 0B   0B / 0B     0"),
            "{idle}"
        );
    }
}
