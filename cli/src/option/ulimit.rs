//! `--ulimit nofile=100:200`.

use engine::config::Ulimit;

const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// One limit.
pub(crate) fn parse(text: &str) -> Result<Ulimit, String> {
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let mut parts = values.splitn(2, ':');
    let soft = number(parts.next().unwrap_or_default())?;
    let hard = match parts.next() {
        Some(hard) => number(hard)?,
        None => soft,
    };
    if hard != -1 {
        if soft == -1 {
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            ));
        }
        if soft > hard {
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            ));
        }
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}

fn number(text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_and_hard() {
        let limit = |soft, hard| {
            Ok(Ulimit {
                name: "nofile".to_owned(),
                hard,
                soft,
            })
        };
        let cases = [
            ("nofile=100:200", limit(100, 200)),
            ("nofile=100", limit(100, 100)),
            ("nofile=100:-1", limit(100, -1)),
            ("nofile=-1", limit(-1, -1)),
            (
                "nofile=200:100",
                Err("ulimit soft limit must be less than or equal to hard limit: 200 > 100"),
            ),
            (
                "nofile=a",
                Err("strconv.ParseInt: parsing \"a\": invalid syntax"),
            ),
            ("foo=1", Err("invalid ulimit type: foo")),
            ("nofile", Err("invalid ulimit argument: nofile")),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text), want.map_err(str::to_owned), "{text}");
        }
    }
}
