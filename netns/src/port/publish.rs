//! The grammar of `-p`, `-P` and `--expose`, with Docker's words for what is wrong.

use std::net::IpAddr;

use super::{Port, Protocol};

/// What is wrong with a port as the user typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The address is none.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// Nothing stands where the container's port should.
    #[error("no port specified: {0}<empty>")]
    NoPort(String),
    /// The container's port is no number or range.
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// The host's port is no number or range.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// Two ranges of different length.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's range as typed.
        container: String,
        /// The host's range as typed.
        host: String,
    },
    /// Neither tcp, udp nor sctp.
    #[error("invalid proto: {0}")]
    Protocol(String),
    /// A part of the long form that is not `name=value`.
    #[error("invalid publish opts format (should be name=value but got '{0}')")]
    Option(String),
    /// `--expose` with a colon.
    #[error("invalid port format for --expose: {0}")]
    Expose(String),
    /// `--expose` with something that is no port and no range.
    #[error("invalid range format for --expose: {spec}, error: {reason}")]
    ExposeRange {
        /// As typed.
        spec: String,
        /// What is wrong with the number or range.
        reason: String,
    },
}

/// One published port as it is stored in `HostConfig.PortBindings`: texts, since Docker keeps there
/// what was typed (`""`, `"0"` and `"8000-8003"` all differ).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publish {
    /// The container's port.
    pub port: Port,
    /// The host's address; empty is every address.
    pub host_ip: String,
    /// The host's port: empty or `0` is any free one, `8000-8003` any free one of these.
    pub host_port: String,
}

/// Reads one `-p`, short form or `published=…,target=…[,protocol=…]`.
///
/// # Errors
/// [`SpecError`] in Docker's words.
pub fn parse_publish(spec: &str) -> Result<Vec<Publish>, SpecError> {
    if spec.contains('=') {
        return parse_short(&short_form(spec)?);
    }
    parse_short(spec)
}

/// Reads one `--expose`: a port or a range, with or without a protocol.
///
/// # Errors
/// [`SpecError`] in Docker's words.
pub fn parse_expose(spec: &str) -> Result<Vec<Port>, SpecError> {
    if spec.contains(':') {
        return Err(SpecError::Expose(spec.to_owned()));
    }
    let (number, protocol) = split_protocol(spec);
    let range = parse_range(number).map_err(|reason| SpecError::ExposeRange {
        spec: spec.to_owned(),
        reason,
    })?;
    let protocol: Protocol = protocol.parse()?;
    Ok((range.0..=range.1)
        .map(|number| Port { number, protocol })
        .collect())
}

/// The bindings a start has to make: those asked for and, with `publish_all`, an ephemeral one for
/// every exposed port without any. In the order Docker makes them: explicit host ports first, then
/// from the highest container port down.
pub fn to_bind(asked: &[Publish], exposed: &[Port], publish_all: bool) -> Vec<Publish> {
    let mut all = asked.to_vec();
    if publish_all {
        for port in exposed {
            if !asked.iter().any(|publish| publish.port == *port) {
                all.push(Publish {
                    port: *port,
                    host_ip: String::new(),
                    host_port: String::new(),
                });
            }
        }
    }
    all.sort_by_key(|publish| {
        let fixed = publish.host_port.parse().is_ok_and(|port: u16| port != 0);
        (!fixed, std::cmp::Reverse(publish.port))
    });
    all
}

