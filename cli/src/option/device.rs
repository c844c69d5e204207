//! `--device` and the rules of the device cgroup.

use engine::config::DeviceMapping;

/// `/dev/sda[:/dev/xvdc][:rwm]`.
pub(crate) fn parse(text: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, second] if is_mode(second) => (host, host, second),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] => (host, container, permissions),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: if container.is_empty() {
            host
        } else {
            container
        }
        .to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

/// Checks `--device` as typed.
pub(crate) fn checked(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let bad = |path: &str| format!("{path} is not an absolute path");
    match parts[..] {
        [_, _, mode] if !is_mode(mode) => return Err(format!("bad mode specified: {mode}")),
        [_, _, _, _, ..] => return Err(format!("bad format for path: {text}")),
        _ => {}
    }
    if let Some(container) = parts.get(1)
        && !is_mode(container)
        && !container.starts_with('/')
    {
        return Err(bad(container));
    }
    if parts[0].is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    if parts.len() == 1 && !parts[0].starts_with('/') {
        return Err(bad(parts[0]));
    }
    Ok(text.to_owned())
}

fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| "rwm".contains(letter))
        && text
            .chars()
            .enumerate()
            .all(|(at, letter)| text.rfind(letter) == Some(at))
}

/// Checks `--device-cgroup-rule`: `c 42:* rmw`.
pub(crate) fn rule(text: &str) -> Result<String, String> {
    let bad = || format!("invalid device cgroup format '{text}'");
    let parts: Vec<&str> = text.split(' ').collect();
    let &[kind, numbers, access] = &parts[..] else {
        return Err(bad());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| {
        text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let letters =
        (1..=3).contains(&access.len()) && access.chars().all(|letter| "rwm".contains(letter));
    if matches!(kind, "a" | "b" | "c") && number(major) && number(minor) && letters {
        Ok(text.to_owned())
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms() {
        let cases = [
            ("/dev/sda", ("/dev/sda", "/dev/sda", "rwm")),
            ("/dev/sda:r", ("/dev/sda", "/dev/sda", "r")),
            ("/dev/sda:/dev/x", ("/dev/sda", "/dev/x", "rwm")),
            ("/dev/sda:/dev/x:rw", ("/dev/sda", "/dev/x", "rw")),
            ("/dev/sda::rw", ("/dev/sda", "/dev/sda", "rw")),
        ];
        for (text, (host, container, permissions)) in cases {
            let got = parse(text).unwrap();
            assert_eq!(got.path_on_host, host, "{text}");
            assert_eq!(got.path_in_container, container, "{text}");
            assert_eq!(got.cgroup_permissions, permissions, "{text}");
        }
        assert!(parse("a:b:c:d").is_err());
        assert_eq!(checked("/dev/x:/y:z").unwrap_err(), "bad mode specified: z");
        assert_eq!(checked("foo").unwrap_err(), "foo is not an absolute path");
    }

    #[test]
    fn rules_of_the_cgroup() {
        for good in ["c 42:* rmw", "a *:* rwm", "b 8:0 r"] {
            assert!(rule(good).is_ok(), "{good}");
        }
        for bad in ["x", "c 42 rwm", "d 1:1 r", "c 1:x r", "c 1:1 ", "c 1:1 x"] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
