//! `rbox network create`: makes a network.

use std::io::Write as _;
use std::net::IpAddr;

use clap::Args;
use engine::network::{NetworkRequest, SubnetRequest};
use ipnet::IpNet;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{DAEMON, Failure, REFUSED, Result};
use crate::option::label;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<CreateArgs>(
    "[OPTIONS] NETWORK",
    "Create a network",
    &[],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    #[arg(
        long,
        value_name = "map",
        help = "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])"
    )]
    aux_address: Vec<String>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "string")]
    config_from: Option<String>,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the Network (default "bridge")
    #[arg(short, long, value_name = "string")]
    driver: Option<String>,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver (default "default")
    #[arg(long, value_name = "string")]
    ipam_driver: Option<String>,
    #[arg(
        long,
        value_name = "map",
        help = "Set IPAM driver specific options (default map[])"
    )]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment (default true)
    #[arg(long, default_value = "true")]
    ipv4: bool,
    /// Enable or disable IPv6 address assignment
    #[arg(long)]
    ipv6: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "list", value_parser = label::parse)]
    label: Vec<String>,
    #[arg(
        short,
        long,
        value_name = "map",
        help = "Set driver specific options (default map[])"
    )]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
}

impl Verb for CreateArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        self.refuse()?;
        let subnets = consolidate(&self.subnet, &self.ip_range, &self.gateway)?;
        let request = NetworkRequest {
            name: plain[0].clone(),
            driver: self.driver.unwrap_or_default(),
            subnets,
            ipv6: self.ipv6,
            internal: self.internal,
            attachable: self.attachable,
            options: label::pairs(&self.opt),
            labels: label::pairs(&self.label),
        };
        let network = context.engine()?.create_network(&request)?;
        writeln!(std::io::stdout(), "{}", network.id)?;
        Ok(())
    }
}

impl CreateArgs {
    fn refuse(&self) -> Result<()> {
        if let Some(driver) = self.ipam_driver.as_deref().filter(|one| *one != "default") {
            return Err(Failure::said(format!(
                "{DAEMON}could not resolve driver {driver} in registry"
            )));
        }
        let given = [
            (
                !self.aux_address.is_empty(),
                "aux-address",
                "keep addresses out of reach of containers with --ip-range",
            ),
            (
                self.config_from.is_some(),
                "config-from",
                "networks are of one machine",
            ),
            (
                self.config_only,
                "config-only",
                "networks are of one machine",
            ),
            (self.ingress, "ingress", "networks are of one machine"),
            (
                !self.ipam_opt.is_empty(),
                "ipam-opt",
                "addresses are given by rbox itself",
            ),
            (!self.ipv4, "ipv4=false", "every network has IPv4 addresses"),
            (
                self.scope.as_deref().is_some_and(|scope| scope != "local"),
                "scope",
                "networks are of one machine",
            ),
        ];
        match given.iter().find(|(given, _, _)| *given) {
            Some((_, flag, why)) => Err(Failure::coded(
                REFUSED,
                format!("--{flag} is not supported by rbox: {why}"),
            )),
            None => Ok(()),
        }
    }
}

/// Puts ranges and gateways to their subnets, with the refusals of Docker's command line.
fn consolidate(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
) -> Result<Vec<SubnetRequest>> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(Failure::said(
            "every ip-range or gateway must have a corresponding subnet",
        ));
    }
    let mut all: Vec<SubnetRequest> = Vec::new();
    for text in subnets {
        let subnet = net(text)?;
        if all.iter().any(|other| overlap(&other.subnet, &subnet)) {
            return Err(Failure::said(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        all.push(SubnetRequest {
            subnet,
            range: None,
            gateway: None,
        });
    }
    for text in ranges {
        let range = net(text)?;
        let found = all
            .iter_mut()
            .find(|one| one.subnet.contains(&range.trunc()));
        let Some(found) = found else {
            return Err(Failure::said(format!(
                "no matching subnet for range {text}"
            )));
        };
        if let Some(other) = found.range.replace(range) {
            return Err(Failure::said(format!(
                "cannot configure multiple ranges ({text}, {other}) on the same subnet ({})",
                found.subnet
            )));
        }
    }
    for text in gateways {
        let wrong = || Failure::said(format!("no matching subnet for gateway {text}"));
        let gateway: IpAddr = text.parse().map_err(|_| wrong())?;
        let found = all.iter_mut().find(|one| one.subnet.contains(&gateway));
        let found = found.ok_or_else(wrong)?;
        if let Some(other) = found.gateway.replace(gateway) {
            return Err(Failure::said(format!(
                "cannot configure multiple gateways ({text}, {other}) for the same subnet ({})",
                found.subnet
            )));
        }
    }
    Ok(all)
}

fn net(text: &str) -> Result<IpNet> {
    text.parse()
        .map_err(|_| Failure::said(format!("invalid CIDR address: {text}")))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn ranges_and_gateways_find_their_subnets() {
        let all = consolidate(
            &words("10.1.0.0/16 fd00::/64"),
            &words("10.1.128.0/17"),
            &words("fd00::9 10.1.0.9"),
        )
        .unwrap();
        assert_eq!(all[0].range.unwrap().to_string(), "10.1.128.0/17");
        assert_eq!(all[0].gateway.unwrap().to_string(), "10.1.0.9");
        assert_eq!(all[1].gateway.unwrap().to_string(), "fd00::9");
    }

    #[test]
    fn refusals() {
        for (subnets, ranges, gateways, expected) in [
            (
                "",
                "10.1.0.0/24",
                "",
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                "",
                "",
                "10.1.0.1",
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                "10.1.0.0/16 10.1.2.0/24",
                "",
                "",
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                "10.1.0.0/16",
                "10.2.0.0/24",
                "",
                "no matching subnet for range 10.2.0.0/24",
            ),
            (
                "10.1.0.0/16",
                "",
                "10.2.0.1",
                "no matching subnet for gateway 10.2.0.1",
            ),
            ("10.1", "", "", "invalid CIDR address: 10.1"),
            (
                "10.1.0.0/16 10.2.0.0/16",
                "10.1.1.0/24 10.1.2.0/24",
                "",
                "cannot configure multiple ranges (10.1.2.0/24, 10.1.1.0/24) on the same subnet (10.1.0.0/16)",
            ),
        ] {
            match consolidate(&words(subnets), &words(ranges), &words(gateways)) {
                Err(Failure::Said(message)) => assert_eq!(message.text, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}