/// `published=8081,target=80,protocol=udp` → `8081:80/udp`; unknown names are ignored as Docker
/// ignores them.
fn short_form(spec: &str) -> Result<String, SpecError> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for part in spec.split(',') {
        match part.split_once('=') {
            None | Some(("", _)) => return Err(SpecError::Option(part.to_owned())),
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some(_) => {}
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn parse_short(spec: &str) -> Result<Vec<Publish>, SpecError> {
    let (address, host, container) = split_parts(spec);
    let (container, protocol) = split_protocol(container);
    let host_ip = parse_address(address)?;
    if container.is_empty() {
        return Err(SpecError::NoPort(spec.to_owned()));
    }
    let (first, last) =
        parse_range(container).map_err(|_| SpecError::ContainerPort(container.to_owned()))?;
    let hosts = match host {
        "" => None,
        host => Some(parse_range(host).map_err(|_| SpecError::HostPort(host.to_owned()))?),
    };
    if let Some((low, high)) = hosts
        && high - low != last - first
        && first != last
    {
        return Err(SpecError::Ranges {
            container: container.to_owned(),
            host: host.to_owned(),
        });
    }
    let protocol: Protocol = protocol.parse()?;
    Ok((first..=last)
        .map(|number| Publish {
            port: Port { number, protocol },
            host_ip: host_ip.clone(),
            host_port: match hosts {
                None => String::new(),
                Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
                Some((low, _)) => (low + (number - first)).to_string(),
            },
        })
        .collect())
}

/// Splits at colons from the right: address, host port, container port.
fn split_parts(spec: &str) -> (&str, &str, &str) {
    match spec.rsplit_once(':') {
        None => ("", "", spec),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => ("", rest, container),
            Some((address, host)) => (address, host, container),
        },
    }
}

/// `80/udp` → `("80", "udp")`; without a protocol it is tcp.
pub(super) fn split_protocol(text: &str) -> (&str, &str) {
    let mut parts = text.split('/');
    let number = parts.next().unwrap_or_default();
    match parts.next() {
        _ if number.is_empty() => ("", ""),
        None | Some("") => (number, "tcp"),
        Some(protocol) => (number, protocol),
    }
}

/// The address without brackets, in the words of the user; empty stays empty.
fn parse_address(text: &str) -> Result<String, SpecError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| SpecError::Address(text.to_owned()))?,
        None => text,
    };
    match bare.parse::<IpAddr>() {
        Ok(_) => Ok(bare.to_owned()),
        Err(_) => Err(SpecError::Address(bare.to_owned())),
    }
}

/// Reads `80` or `80-90`; the error is worded as Go words it, for `--expose` prints it.
pub(super) fn parse_range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let Some((low, high)) = text.split_once('-') else {
        let port = parse_number(text)?;
        return Ok((port, port));
    };
    let high = high.split('-').next().unwrap_or_default();
    let (low, high) = (parse_number(low)?, parse_number(high)?);
    if high < low {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((low, high))
}

