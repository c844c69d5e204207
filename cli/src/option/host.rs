//! Names and addresses: `--add-host`, `--dns`, `--link`, `--mac-address`.

use std::net::IpAddr;

/// `name:address` of `--add-host`; `name=address` is the same.
pub(crate) fn extra(text: &str) -> Result<String, String> {
    let split = match text.split_once('=') {
        Some(parts) => Some(parts),
        None => text.split_once(':'),
    };
    let (name, address) = split
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let inner = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address);
    if address != "host-gateway" && inner.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{inner}"))
}

/// An address of `--dns`.
pub(crate) fn address(text: &str) -> Result<String, String> {
    text.trim()
        .parse::<IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// A domain of `--dns-search`; `.` alone takes the search list away.
pub(crate) fn search(text: &str) -> Result<String, String> {
    let trimmed = text.trim_matches(' ');
    if trimmed == "." {
        return Ok(trimmed.to_owned());
    }
    let domain = trimmed.strip_suffix('.').unwrap_or(trimmed);
    let label = |label: &str| {
        !label.is_empty()
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && label.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && label.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    };
    if domain.len() < 255 && domain.split('.').all(label) {
        Ok(domain.to_owned())
    } else {
        Err(format!("{text} is not a valid domain"))
    }
}

/// `name[:alias]` of `--link`.
pub(crate) fn link(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(text.to_owned())
}

/// Whether this is a hardware address of six bytes.
pub(crate) fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    parts.len() == 6
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_links_and_servers() {
        let cases = [
            ("a:1.2.3.4", Ok("a:1.2.3.4")),
            ("a=1.2.3.4", Ok("a:1.2.3.4")),
            ("a:::1", Ok("a:::1")),
            ("a:[::1]", Ok("a:::1")),
            ("a:host-gateway", Ok("a:host-gateway")),
            ("a", Err("bad format for add-host: \"a\"")),
            (":1.2.3.4", Err("bad format for add-host: \":1.2.3.4\"")),
            ("a:b", Err("invalid IP address in add-host: \"b\"")),
        ];
        for (text, want) in cases {
            let want = want.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(extra(text), want, "{text}");
        }
        assert_eq!(address("8.8.8.8").unwrap(), "8.8.8.8");
        assert_eq!(
            address("foo").unwrap_err(),
            "IP address is not correctly formatted: foo"
        );
        assert_eq!(link("a:b:c").unwrap_err(), "bad format for links: a:b:c");
        assert_eq!(link("").unwrap_err(), "empty string specified for links");
        assert!(search(".").is_ok() && search("example.com").is_ok() && search("a b").is_err());
        assert!(is_mac("02:42:ac:11:00:02") && !is_mac("zz"));
    }
}
