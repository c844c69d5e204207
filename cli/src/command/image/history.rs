//! `rbox history`: how an image came to be.

use std::collections::BTreeMap;
use std::io;

use clap::Args;
use image::inspect::HistoryEntry;
use jiff::Timestamp;

use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_TABLE;
use crate::command::image::refuse_platform;
use crate::context::Context;
use crate::error::Result;
use crate::output::ellipsis;
use crate::output::list::{self, Kind, Row};
use crate::output::{size, time};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<HistoryArgs>(
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    &["image history", "history"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    #[arg(long, value_name = "string", help = FORMAT_TABLE)]
    format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, default_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(
        long,
        value_name = "string",
        help = "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")"
    )]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
}

const KIND: Kind = Kind {
    type_name: "historyContext",
    heads: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

const COLUMNS: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

impl HistoryArgs {
    fn row(&self, line: &HistoryEntry, now: Timestamp) -> Row {
        let id = match &line.image {
            None => "<missing>".to_owned(),
            Some(id) if self.no_trunc => id.to_string(),
            Some(id) => id.short(),
        };
        let created: Option<Timestamp> = line.created.as_deref().and_then(|text| text.parse().ok());
        let by = line.created_by.replace('\t', " ");
        let at = created.map(time::rfc3339).unwrap_or_default();
        let since = match created {
            Some(then) if self.human => format!("{} ago", time::since(then, now)),
            Some(_) => at.clone(),
            None => String::new(),
        };
        let size = if self.human {
            size::human(line.size, 3)
        } else {
            line.size.to_string()
        };
        Row {
            fields: BTreeMap::from([
                ("ID", id),
                ("CreatedSince", since),
                ("CreatedAt", at),
                (
                    "CreatedBy",
                    if self.no_trunc { by } else { ellipsis(&by, 45) },
                ),
                ("Size", size),
                ("Comment", line.comment.clone()),
            ]),
            labels: BTreeMap::new(),
        }
    }
}

impl Verb for HistoryArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        refuse_platform(self.platform.as_deref())?;
        let now = Timestamp::now();
        let rows: Vec<Row> = context
            .images()?
            .history(&plain[0])?
            .iter()
            .map(|line| self.row(line, now))
            .collect();
        let format = match self.format.as_deref() {
            None | Some("" | "table") if self.quiet => "{{.ID}}",
            None => "",
            Some(format) => format,
        };
        list::write(&mut io::stdout().lock(), KIND, format, COLUMNS, &rows)
    }
}
