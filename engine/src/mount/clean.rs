//! Paths in their shortest form, by text alone.

/// Go's `path.Clean` of an absolute path: no `.`, `..`, empty parts or slash at the end.
pub fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_form() {
        for (path, clean) in [
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../..", "/"),
        ] {
            assert_eq!(clean_path(path), clean);
        }
    }
}
