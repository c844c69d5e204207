//! `--filter name=value`.

/// One filter; the name in lower case, as Docker compares it.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned())),
        None => Err("bad format of filter (expected name=value)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_value() {
        assert_eq!(
            parse("Label=a=b").unwrap(),
            ("label".to_owned(), "a=b".to_owned())
        );
        assert_eq!(
            parse("foo").unwrap_err(),
            "bad format of filter (expected name=value)"
        );
    }
}
