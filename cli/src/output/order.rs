//! The order in which Docker lists names: numbers in them count as numbers.

use std::cmp::Ordering;

/// Compares two names: `web9` comes before `web10`, digits before other characters.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some(&x), Some(&y)) = (a.first(), b.first()) {
        let order = match (x.is_ascii_digit(), y.is_ascii_digit()) {
            (true, true) => {
                let (one, other) = (number(&mut a), number(&mut b));
                one.cmp(&other)
            }
            (false, false) => {
                (a, b) = (&a[1..], &b[1..]);
                x.cmp(&y)
            }
            (digit, _) if digit => Ordering::Less,
            _ => Ordering::Greater,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// Takes a number from the front of a text; in order of size, then of leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> (usize, &'a [u8], usize) {
    let end = |byte: &u8| !byte.is_ascii_digit();
    let (digits, rest) = text.split_at(text.iter().position(end).unwrap_or(text.len()));
    *text = rest;
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (digits.len() - zeros, &digits[zeros..], zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        for sorted in [
            &["a1", "a2", "a10", "a010", "ab"][..],
            &["1", "2x", "10", "b", "b-1", "ba"],
            &["net", "net1", "net1a", "net1b2", "net1b11"],
        ] {
            let mut names = sorted.to_vec();
            names.reverse();
            names.sort_by(|a, b| natural(a, b));
            assert_eq!(names, sorted);
        }
        assert_eq!(natural("x7", "x7"), Ordering::Equal);
    }
}
