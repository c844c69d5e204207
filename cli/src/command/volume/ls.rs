//! `rbox volume ls`: lists volumes.

use std::collections::BTreeMap;
use std::io;

use clap::Args;
use engine::Engine;
use engine::volume::Volume;

use super::{Filters, LOCAL, used};
use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_TABLE;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::option::filter;
use crate::output::list::{self, Kind, Row};
use crate::output::order::natural;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<LsArgs>(
    "[OPTIONS]",
    "List volumes",
    &["volume ls", "volume list"],
    Count::None,
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Display only cluster volumes, and use cluster volume list formatting
    #[arg(long)]
    cluster: bool,
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    #[arg(long, value_name = "string", help = FORMAT_TABLE)]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

const KIND: Kind = Kind {
    type_name: "volumeContext",
    heads: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
};

impl Verb for LsArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        if self.cluster {
            return Err(Failure::said(
                "--cluster is not supported by rbox: volumes are of one machine",
            ));
        }
        let filters = Filters::parse(&self.filter)?;
        let engine = context.engine()?;
        let used = match filters.dangling {
            Some(_) => used(&engine)?,
            None => std::collections::BTreeSet::new(),
        };
        let mut volumes = engine.store().all_volumes()?;
        volumes.sort_by(|a, b| natural(&a.name, &b.name));
        let rows: Vec<Row> = volumes
            .iter()
            .filter(|volume| filters.admits(volume, &used))
            .map(|volume| row(&engine, volume))
            .collect();
        let format = match self.format.as_deref() {
            None | Some("" | "table") if self.quiet => "{{.Name}}",
            None => "",
            Some(format) => format,
        };
        let columns = "{{.Driver}}\t{{.Name}}";
        list::write(&mut io::stdout().lock(), KIND, format, columns, &rows)
    }
}

fn row(engine: &Engine, volume: &Volume) -> Row {
    let labels: Vec<String> = volume
        .record
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let none = || "N/A".to_owned();
    Row {
        fields: BTreeMap::from([
            ("Name", volume.name.clone()),
            ("Driver", volume.record.driver.as_str().to_owned()),
            ("Scope", LOCAL.to_owned()),
            (
                "Mountpoint",
                engine.store().mount_point(volume).display().to_string(),
            ),
            ("Labels", labels.join(",")),
            ("Links", none()),
            ("Size", none()),
            ("Availability", none()),
            ("Group", none()),
            ("Status", none()),
        ]),
        labels: volume.record.labels.clone(),
    }
}
