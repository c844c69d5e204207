//! `--config-only` and `--config-from`: a network's settings, kept under a name, that others are
//! made from. Nothing on the host belongs to them.

use super::create::{NetworkRequest, bare};
use super::subnet::{SubnetRequest, texts};
use super::{Network, Subnet};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};

/// The document of a configuration.
///
/// # Errors
/// Docker's texts for what does not belong into one.
pub(super) fn configuration(request: &NetworkRequest) -> Result<Network> {
    if !request.config_from.is_empty() {
        return Err(forbidden(
            "a configuration network cannot depend on another configuration network",
        ));
    }
    if request.internal || request.attachable {
        return Err(forbidden(
            "configuration network can only contain network specific fields. Network operator \
             fields like [ ingress | internal | attachable | scope ] are not supported.",
        )
        .hint("give them to the networks that are made from it"));
    }
    let entry = |request: &SubnetRequest| Subnet {
        subnet: request.subnet.to_string(),
        range: text(request.range),
        gateway: text(request.gateway),
        reserved: texts(&request.reserved),
    };
    Ok(Network {
        driver: "null".to_owned(),
        config_only: true,
        subnets: request.subnets.iter().map(entry).collect(),
        ..bare(request)?
    })
}

impl Engine {
    /// The request with what the configuration says that it names.
    ///
    /// # Errors
    /// Docker's texts for a configuration that is none, and for settings beside it.
    pub(super) fn configured(&self, request: &NetworkRequest) -> Result<NetworkRequest> {
        let name = request.config_from.as_str();
        if name.is_empty() {
            return Ok(request.clone());
        }
        let found = self.network(name).ok().filter(|found| found.config_only);
        let found = found.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("configuration network {name:?} does not exist"),
            )
            .hint("make it with 'rbox network create --config-only'")
        })?;
        if !request.options.is_empty() {
            return Err(forbidden(
                "network driver options are not supported if the network depends on a \
                 configuration network",
            ));
        }
        let own = !request.labels.is_empty()
            || !request.subnets.is_empty()
            || !request.ipam_options.is_empty()
            || request.ipv6;
        if own {
            return Err(forbidden(
                "user specified configurations are not supported if the network depends on a \
                 configuration network",
            )
            .hint(format!("{} says what the network is like", found.name)));
        }
        Ok(NetworkRequest {
            config_from: found.name,
            subnets: found.subnets.iter().map(asked).collect::<Result<_>>()?,
            ipv6: found.ipv6,
            options: found.options,
            labels: found.labels,
            ipam_options: found.ipam_options,
            ..request.clone()
        })
    }

    /// A configuration goes after all that was made from it.
    pub(super) fn check_configuration_is_free(&self, network: &Network) -> Result<()> {
        if !network.config_only {
            return Ok(());
        }
        let all = self.store().user_networks()?;
        let of_it = |other: &&Network| other.config_from == network.name;
        let users: Vec<&str> = all
            .iter()
            .filter(of_it)
            .map(|one| one.name.as_str())
            .collect();
        match users.is_empty() {
            true => Ok(()),
            false => Err(forbidden(format!(
                "error while removing network: configuration network {:?} is in use",
                network.name
            ))
            .hint(format!("remove first: {}", users.join(", ")))),
        }
    }
}

fn forbidden(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, text)
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// The wish that an entry of a configuration was made from.
fn asked(entry: &Subnet) -> Result<SubnetRequest> {
    let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let reserved = entry.reserved.iter();
    Ok(SubnetRequest {
        subnet: read(&entry.subnet)?,
        range: optional(&entry.range).map(|text| read(&text)).transpose()?,
        gateway: optional(&entry.gateway)
            .map(|text| read(&text))
            .transpose()?,
        reserved: reserved
            .map(|(name, address)| Ok((name.clone(), read(address)?)))
            .collect::<Result<_>>()?,
    })
}

fn read<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::invalid(format!("the configuration is damaged: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::create::tests::engine;

    fn request(name: &str, from: &str) -> NetworkRequest {
        NetworkRequest {
            name: name.to_owned(),
            config_from: from.to_owned(),
            ..NetworkRequest::default()
        }
    }

    fn of_subnet(name: &str) -> NetworkRequest {
        NetworkRequest {
            config_only: true,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            subnets: vec![SubnetRequest {
                subnet: "10.5.0.0/16".parse().unwrap(),
                range: "10.5.1.0/24".parse().ok(),
                gateway: "10.5.0.9".parse().ok(),
                reserved: [("x".to_owned(), "10.5.1.1".parse().unwrap())].into(),
            }],
            ..request(name, "")
        }
    }

    #[test]
    fn a_configuration_gives_back_what_it_was_given() {
        let (_directory, engine) = engine();
        let wanted = of_subnet("conf");
        let made = engine.create_network(&wanted).unwrap();
        assert_eq!((made.driver.as_str(), made.pools.len()), ("null", 0));
        let request = engine.configured(&request("net", &made.id)).unwrap();
        assert_eq!(request.subnets, wanted.subnets);
        assert_eq!(request.labels, wanted.labels);
        assert_eq!(request.config_from, "conf");
    }

    #[test]
    fn refusals_are_dockers() {
        let (_directory, engine) = engine();
        engine.create_network(&of_subnet("conf")).unwrap();
        let from = |change: &dyn Fn(&mut NetworkRequest)| {
            let mut request = request("net", "conf");
            change(&mut request);
            engine.create_network(&request).unwrap_err().to_string()
        };
        for (said, expected) in [
            (
                from(&|one| one.config_from = "nope".to_owned()),
                "configuration network \"nope\" does not exist",
            ),
            (
                from(&|one| one.config_only = true),
                "a configuration network cannot depend on another configuration network",
            ),
            (
                from(&|one| one.ipv6 = true),
                "user specified configurations are not supported if the network depends on a configuration network",
            ),
            (
                from(&|one| one.options = [("a".to_owned(), "b".to_owned())].into()),
                "network driver options are not supported if the network depends on a configuration network",
            ),
        ] {
            assert_eq!(said, expected);
        }
        let internal = NetworkRequest {
            internal: true,
            ..of_subnet("other")
        };
        assert!(engine.create_network(&internal).is_err());
    }
}
