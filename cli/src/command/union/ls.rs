//! `rbox union ls`: lists branches, permissions, free space and counters.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use overlayfs::union::{Status, list, mounts};
use serde_json::json;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;
use crate::output::{json as lines, size, table};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<LsArgs>(
    "[OPTIONS] [MOUNTPOINT]",
    "List unions and their branches",
    &["union ls", "union list"],
    Count::AtMost(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Print everything that is known, as JSON, one union per line
    #[arg(long)]
    json: bool,
}

impl Verb for LsArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        let targets = match plain.first() {
            Some(target) => vec![PathBuf::from(target)],
            None => mounts(),
        };
        let mut rows = String::from("MOUNTPOINT\tINDEX\tBRANCH\tPERMISSION\tFREE\tOPEN\n");
        let mut notes = String::new();
        let mut out = io::stdout().lock();
        for target in &targets {
            let status = list(target)?;
            if self.json {
                let value = json!({ "mountpoint": target, "status": status });
                writeln!(out, "{}", lines::line(&value, false))?;
            } else {
                add_rows(&mut rows, &target.display().to_string(), &status);
                add_note(&mut notes, &target.display().to_string(), &status);
            }
        }
        if !self.json {
            table::write(&mut out, &rows, 10)?;
            out.write_all(notes.as_bytes())?;
        }
        Ok(())
    }
}

fn add_rows(rows: &mut String, target: &str, status: &Status) {
    for (index, branch) in status.branches.iter().enumerate() {
        // writing to a string cannot fail
        let _ = writeln!(
            rows,
            "{target}\t{index}\t{}\t{}\t{}\t{}",
            branch.path,
            branch.permission,
            size::human(branch.free, 3),
            branch.open
        );
    }
}

/// The settings, below the branches of all unions.
fn add_note(notes: &mut String, target: &str, status: &Status) {
    if notes.is_empty() {
        notes.push('\n');
    }
    // writing to a string cannot fail
    let _ = write!(
        notes,
        "{target}: create={},cpup={},udba={}",
        status.create, status.copy_up, status.direct_changes
    );
    for (word, said) in [
        ("search=newest", status.newest),
        ("inode32", status.inode32),
    ] {
        if said {
            let _ = write!(notes, ",{word}");
        }
    }
    if !matches!(status.form.as_str(), "" | "aufs") {
        let _ = write!(notes, ",whform={}", status.form);
    }
    if status.recovers {
        let _ = write!(notes, ",recover (restarted {} times)", status.restarts);
    }
    match status.unwatched.as_str() {
        "" => notes.push('\n'),
        reason => {
            let _ = writeln!(notes, " (as reval: {reason})");
        }
    }
}
