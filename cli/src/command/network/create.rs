//! `rbox network create`: makes a network.

use std::collections::BTreeMap;
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
        let mut subnets = consolidate(&self.subnet, &self.ip_range, &self.gateway)?;
        set_aside(&mut subnets, &label::pairs(&self.aux_address))?;
        let request = NetworkRequest {
            name: plain[0].clone(),
            driver: self.driver.unwrap_or_default(),
            subnets,
            ipv6: self.ipv6,
            internal: self.internal,
            attachable: self.attachable,
            config_only: self.config_only,
            config_from: self.config_from.unwrap_or_default(),
            ipam_options: label::pairs(&self.ipam_opt),
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
            return Err(
                Failure::said(format!("{DAEMON}plugin \"{driver}\" not found"))
                    .hint("rbox gives addresses itself: leave --ipam-driver out"),
            );
        }
        if !self.ipv4 {
            return Err(Failure::coded(
                REFUSED,
                "--ipv4=false is not supported by rbox: every network has IPv4 addresses",
            ));
        }
        if self.ingress {
            return Err(Failure::said(format!(
                "{DAEMON}Ingress network can only be global scope network"
            ))
            .hint(ONE_MACHINE));
        }
        match self.scope.as_deref().unwrap_or_default() {
            "" | "local" => Ok(()),
            "swarm" => Err(Failure::said(format!(
                "{DAEMON}cannot create a swarm scoped network when swarm is not active"
            ))
            .hint(ONE_MACHINE)),
            _ => Err(
                Failure::said(format!("{DAEMON}This node is not a swarm manager."))
                    .hint(ONE_MACHINE),
            ),
        }
    }
}

const ONE_MACHINE: &str = "rbox's networks are of one machine: leave --scope and --ingress out";

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
        let subnet: IpNet = text.parse().map_err(|_| {
            Failure::said(format!(
                "{DAEMON}Invalid subnet {text} : invalid CIDR address: {text}"
            ))
            .hint("a subnet looks like 10.1.0.0/16")
        })?;
        if all.iter().any(|other| overlap(&other.subnet, &subnet)) {
            return Err(Failure::said(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        all.push(SubnetRequest {
            subnet,
            range: None,
            gateway: None,
            reserved: BTreeMap::new(),
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

/// Puts `--aux-address` to the subnets.
fn set_aside(subnets: &mut [SubnetRequest], aside: &BTreeMap<String, String>) -> Result<()> {
    for (name, text) in aside {
        let wrong = || Failure::said(format!("no matching subnet for aux-address {text}"));
        let address: IpAddr = text.parse().map_err(|_| wrong())?;
        let found = subnets.iter_mut().find(|one| one.subnet.contains(&address));
        found
            .ok_or_else(wrong)?
            .reserved
            .insert(name.clone(), address);
    }
    Ok(())
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
    fn addresses_are_set_aside_in_their_subnets() {
        let mut all = consolidate(&words("10.1.0.0/16 fd00::/64"), &[], &[]).unwrap();
        let aside = label::pairs(&words("a=10.1.0.2 b=fd00::2 a=10.1.0.3"));
        set_aside(&mut all, &aside).unwrap();
        assert_eq!(all[0].reserved["a"].to_string(), "10.1.0.3");
        assert_eq!(all[1].reserved["b"].to_string(), "fd00::2");
        for (text, named) in [("x=10.2.0.1", "10.2.0.1"), ("x", ""), ("x=y", "y")] {
            match set_aside(&mut all, &label::pairs(&words(text))) {
                Err(Failure::Said(message)) => assert_eq!(
                    message.text,
                    format!("no matching subnet for aux-address {named}")
                ),
                other => panic!("{other:?}"),
            }
        }
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
            (
                "10.1",
                "",
                "",
                "Error response from daemon: Invalid subnet 10.1 : invalid CIDR address: 10.1",
            ),
            ("10.1.0.0/16", "10.1", "", "invalid CIDR address: 10.1"),
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
