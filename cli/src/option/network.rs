//! `--network name` and `--network name=…,alias=…,ip=…`.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::Failure;

/// One network that a container joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// `bridge`, `host`, `container:web` or a name.
    pub name: String,
    /// Further names on it.
    pub aliases: Vec<String>,
    /// Wanted address.
    pub ip: String,
    /// Wanted IPv6 address.
    pub ip6: String,
    /// Wanted hardware address.
    pub mac: String,
}

/// Reads one word, short or long.
pub(crate) fn parse(text: &str) -> Result<Attachment, String> {
    if !text.contains('=') {
        return Ok(Attachment {
            name: text.to_owned(),
            ..Attachment::default()
        });
    }
    let mut attachment = Attachment::default();
    for part in text.split(',') {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("invalid network config: {part}: must be a key=value pair"))?;
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => value.clone_into(&mut attachment.name),
            "alias" => attachment.aliases.push(value.to_owned()),
            "ip" => value.clone_into(&mut attachment.ip),
            "ip6" => value.clone_into(&mut attachment.ip6),
            "mac-address" => value.clone_into(&mut attachment.mac),
            "link-local-ip" | "driver-opt" | "gw-priority" => {
                return Err(format!("{key} is not supported by rbox"));
            }
            _ => return Err(format!("invalid field {key}")),
        }
    }
    if attachment.name.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

/// Reads `--ip`; Docker's words for what is none.
pub(crate) fn address4(text: Option<&str>) -> Result<Option<Ipv4Addr>, Failure> {
    let wrong = |text| Failure::said(format!("invalid IPv4 address: {text}"));
    text.map(|text| text.parse().map_err(|_| wrong(text)))
        .transpose()
}

/// Reads `--ip6`.
pub(crate) fn address6(text: Option<&str>) -> Result<Option<Ipv6Addr>, Failure> {
    let wrong = |text| Failure::said(format!("invalid IPv6 address: {text}"));
    text.map(|text| text.parse().map_err(|_| wrong(text)))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address4(Some("10.0.0.1")).unwrap().unwrap().octets()[3], 1);
        assert!(address4(None).unwrap().is_none());
        assert!(address4(Some("999.1.1.1")).is_err());
        assert!(address6(Some("fd00::1")).is_ok() && address6(Some("10.0.0.1")).is_err());
    }

    #[test]
    fn both_forms() {
        assert_eq!(parse("host").unwrap().name, "host");
        assert_eq!(parse("container:web").unwrap().name, "container:web");
        let long = parse("name=net,alias=a,alias=b,ip=10.0.0.5").unwrap();
        assert_eq!(long.aliases, ["a", "b"]);
        assert_eq!(long.ip, "10.0.0.5");
        assert_eq!(
            parse("alias=a").unwrap_err(),
            "network name/id is not specified"
        );
        assert_eq!(parse("foo=a").unwrap_err(), "invalid field foo");
    }
}
