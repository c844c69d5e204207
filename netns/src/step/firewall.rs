//! The steps that change the firewall: a network's rules, a container's openings.

use plan::Description;
use rustix::io::Errno;
use sys::netlink::{LinkChange, Request};

use super::kinds::description;
use super::{Firewall, Openings};
use crate::error::NetError;
use crate::firewall::{
    FirewallError, Hand, Opening, forget_closed, forget_opened, iptables, nft, ruleset,
};
use crate::host::Host;

impl Firewall {
    /// Puts the rules in place and leaves a remark on the bridge, so that no later start does so
    /// again.
    pub(super) fn ensure(&self, host: &mut Host) -> Result<(), NetError> {
        match self.mark.hand {
            Hand::Off => {}
            Hand::Iptables => iptables::ensure(&self.rules)?,
            Hand::Nft => nft::ensure(host.nft()?, &self.mark.instance, &self.rules)?,
        }
        let index = host.bridge(&self.rules.bridge)?;
        if self.mark.hand == Hand::Iptables && !self.rules.icc {
            // a bridge from a time when they could talk
            host.route()?.request(&Request::FilterBridge { index })?;
        }
        host.route()?.request(&Request::SetLink {
            index,
            change: LinkChange::Alias(&self.mark.to_string()),
        })?;
        Ok(())
    }

    pub(super) fn remove(&self, host: &mut Host) -> Result<(), NetError> {
        match self.mark.hand {
            Hand::Off => {}
            Hand::Iptables => iptables::remove_network(&self.rules)?,
            Hand::Nft => nft::remove_network(host.nft()?, &self.mark.instance, &self.rules)?,
        }
        Ok(())
    }

    pub(super) fn describe(&self) -> Description {
        description(
            format!("put the rules of the bridge {} in place", self.rules.bridge),
            "containers reach the world with the host's address, and only published ports are reached from it",
            calls(self.mark.hand, &self.mark.instance),
        )
    }

    pub(super) fn shell(&self) -> Vec<String> {
        match self.mark.hand {
            Hand::Off => Vec::new(),
            Hand::Nft => nft::network_shell(&self.mark.instance, &self.rules),
            Hand::Iptables => self
                .rules
                .subnets
                .iter()
                .flat_map(|subnet| {
                    let v4 = subnet.addr().is_ipv4();
                    let mut rules = ruleset::base_rules(!v4);
                    rules.extend(ruleset::network_rules(&self.rules, *subnet));
                    iptables::shell(&rules, v4)
                })
                .collect(),
        }
    }

    pub(super) fn describe_removal(&self) -> Description {
        description(
            format!("remove the rules of the bridge {}", self.rules.bridge),
            "its network is removed",
            Vec::new(),
        )
    }

    pub(super) fn removal_shell(&self) -> Vec<String> {
        self.shell()
            .iter()
            .map(|line| {
                line.replace("nft add element", "nft delete element")
                    .replace(" -A ", " -D ")
                    .replace(" -I ", " -D ")
            })
            .collect()
    }
}

impl Openings {
    pub(super) fn open(&self, host: &mut Host) -> Result<(), NetError> {
        let first = self.attempt(host);
        let flushed = match (&first, self.network.mark.hand) {
            (Err(NetError::Firewall(error)), Hand::Nft) => nft::is_missing(error),
            (Err(_), Hand::Iptables) => true,
            _ => false,
        };
        if !flushed {
            first?;
            return self.forget(forget_opened);
        }
        // Somebody has flushed the host's rules: put the network's in place again.
        self.network.ensure(host)?;
        self.attempt(host)?;
        self.forget(forget_opened)
    }

    /// Forgets connections that the change has made wrong. A kernel that cannot be asked about
    /// connections does not track them either.
    fn forget(&self, which: fn(&[Opening]) -> Result<(), FirewallError>) -> Result<(), NetError> {
        match which(&self.openings) {
            Err(FirewallError::Call(error))
                if [Errno::INVAL, Errno::NOTSUP, Errno::PROTONOSUPPORT]
                    .iter()
                    .any(|errno| errno.raw_os_error() == error.errno()) =>
            {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn attempt(&self, host: &mut Host) -> Result<(), NetError> {
        match self.network.mark.hand {
            Hand::Off => {}
            Hand::Iptables => iptables::open(&self.openings)?,
            Hand::Nft => nft::open(host.nft()?, &self.network.mark.instance, &self.openings)?,
        }
        Ok(())
    }

    pub(super) fn close(&self, host: &mut Host) -> Result<(), NetError> {
        match self.network.mark.hand {
            Hand::Off => {}
            Hand::Iptables => iptables::close(&self.openings)?,
            Hand::Nft => nft::close(host.nft()?, &self.network.mark.instance, &self.openings)?,
        }
        self.forget(forget_closed)
    }

    pub(super) fn describe(&self) -> Description {
        let linked = |opening: &Opening| matches!(opening, Opening::Link(_));
        let why = match self.openings.iter().all(linked) {
            true => "its containers may not talk, but a link opens the source's exposed ports",
            false => "what the container publishes is reached from outside",
        };
        description(
            format!("open {} ports in the firewall", self.openings.len()),
            why,
            calls(self.network.mark.hand, &self.network.mark.instance),
        )
    }

    pub(super) fn shell(&self) -> Vec<String> {
        match self.network.mark.hand {
            Hand::Off => Vec::new(),
            Hand::Nft => nft::shell(&self.network.mark.instance, &self.openings),
            Hand::Iptables => self
                .openings
                .iter()
                .flat_map(|opening| {
                    iptables::shell(&ruleset::opening_rules(opening), opening.is_v4())
                })
                .collect(),
        }
    }
}

/// What strace would show of either hand.
fn calls(hand: Hand, instance: &str) -> Vec<String> {
    match hand {
        Hand::Iptables => {
            vec!["execve(\"iptables-restore\", [\"--noflush\", \"--wait\"])".to_owned()]
        }
        Hand::Nft => vec![format!("sendto(NETLINK_NETFILTER, tables {instance})")],
        Hand::Off => Vec::new(),
    }
}
