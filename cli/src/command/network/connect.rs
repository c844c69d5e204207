//! `rbox network connect`: puts a container on a network.

use clap::Args;
use engine::store::record::EndpointWish;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, REFUSED, Result};
use crate::option::{host, network};

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
        let given = [
            (
                !self.driver_opt.is_empty(),
                "driver-opt",
                "places on a network have no options",
            ),
            (
                self.gw_priority.is_some_and(|priority| priority != 0),
                "gw-priority",
                "the first network that is not internal is the way out",
            ),
            (
                !self.link_local_ip.is_empty(),
                "link-local-ip",
                "containers get one address per network and family",
            ),
        ];
        if let Some((_, flag, why)) = given.iter().find(|(given, _, _)| *given) {
            return Err(Failure::coded(
                REFUSED,
                format!("--{flag} is not supported by rbox: {why}"),
            ));
        }
        let wish = EndpointWish {
            aliases: self.alias,
            address: network::address4(self.ip.as_deref())?,
            address6: network::address6(self.ip6.as_deref())?,
            mac_address: None,
            links: self.link,
        };
        context
            .engine()?
            .connect_network(&plain[0], &plain[1], &wish)?;
        Ok(())
    }
}
