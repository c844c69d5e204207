//! `rbox network ls`: lists networks.

use std::collections::BTreeMap;
use std::io;

use clap::Args;
use engine::network::Network;

use super::Filters;
use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_TABLE;
use crate::context::Context;
use crate::error::Result;
use crate::option::filter;
use crate::output::list::{self, Kind, Row};
use crate::output::order::natural;
use crate::output::time;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<LsArgs>(
    "[OPTIONS]",
    "List networks",
    &["network ls", "network list"],
    Count::None,
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    #[arg(long, value_name = "string", help = FORMAT_TABLE)]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

const KIND: Kind = Kind {
    type_name: "networkContext",
    heads: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv6", "IPV6"),
        ("IPv4", "IPV4"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

impl Verb for LsArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        let filters = Filters::parse(&self.filter)?;
        let engine = context.engine()?;
        let mut rows = Vec::new();
        let mut networks = engine.networks()?;
        networks.sort_by(|a, b| natural(&a.name, &b.name));
        for network in networks {
            let used = |network: &Network| Ok(!engine.on_network(network)?.is_empty());
            if filters.admits(&network, used)? {
                rows.push(row(&network, self.no_trunc));
            }
        }
        let format = match self.format.as_deref() {
            None | Some("" | "table") if self.quiet => "{{.ID}}",
            None => "",
            Some(format) => format,
        };
        let columns = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
        list::write(&mut io::stdout().lock(), KIND, format, columns, &rows)
    }
}

fn row(network: &Network, whole: bool) -> Row {
    let labels: Vec<String> = network
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let id = match whole {
        true => network.id.as_str(),
        false => network.id.get(..12).unwrap_or(&network.id),
    };
    Row {
        fields: BTreeMap::from([
            ("ID", id.to_owned()),
            ("Name", network.name.clone()),
            ("Driver", network.driver.clone()),
            ("Scope", "local".to_owned()),
            ("IPv6", network.ipv6.to_string()),
            ("IPv4", "true".to_owned()),
            ("Internal", network.internal.to_string()),
            ("Labels", labels.join(",")),
            ("CreatedAt", time::whole(network.created.timestamp())),
        ]),
        labels: network.labels.clone(),
    }
}
