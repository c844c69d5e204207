//! `--network name` and `--network name=…,alias=…,ip=…`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{DAEMON, Failure};

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
    /// Further addresses.
    pub link_local: Vec<String>,
    /// Options for the driver.
    pub driver_options: BTreeMap<String, String>,
    /// How much it is the way out.
    pub priority: i64,
}

impl Attachment {
    /// It is none of those that are always there, nor another container's.
    pub(crate) fn is_of_a_user(&self) -> bool {
        !matches!(self.name.as_str(), "" | "default" | "bridge") && !self.is_had_alone()
    }

    /// Who is on it is on no other.
    pub(crate) fn is_had_alone(&self) -> bool {
        matches!(self.name.as_str(), "host" | "none") || self.name.starts_with("container:")
    }
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
            "link-local-ip" => attachment.link_local.push(value.to_owned()),
            "driver-opt" => {
                let (name, value) = driver_option(value)
                    .ok_or("invalid key value pair format in driver options")?;
                attachment.driver_options.insert(name, value);
            }
            "gw-priority" => attachment.priority = priority(value)?,
            _ => return Err(format!("invalid field {key}")),
        }
    }
    if attachment.name.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

/// `name=value`, the name in lower case.
fn driver_option(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn priority(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| {
        let why = match text
            .trim_start_matches(['+', '-'])
            .bytes()
            .all(|b| b.is_ascii_digit())
        {
            true if !text.is_empty() => "value out of range",
            _ => "invalid syntax",
        };
        format!("invalid gw-priority ({text}): {why}")
    })
}

/// Reads `--driver-opt` of `network connect`.
pub(crate) fn driver_options(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let wrong = || Failure::said("invalid key/value pair format in driver options");
    words
        .iter()
        .map(|word| driver_option(word).ok_or_else(wrong))
        .collect()
}

/// Reads `--link-local-ip`.
pub(crate) fn link_local(words: &[String]) -> Result<Vec<IpAddr>, Failure> {
    // Docker names all of them
    let all = || words.join(" ");
    let wrong = || {
        Failure::said(format!(
            "{DAEMON}Invalid link-local IP address: [{}]",
            all()
        ))
    };
    words
        .iter()
        .map(|text| text.parse().map_err(|_| wrong()))
        .collect()
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
        let long = parse("name=net,driver-opt=A.b=C,link-local-ip=169.254.0.9,gw-priority=-2");
        let long = long.unwrap();
        assert_eq!(long.driver_options["a.b"], "C");
        assert_eq!(long.link_local, ["169.254.0.9"]);
        assert_eq!(long.priority, -2);
        for (text, expected) in [
            ("gw-priority=x", "invalid gw-priority (x): invalid syntax"),
            ("gw-priority=", "invalid gw-priority (): invalid syntax"),
            (
                "gw-priority=99999999999999999999",
                "invalid gw-priority (99999999999999999999): value out of range",
            ),
            (
                "driver-opt=x",
                "invalid key value pair format in driver options",
            ),
        ] {
            assert_eq!(parse(&format!("name=net,{text}")).unwrap_err(), expected);
        }
    }
}
