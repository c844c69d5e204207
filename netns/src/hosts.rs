//! The text of a container's `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` (pure).

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What `--add-host` may name instead of an address.
pub const HOST_GATEWAY: &str = "host-gateway";

const FIXED: &str = "\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// A container's hosts file as a value: always generated, never patched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostsFile {
    /// `--add-host`, in order.
    pub extra: Vec<(String, IpAddr)>,
    /// Lines of links.
    pub links: Vec<LinkLine>,
    /// The container's own lines, one per network.
    pub own: Vec<OwnLine>,
}

/// The line of one link: `172.17.0.5<TAB>db a8c5cd8519ee s1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LinkLine {
    /// The source's address.
    pub address: IpAddr,
    /// What the receiver calls it.
    pub alias: String,
    /// The source's host name.
    pub hostname: String,
    /// The source's name, without a slash.
    pub name: String,
}

/// The container's own line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OwnLine {
    /// Its address.
    pub address: IpAddr,
    /// Its host name, perhaps with a domain.
    pub hostname: String,
    /// Its domain; empty for none.
    pub domainname: String,
}

impl fmt::Display for HostsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FIXED)?;
        for (name, address) in &self.extra {
            writeln!(f, "{address}\t{name}")?;
        }
        for link in &self.links {
            write!(f, "{}\t{} {}", link.address, link.alias, link.hostname)?;
            if link.name != link.alias {
                write!(f, " {}", link.name)?;
            }
            f.write_char('\n')?;
        }
        for own in &self.own {
            writeln!(f, "{own}")?;
        }
        Ok(())
    }
}

impl fmt::Display for OwnLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = full_name(&self.hostname, &self.domainname);
        write!(f, "{}\t{full}", self.address)?;
        match full.split_once('.') {
            Some((short, _)) => write!(f, " {short}"),
            None => Ok(()),
        }
    }
}

fn full_name(hostname: &str, domainname: &str) -> String {
    if domainname.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname}.{domainname}")
    }
}

/// The content of `/etc/hostname`.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

/// One `--add-host`; prints as Docker stores it, `name:address`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// The address; `None` is `host-gateway`.
    pub address: Option<IpAddr>,
}

/// What is wrong with an `--add-host`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtraHostError {
    /// Neither `name:address` nor `name=address`.
    #[error("bad format for add-host: {0:?}")]
    Format(String),
    /// The address is none.
    #[error("invalid IP address in add-host: {0:?}")]
    Address(String),
}

impl FromStr for ExtraHost {
    type Err = ExtraHostError;

    fn from_str(text: &str) -> Result<Self, ExtraHostError> {
        let (name, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .filter(|(name, _)| !name.is_empty() && !name.contains(':'))
            .ok_or_else(|| ExtraHostError::Format(text.to_owned()))?;
        if address == HOST_GATEWAY {
            return Ok(Self {
                name: name.to_owned(),
                address: None,
            });
        }
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(address);
        match bare.parse() {
            Ok(address) => Ok(Self {
                name: name.to_owned(),
                address: Some(address),
            }),
            Err(_) => Err(ExtraHostError::Address(bare.to_owned())),
        }
    }
}

impl fmt::Display for ExtraHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}:{address}", self.name),
            None => write!(f, "{}:{HOST_GATEWAY}", self.name),
        }
    }
}

impl ExtraHost {
    /// The line of the hosts file; `gateway` is what `host-gateway` stands for.
    pub fn line(&self, gateway: IpAddr) -> (String, IpAddr) {
        (self.name.clone(), self.address.unwrap_or(gateway))
    }
}

/// What the user asked for with `--dns`, `--dns-search` and `--dns-option`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsRequest {
    /// Servers.
    pub servers: Vec<String>,
    /// Search domains; a single `.` is none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// A `--dns` that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("IP address is not correctly formatted: {0}")]
pub struct DnsError(pub String);

