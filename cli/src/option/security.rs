//! `--security-opt`: read and checked as Docker's command line does.

use crate::error::{Failure, Result, file};

/// The options as the engine takes them: the seccomp profile's file is read into the value.
pub(crate) fn gather(options: &[String]) -> Result<Vec<String>> {
    options.iter().map(|option| one(option)).collect()
}

fn one(option: &str) -> Result<String> {
    let (key, value) = match option.split_once('=') {
        Some(parts) => parts,
        // the old form with a colon
        None if option.contains(':') => option.split_once(':').unwrap_or((option, "")),
        None if option == "no-new-privileges" => return Ok(option.to_owned()),
        None => return Err(Failure::said(format!("Invalid --security-opt: {option:?}"))),
    };
    if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
        let text = std::fs::read_to_string(value).map_err(|error| {
            Failure::said(format!(
                "opening seccomp profile ({value}) failed: {}",
                file("open", value, &error)
            ))
        })?;
        let profile: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
            Failure::said(format!(
                "compacting json for seccomp profile ({value}) failed: {error}"
            ))
        })?;
        return Ok(format!("seccomp={profile}"));
    }
    Ok(option.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_into_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        std::fs::write(&path, "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n").unwrap();
        let option = format!("seccomp={}", path.display());
        assert_eq!(
            gather(&[option]).unwrap(),
            ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]
        );
        let same = ["no-new-privileges", "seccomp=unconfined", "label=disable"].map(str::to_owned);
        assert_eq!(gather(&same).unwrap(), same);
    }

    #[test]
    fn what_is_refused() {
        for (option, want) in [
            ("foo", "Invalid --security-opt: \"foo\""),
            (
                "seccomp=/nonexist",
                "opening seccomp profile (/nonexist) failed: open /nonexist: no such file or directory",
            ),
        ] {
            match gather(&[option.to_owned()]) {
                Err(Failure::Said(message)) => assert_eq!(message.text, want),
                other => panic!("{other:?}"),
            }
        }
    }
}
