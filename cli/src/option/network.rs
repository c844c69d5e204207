//! `--network name` and `--network name=…,alias=…,ip=…`.

/// One network that a container joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// `bridge`, `host`, `container:web` or a name.
    pub name: String,
    /// Further names on it.
    pub aliases: Vec<String>,
    /// Wanted address.
    pub ip: String,
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
            "mac-address" => value.clone_into(&mut attachment.mac),
            "ip6" | "link-local-ip" | "driver-opt" | "gw-priority" => {
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

#[cfg(test)]
mod tests {
    use super::*;

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