/// Checks one `--dns`.
///
/// # Errors
/// [`DnsError`], worded as Docker's.
pub fn parse_dns(text: &str) -> Result<IpAddr, DnsError> {
    text.trim()
        .parse()
        .map_err(|_| DnsError(text.trim().to_owned()))
}

/// What stands in a resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Where the servers stand when `/etc/resolv.conf` names only systemd's stub.
pub const SYSTEMD_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// The address of the embedded resolver inside a container.
pub const EMBEDDED_DNS: &str = "127.0.0.11";

const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

impl ResolvConf {
    /// Reads a file; the last `search` or `domain` counts, options add up.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let rest =
                |words: std::str::SplitAsciiWhitespace<'_>| words.map(str::to_owned).collect();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => conf.search = rest(words),
                Some("options") => conf.options.extend::<Vec<String>>(rest(words)),
                _ => {}
            }
        }
        conf
    }

    /// The only server is systemd's stub: the real ones stand in [`SYSTEMD_RESOLV_CONF`].
    pub fn is_systemd_stub(&self) -> bool {
        self.servers == ["127.0.0.53"]
    }

    /// What the user asked for over what the host has. Servers on the host's loopback cannot be
    /// reached from a container and are dropped; without any left, public ones are used.
    pub fn merged(host: &Self, asked: &DnsRequest) -> Self {
        let or = |asked: &Vec<String>, host: &Vec<String>| {
            if asked.is_empty() { host } else { asked }.clone()
        };
        let mut servers: Vec<String> = host
            .servers
            .iter()
            .filter(|server| !is_loopback(server))
            .cloned()
            .collect();
        if servers.is_empty() {
            servers = FALLBACK.map(str::to_owned).to_vec();
        }
        let mut search = or(&asked.search, &host.search);
        if search == ["."] {
            search.clear();
        }
        Self {
            servers: or(&asked.servers, &servers),
            search,
            options: or(&asked.options, &host.options),
        }
    }

    /// The file of a container on a user-defined network: the embedded resolver is its only server.
    pub fn embedded(&self) -> Self {
        let mut options = self.options.clone();
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0".to_owned());
        }
        Self {
            servers: vec![EMBEDDED_DNS.to_owned()],
            search: self.search.clone(),
            options,
        }
    }
}

fn is_loopback(server: &str) -> bool {
    server
        .split('%')
        .next()
        .and_then(|address| address.parse::<IpAddr>().ok())
        .is_some_and(|address| address.is_loopback())
}

impl fmt::Display for ResolvConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.search.is_empty() {
            writeln!(f, "search {}", self.search.join(" "))?;
        }
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

