//! `--tmpfs`: options of memory as the user may give them.

use super::{MountError, PROPAGATION, clean_path};

/// Flags that stand alone, each with the word that takes it back.
const FLAGS: [(&str, &str); 11] = [
    ("ro", "rw"),
    ("noexec", "exec"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noatime", "atime"),
    ("nodiratime", "diratime"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
    ("sync", "async"),
    ("dirsync", ""),
    ("mand", "nomand"),
];

/// Options that take a value.
const VALUES: [&str; 6] = ["mode", "uid", "gid", "size", "nr_inodes", "mpol"];

/// Mount options of a `--tmpfs`: Docker's defaults, overridden by the user's.
///
/// # Errors
/// `invalid tmpfs option ["foo" "1"]`.
pub fn options(text: &str) -> Result<Vec<String>, MountError> {
    let mut merged: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let wrong = |parts: &[&str]| {
            let quoted: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
            MountError::TmpfsOption(quoted.join(" "))
        };
        match option.split_once('=') {
            None => {
                let pair = FLAGS
                    .iter()
                    .find(|(set, clear)| option == *set || (option == *clear && !clear.is_empty()));
                match pair {
                    Some((set, clear)) => merged.retain(|have| have != set && have != clear),
                    None if PROPAGATION.contains(&option) => {}
                    None => return Err(wrong(&[option])),
                }
            }
            Some((key, _)) if VALUES.contains(&key) => {
                let prefix = format!("{key}=");
                merged.retain(|have| !have.starts_with(&prefix));
            }
            Some((key, value)) => return Err(wrong(&[key, value])),
        }
        merged.push(option.to_owned());
    }
    Ok(merged)
}

/// A `--tmpfs` destination.
///
/// # Errors
/// `invalid mount path: 'xx' mount path must be absolute`.
pub fn destination(text: &str) -> Result<String, MountError> {
    if !text.starts_with('/') {
        return Err(MountError::TmpfsPath(text.to_owned()));
    }
    match clean_path(text) {
        root if root == "/" => Err(MountError::TmpfsRoot),
        place => Ok(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_options_replace_the_defaults() {
        for (text, expected) in [
            ("", "noexec,nosuid,nodev"),
            ("exec", "nosuid,nodev,exec"),
            ("size=1m,mode=1777", "noexec,nosuid,nodev,size=1m,mode=1777"),
            ("size=1m,size=2m", "noexec,nosuid,nodev,size=2m"),
            ("ro,rw,nosuid", "noexec,nodev,rw,nosuid"),
        ] {
            assert_eq!(options(text).unwrap().join(","), expected, "{text}");
        }
    }

    #[test]
    fn what_is_refused_in_dockers_words() {
        assert_eq!(
            options("foo=1").unwrap_err().to_string(),
            "invalid tmpfs option [\"foo\" \"1\"]"
        );
        assert_eq!(
            options("foo").unwrap_err().to_string(),
            "invalid tmpfs option [\"foo\"]"
        );
        assert_eq!(
            destination("/x/..").unwrap_err().to_string(),
            "invalid specification: destination can't be '/'"
        );
        assert_eq!(
            destination("xx").unwrap_err().to_string(),
            "invalid mount path: 'xx' mount path must be absolute"
        );
    }
}
