//! `rbox network connect`: puts a container on a network.

use clap::Args;
use engine::store::record::EndpointWish;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;
use crate::option::{host, network};
use crate::output::warn;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<ConnectArgs>(
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    &[],
    Count::Exactly(2),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values.
    #[arg(long, value_name = "int")]
    gw_priority: Option<i64>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string")]
    ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "string")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list", value_parser = host::link)]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    link_local_ip: Vec<String>,
}

impl Verb for ConnectArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let wish = EndpointWish {
            aliases: self.alias,
            address: network::address4(self.ip.as_deref())?,
            address6: network::address6(self.ip6.as_deref())?,
            mac_address: None,
            links: self.link,
            link_local: network::link_local(&self.link_local_ip)?,
            driver_options: network::driver_options(&self.driver_opt)?,
            priority: self.gw_priority.unwrap_or_default(),
        };
        if matches!(plain[0].as_str(), "bridge" | "default") && !wish.links.is_empty() {
            warn(
                "WARNING: links of 'network connect' are names on networks of the user's; on bridge they lead nowhere",
            );
        }
        context
            .engine()?
            .connect_network(&plain[0], &plain[1], &wish)?;
        Ok(())
    }
}
