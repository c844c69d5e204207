//! `network inspect`: Docker's document of a network.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Network, Subnet};
use crate::Engine;
use crate::error::Result;
use crate::id::ContainerId;
use crate::time::Time;

/// The whole document; fields and their order are Docker's.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Document {
    /// What users call it.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was made.
    pub created: Time,
    /// Always `local`.
    pub scope: &'static str,
    /// How it works.
    pub driver: String,
    /// It has an IPv6 subnet.
    #[serde(rename = "EnableIPv6")]
    pub ipv6: bool,
    /// Its subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Nothing leaves it.
    pub internal: bool,
    /// As asked for.
    pub attachable: bool,
    /// Always false.
    pub ingress: bool,
    /// What it was made from.
    pub config_from: ConfigFrom,
    /// It is a configuration for others.
    pub config_only: bool,
    /// Running containers on it.
    pub containers: BTreeMap<ContainerId, Place>,
    /// `-o`.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// `IPAM`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipam {
    /// Always `default`.
    pub driver: &'static str,
    /// Null for networks that are always there, else `--ipam-opt`.
    pub options: Option<BTreeMap<String, String>>,
    /// The subnets.
    pub config: Vec<Subnet>,
}

/// `ConfigFrom`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigFrom {
    /// The configuration's name; empty without.
    pub network: String,
}

/// One running container's place on the network.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Place {
    /// The container's name.
    pub name: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Hardware address.
    pub mac_address: String,
    /// With the length of the prefix; empty without.
    #[serde(rename = "IPv4Address")]
    pub address: String,
    /// With the length of the prefix; empty without.
    #[serde(rename = "IPv6Address")]
    pub address6: String,
}

impl Engine {
    /// Docker's document of a network.
    ///
    /// # Errors
    /// `network nope not found`; when a record is damaged.
    pub fn inspect_network(&self, text: &str) -> Result<Document> {
        let network = self.network(text)?;
        let containers = self.on_network(&network)?;
        let made = super::is_predefined(&network.name);
        Ok(Document {
            name: network.name,
            id: network.id,
            created: network.created,
            scope: "local",
            driver: network.driver,
            ipv6: network.ipv6,
            ipam: Ipam {
                driver: "default",
                options: (!made).then_some(network.ipam_options),
                config: network.subnets,
            },
            internal: network.internal,
            attachable: network.attachable,
            ingress: false,
            config_from: ConfigFrom {
                network: network.config_from,
            },
            config_only: network.config_only,
            containers,
            options: network.options,
            labels: network.labels,
        })
    }

    /// The running containers on a network.
    ///
    /// # Errors
    /// When the directory of containers cannot be read.
    pub fn on_network(&self, network: &Network) -> Result<BTreeMap<ContainerId, Place>> {
        let (containers, _) = self.store().load_sound()?;
        let mut all = BTreeMap::new();
        for container in containers {
            let running = container
                .status()
                .is_ok_and(|(status, _)| status.has_process());
            let record = match running {
                true => container.run.network()?,
                false => None,
            };
            let endpoints = record.map(|record| record.endpoints).unwrap_or_default();
            let found = endpoints
                .into_iter()
                .find(|endpoint| endpoint.network_id == network.id);
            if let Some(endpoint) = found {
                let v4 = endpoint
                    .address
                    .map(|ip| format!("{ip}/{}", endpoint.prefix));
                let v6 = endpoint
                    .address6
                    .map(|ip| format!("{ip}/{}", endpoint.prefix6));
                let place = Place {
                    name: container.name,
                    endpoint_id: endpoint.endpoint_id,
                    mac_address: endpoint.mac_address,
                    address: v4.unwrap_or_default(),
                    address6: v6.unwrap_or_default(),
                };
                all.insert(container.record.id, place);
            }
        }
        Ok(all)
    }
}