fn parse_number(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(number),
        _ => Err(format!(
            "strconv.ParseUint: parsing \"{text}\": {}",
            if digits {
                "value out of range"
            } else {
                "invalid syntax"
            }
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `port ip host` of each, joined by `, `.
    fn shown(spec: &str) -> String {
        match parse_publish(spec) {
            Ok(list) => list
                .iter()
                .map(|p| format!("{} {:?} {:?}", p.port, p.host_ip, p.host_port))
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn reads_all_of_dockers_forms() {
        for (spec, want) in [
            ("80", r#"80/tcp "" """#),
            (":80", r#"80/tcp "" """#),
            ("::80", r#"80/tcp "" """#),
            ("8080:80", r#"80/tcp "" "8080""#),
            ("8080:80/UDP", r#"80/udp "" "8080""#),
            ("8080:80/sctp", r#"80/sctp "" "8080""#),
            ("8080:80/", r#"80/tcp "" "8080""#),
            ("0:80", r#"80/tcp "" "0""#),
            ("127.0.0.1::80", r#"80/tcp "127.0.0.1" """#),
            ("127.0.0.1:8081:80", r#"80/tcp "127.0.0.1" "8081""#),
            ("[::1]:8081:80", r#"80/tcp "::1" "8081""#),
            ("::1:8081:80", r#"80/tcp "::1" "8081""#),
            ("[fe80::1]::53/udp", r#"53/udp "fe80::1" """#),
            ("0.0.0.0:8081:80", r#"80/tcp "0.0.0.0" "8081""#),
            (
                "8000-8001:9000-9001",
                r#"9000/tcp "" "8000", 9001/tcp "" "8001""#,
            ),
            ("8000-8003:80", r#"80/tcp "" "8000-8003""#),
            (
                "9000-9002",
                r#"9000/tcp "" "", 9001/tcp "" "", 9002/tcp "" """#,
            ),
            ("8081:0", r#"0/tcp "" "8081""#),
            ("published=8081,target=80", r#"80/tcp "" "8081""#),
            (
                "published=8081,target=80,protocol=udp,mode=host",
                r#"80/udp "" "8081""#,
            ),
            ("target=80", r#"80/tcp "" """#),
        ] {
            assert_eq!(shown(spec), want, "-p {spec}");
        }
    }

    #[test]
    fn says_what_is_wrong_as_docker_does() {
        for (spec, want) in [
            (
                "8000-8003:9000-9001",
                "invalid ranges specified for container and host Ports: 9000-9001 and 8000-8003",
            ),
            ("8080:80/foo", "invalid proto: foo"),
            ("99999:80", "invalid hostPort: 99999"),
            ("+80:80", "invalid hostPort: +80"),
            ("80:99999", "invalid containerPort: 99999"),
            ("80:90-80", "invalid containerPort: 90-80"),
            ("localhost:8080:80", "invalid IP address: localhost"),
            ("8081:80:8080:80", "invalid IP address: 8081:80"),
            ("[::1:8081:80", "invalid IP address: [::1"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("", "no port specified: <empty>"),
            (
                "published=80,x",
                "invalid publish opts format (should be name=value but got 'x')",
            ),
        ] {
            assert_eq!(shown(spec), want, "-p {spec}");
        }
    }

    #[test]
    fn reads_expose() {
        let shown = |spec: &str| match parse_expose(spec) {
            Ok(ports) => ports.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(shown("80"), ["80/tcp"]);
        assert_eq!(shown("53-54/udp"), ["53/udp", "54/udp"]);
        assert_eq!(
            shown("80-79"),
            [
                "invalid range format for --expose: 80-79, error: invalid range specified for port: 80-79"
            ]
        );
        assert_eq!(
            shown("x"),
            [
                "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax"
            ]
        );
        assert_eq!(shown("1:2"), ["invalid port format for --expose: 1:2"]);
        assert_eq!(shown("80/x"), ["invalid proto: x"]);
    }

    #[test]
    fn binds_fixed_ports_first_and_ephemeral_ones_downwards() {
        let asked: Vec<Publish> = ["9000-9002", "8080:80"]
            .iter()
            .flat_map(|spec| parse_publish(spec).unwrap())
            .collect();
        let exposed = [Port::tcp(80), Port::udp(53)];
        let order: Vec<String> = to_bind(&asked, &exposed, true)
            .iter()
            .map(|p| p.port.to_string())
            .collect();
        assert_eq!(
            order,
            ["80/tcp", "9002/tcp", "9001/tcp", "9000/tcp", "53/udp"]
        );
        assert_eq!(to_bind(&asked, &exposed, false).len(), 4);
    }

    proptest! {
        #[test]
        fn never_panics(spec in ".{0,40}") {
            let _ = parse_publish(&spec);
            let _ = parse_expose(&spec);
        }

        #[test]
        fn what_is_printed_is_read_again(
            low in 1u16..60000, length in 0u16..50, host in 1u16..60000, udp: bool,
        ) {
            let protocol = if udp { "udp" } else { "tcp" };
            let spec = format!("{host}-{}:{low}-{}/{protocol}", host + length, low + length);
            let list = parse_publish(&spec).unwrap();
            prop_assert_eq!(list.len(), usize::from(length) + 1);
            for (index, publish) in (0u16..).zip(&list) {
                prop_assert_eq!(publish.port.number, low + index);
                prop_assert_eq!(publish.host_port.clone(), (host + index).to_string());
                prop_assert_eq!(publish.port.to_string().parse::<Port>().unwrap(), publish.port);
            }
        }
    }
}