/// The text of a container's resolv.conf from the host's. With nothing asked for it is a copy of
/// the host's, comments and all, but for servers on loopback.
pub fn resolv_conf(host: &str, asked: &DnsRequest) -> String {
    let parsed = ResolvConf::parse(host);
    if *asked != DnsRequest::default() {
        return ResolvConf::merged(&parsed, asked).to_string();
    }
    let mut text = String::with_capacity(host.len());
    for line in host.lines() {
        let mut words = line.split_ascii_whitespace();
        let dropped = words.next() == Some("nameserver") && words.next().is_some_and(is_loopback);
        if !dropped {
            text.push_str(line);
            text.push('\n');
        }
    }
    if parsed.servers.iter().all(|server| is_loopback(server)) {
        for server in FALLBACK {
            text.push_str("nameserver ");
            text.push_str(server);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_hosts_file_has_dockers_lines_in_dockers_order() {
        let link = |alias: &str| LinkLine {
            address: ip("172.17.0.5"),
            alias: alias.to_owned(),
            hostname: "a8c5cd8519ee".to_owned(),
            name: "s1".to_owned(),
        };
        let own = |hostname: &str, domainname: &str| OwnLine {
            address: ip("172.17.0.2"),
            hostname: hostname.to_owned(),
            domainname: domainname.to_owned(),
        };
        let file = HostsFile {
            extra: vec![("a".to_owned(), ip("1.2.3.4")), ("b".to_owned(), ip("::1"))],
            links: vec![link("db"), link("s1")],
            own: vec![
                own("d4e22c59c6af", ""),
                own("a.b.c", ""),
                own("foo", "bar.com"),
            ],
        };
        let text = file.to_string();
        assert_eq!(
            text.strip_prefix(FIXED).unwrap(),
            "1.2.3.4\ta\n\
             ::1\tb\n\
             172.17.0.5\tdb a8c5cd8519ee s1\n\
             172.17.0.5\ts1 a8c5cd8519ee\n\
             172.17.0.2\td4e22c59c6af\n\
             172.17.0.2\ta.b.c a\n\
             172.17.0.2\tfoo.bar.com foo\n"
        );
        assert_eq!(FIXED.lines().count(), 6);
        assert_eq!(hostname_file("x"), "x\n");
    }

    #[test]
    fn reads_add_host() {
        for (text, want) in [
            ("a:1.2.3.4", Ok("a:1.2.3.4")),
            ("a=1.2.3.4", Ok("a:1.2.3.4")),
            ("a:::1", Ok("a:::1")),
            ("a:[::1]", Ok("a:::1")),
            ("a:host-gateway", Ok("a:host-gateway")),
            ("a", Err("bad format for add-host: \"a\"")),
            (":1.2.3.4", Err("bad format for add-host: \":1.2.3.4\"")),
            ("a:b", Err("invalid IP address in add-host: \"b\"")),
        ] {
            let got = text.parse::<ExtraHost>();
            match want {
                Ok(want) => assert_eq!(got.unwrap().to_string(), want),
                Err(want) => assert_eq!(got.unwrap_err().to_string(), want),
            }
        }
        let gateway: ExtraHost = "g:host-gateway".parse().unwrap();
        assert_eq!(gateway.line(ip("172.17.0.1")).1, ip("172.17.0.1"));
    }

    #[test]
    fn copies_the_hosts_resolv_conf_without_loopback() {
        let none = DnsRequest::default();
        for (host, want) in [
            (
                "# made by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.1\nsearch a b\n",
                "# made by hand\nnameserver 10.0.0.1\nsearch a b\n",
            ),
            (
                "nameserver 127.0.0.53\noptions edns0\nnameserver ::1\n",
                "options edns0\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n",
            ),
            ("", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
            ("nameserver 2001:db8::1", "nameserver 2001:db8::1\n"),
        ] {
            assert_eq!(resolv_conf(host, &none), want);
        }
        assert!(ResolvConf::parse("nameserver 127.0.0.53 # stub").is_systemd_stub());
    }

    #[test]
    fn what_is_asked_for_replaces_and_the_rest_is_inherited() {
        let host =
            "nameserver 10.0.0.1\nnameserver 127.0.0.1\nsearch corp.example\noptions edns0\n";
        let ask = |servers: &[&str], search: &[&str], options: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            DnsRequest {
                servers: own(servers),
                search: own(search),
                options: own(options),
            }
        };
        for (asked, want) in [
            (
                ask(&["9.9.9.9"], &[], &[]),
                "search corp.example\nnameserver 9.9.9.9\noptions edns0\n",
            ),
            (
                ask(&[], &["."], &[]),
                "nameserver 10.0.0.1\noptions edns0\n",
            ),
            (
                ask(&["127.0.0.2"], &["a", "b"], &["ndots:2"]),
                "search a b\nnameserver 127.0.0.2\noptions ndots:2\n",
            ),
        ] {
            assert_eq!(resolv_conf(host, &asked), want);
        }
        let conf = ResolvConf::parse(host);
        assert_eq!(
            conf.embedded().to_string(),
            "search corp.example\nnameserver 127.0.0.11\noptions edns0 ndots:0\n"
        );
        assert_eq!(
            parse_dns("foo").unwrap_err().to_string(),
            "IP address is not correctly formatted: foo"
        );
    }
}
