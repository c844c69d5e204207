//! Names, prefixes and documents.

use super::*;
use crate::container::create::tests::engine;

#[test]
fn names() {
    for (text, good) in [
        ("a", true),
        ("un1", true),
        ("a.b_c-d", true),
        ("", false),
        ("-a", false),
        ("a/b", false),
        ("..", false),
    ] {
        assert_eq!(is_name(text), good, "{text}");
    }
}

#[test]
fn a_stranger_is_not_found() {
    let (_directory, engine) = engine();
    for text in ["nope", "", "../x", "abc"] {
        let error = engine.network(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("network {text} not found"));
    }
}
