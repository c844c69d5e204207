//! Words of Dockerfile instructions: splitting, quotes, escapes and variables.

use crate::change::ChangeError;

/// Splits a line at blanks outside of quotes; quotes and escapes stay in the words.
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        if c == '\\' && quote != Some('\'') {
            word.extend(characters.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes quotes and escapes away and puts variables in; `env` holds `KEY=value`.
pub(crate) fn expand(word: &str, env: &[String]) -> Result<String, ChangeError> {
    let mut result = String::new();
    let mut quote = None;
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                let Some(next) = rest.chars().next() else {
                    result.push('\\');
                    break;
                };
                // Within double quotes only what means something is escaped.
                if quote.is_some() && !matches!(next, '"' | '$' | '\\') {
                    result.push('\\');
                }
                result.push(next);
                rest = &rest[next.len_utf8()..];
            }
            ('$', None | Some('"')) => rest = variable(rest, env, &mut result)?,
            _ => result.push(c),
        }
    }
    match quote {
        None => Ok(result),
        Some(_) => Err(ChangeError::Quote(word.to_owned())),
    }
}

/// Puts in the variable that stands after a `$`; gives what follows it.
fn variable<'a>(
    text: &'a str,
    env: &[String],
    result: &mut String,
) -> Result<&'a str, ChangeError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(braced) = text.strip_prefix('{') {
        let bad = || ChangeError::Substitution(format!("${text}"));
        let end = closing(braced).ok_or_else(bad)?;
        let (inside, rest) = (&braced[..end], &braced[end + 1..]);
        let length = inside.find(|c| !is_name(c)).unwrap_or(inside.len());
        let (name, how) = inside.split_at(length);
        let value = look_up(name, env);
        match how.split_at_checked(2) {
            _ if name.is_empty() => return Err(bad()),
            None if how.is_empty() => result.push_str(value.unwrap_or_default()),
            Some((":-", other)) => match value {
                Some(value) if !value.is_empty() => result.push_str(value),
                _ => result.push_str(&expand(other, env)?),
            },
            Some((":+", other)) => {
                if value.is_some_and(|value| !value.is_empty()) {
                    result.push_str(&expand(other, env)?);
                }
            }
            _ => return Err(bad()),
        }
        return Ok(rest);
    }
    let length = text.find(|c| !is_name(c)).unwrap_or(text.len());
    if length == 0 {
        result.push('$');
        return Ok(text);
    }
    result.push_str(look_up(&text[..length], env).unwrap_or_default());
    Ok(&text[length..])
}

/// Where the brace of a variable closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn look_up<'a>(name: &str, env: &'a [String]) -> Option<&'a str> {
    env.iter().rev().find_map(|entry| {
        let (key, value) = entry.split_once('=')?;
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_outside_of_quotes() {
        assert_eq!(
            split(r#" a=1  b="x y" c='p "q' d=e\ f "#),
            [r"a=1", r#"b="x y""#, r#"c='p "q'"#, r"d=e\ f"]
        );
    }

    #[test]
    fn expands_as_docker_does() {
        let env = ["A=one".to_owned(), "E=".to_owned()];
        for (word, expected) in [
            ("x", Some("x")),
            (r#""x y"z"#, Some("x yz")),
            ("'$A'", Some("$A")),
            ("$A", Some("one")),
            (r#""$A-$B""#, Some("one-")),
            ("${A}x", Some("onex")),
            ("${B:-two}", Some("two")),
            ("${E:-$A}", Some("one")),
            ("${A:+set}", Some("set")),
            ("${B:+set}", Some("")),
            (r"\$A", Some("$A")),
            (r#""a\b""#, Some(r"a\b")),
            (r"a\ b", Some("a b")),
            ("cost$", Some("cost$")),
            ("${A", None),
            ("${}", None),
            ("${A:?x}", None),
            ("'open", None),
        ] {
            assert_eq!(expand(word, &env).ok().as_deref(), expected, "{word}");
        }
    }
}
