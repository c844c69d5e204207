//! `rbox system df`: what images, containers and volumes take on the disk.

use std::collections::{BTreeMap, HashSet};
use std::io;

use clap::Args;
use engine::Engine;
use engine::container::list::ListRequest;
use image::store::{ImageError, ImageStore};
use sys::fs::{Dir, errno, usage};

use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_TABLE;
use crate::command::image::users;
use crate::command::volume;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::output::list::{self, Kind, Row};
use crate::output::size;

/// The command.
pub(crate) static LEAF: Leaf =
    Leaf::new::<DfArgs>("[OPTIONS]", "Show rbox disk usage", &[], Count::None);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    #[arg(long, value_name = "string", help = FORMAT_TABLE)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const KIND: Kind = Kind {
    type_name: "diskUsageContext",
    heads: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

const COLUMNS: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

impl Verb for DfArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        if self.verbose {
            return Err(Failure::said(
                "--verbose is not supported by rbox: list with 'rbox images' and 'rbox ps -as'",
            ));
        }
        let engine = context.engine()?;
        let rows = [
            images(&engine, &engine.images())?.row("Images"),
            containers(&engine)?.row("Containers"),
            volumes(&engine)?.row("Local Volumes"),
            Usage::default().row("Build Cache"),
        ];
        let format = self.format.as_deref().unwrap_or_default();
        list::write(&mut io::stdout().lock(), KIND, format, COLUMNS, &rows)
    }
}

/// One line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    total: usize,
    active: usize,
    bytes: u64,
    reclaimable: u64,
}

impl Usage {
    fn row(self, kind: &str) -> Row {
        let mut reclaimable = size::human(self.reclaimable, 4);
        if let Some(share) = (self.reclaimable * 100).checked_div(self.bytes) {
            reclaimable = format!("{reclaimable} ({share}%)");
        }
        Row {
            fields: BTreeMap::from([
                ("Type", kind.to_owned()),
                ("TotalCount", self.total.to_string()),
                ("Active", self.active.to_string()),
                ("Size", size::human(self.bytes, 4)),
                ("Reclaimable", reclaimable),
            ]),
            labels: BTreeMap::new(),
        }
    }
}

fn images(engine: &Engine, images: &ImageStore) -> Result<Usage> {
    let list = images.list()?;
    let used: HashSet<_> = users(engine)?.into_iter().map(|user| user.image).collect();
    let (mut all, mut kept) = (HashSet::new(), HashSet::new());
    for summary in &list {
        all.extend(summary.image.layers.iter().copied());
        if used.contains(&summary.image.id) {
            kept.extend(summary.image.layers.iter().copied());
        }
    }
    let mut usage = Usage {
        total: list.len(),
        active: list
            .iter()
            .filter(|summary| used.contains(&summary.image.id))
            .count(),
        ..Usage::default()
    };
    for id in all {
        let bytes = images.layers().layer(id).map_err(ImageError::from)?.size;
        usage.bytes += bytes;
        if !kept.contains(&id) {
            usage.reclaimable += bytes;
        }
    }
    Ok(usage)
}

fn containers(engine: &Engine) -> Result<Usage> {
    let mut usage = Usage::default();
    let request = ListRequest {
        all: true,
        size: true,
        ..ListRequest::default()
    };
    for container in engine.list(&request)? {
        let bytes = container.size.map_or(0, |sizes| sizes.writable);
        usage.total += 1;
        usage.bytes += bytes;
        if container.status.is_running() {
            usage.active += 1;
        } else {
            usage.reclaimable += bytes;
        }
    }
    Ok(usage)
}

fn volumes(engine: &Engine) -> Result<Usage> {
    let used = volume::used(engine)?;
    let mut usage = Usage::default();
    // What lies elsewhere, by options, is not of this disk.
    let own = |volume: &engine::volume::Volume| volume.record.options.is_empty();
    for volume in engine.store().all_volumes()?.into_iter().filter(own) {
        let bytes = bytes_below(&volume.data)?;
        usage.total += 1;
        usage.bytes += bytes;
        if used.contains(&volume.name) {
            usage.active += 1;
        } else {
            usage.reclaimable += bytes;
        }
    }
    Ok(usage)
}

/// Bytes of regular files, each counted once whatever names it has; links are not followed, and
/// what vanishes meanwhile counts nothing.
pub(crate) fn bytes_below(path: &std::path::Path) -> Result<u64> {
    let fault = |error| {
        let text = format!("cannot add up what is in {:?}", path.display().to_string());
        engine::Error::system(text, error)
    };
    match Dir::open(path) {
        Ok(dir) => Ok(usage(&dir).map_err(fault)?.bytes),
        Err(error) if error.errno() == errno::ENOENT => Ok(0),
        Err(error) => Err(fault(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_where_there_is_a_whole() {
        let usage = Usage {
            total: 2,
            active: 1,
            bytes: 2_000_000,
            reclaimable: 500_000,
        };
        assert_eq!(usage.row("Images").fields["Reclaimable"], "500kB (25%)");
        assert_eq!(Usage::default().row("Images").fields["Reclaimable"], "0B");
    }
}
