//! Which networks a container is to be on: said once when it is made, changed by `connect` and
//! `disconnect`.

use serde::{Deserialize, Serialize};

use super::{HOST, NONE};
use crate::error::Result;
use crate::monitor::join::Mode;
use crate::store::record::EndpointWish;
use crate::store::{Container, read_json, replace_json};

/// One network that a container is to be on, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkWish {
    /// The network's name.
    pub network: String,
    /// What is wanted of the place on it.
    #[serde(flatten)]
    pub endpoint: EndpointWish,
}

impl NetworkWish {
    /// A place on a network without further wishes.
    pub fn on(network: impl Into<String>) -> Self {
        Self {
            network: network.into(),
            endpoint: EndpointWish::default(),
        }
    }
}

impl Container {
    /// The networks it is to be on, in order of attachment; none where it shares another's.
    ///
    /// # Errors
    /// When the document of later wishes is there and cannot be read.
    pub fn networks(&self) -> Result<Vec<NetworkWish>> {
        let name = match Mode::of(&self.record.host) {
            Mode::Container(_) => return Ok(Vec::new()),
            Mode::Host => return Ok(vec![self.first(HOST)]),
            Mode::None => NONE,
            Mode::Bridge(name) => name,
        };
        // only a namespace of its own may be changed
        if let Some(changed) = read_json(&self.dir.networks())? {
            return Ok(changed);
        }
        Ok(vec![self.first(name)])
    }

    /// It is on the network `none`, and so on no other.
    ///
    /// # Errors
    /// As [`Container::networks`].
    pub(crate) fn is_alone(&self) -> Result<bool> {
        let alone = |wish: &NetworkWish| wish.network == NONE;
        Ok(self.networks()?.iter().any(alone))
    }
    /// The network that it was made on.
    fn first(&self, name: &str) -> NetworkWish {
        NetworkWish {
            network: name.to_owned(),
            endpoint: self.record.endpoint.clone(),
        }
    }

    /// Changes the networks it is to be on.
    ///
    /// # Errors
    /// When the directory is gone or full.
    pub(crate) fn write_networks(&self, wishes: &[NetworkWish]) -> Result<()> {
        replace_json(&self.dir.networks(), &wishes)
    }
}
