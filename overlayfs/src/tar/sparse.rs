//! Sparse files in archives: which parts of a file are stored.
//!
//! Four ways to write the map are in use: GNU's old header, and GNU's PAX forms 0.0 (a record per
//! number), 0.1 (one record) and 1.0 (a text at the start of the content).

use super::pax;

/// No real file has more parts than this; a hostile map might.
const PARTS_LIMIT: usize = 1 << 20;

/// A part that is stored: where it belongs and how long it is.
pub(crate) type Part = (u64, u64);

/// Which PAX form announces a sparse file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// The map was in the records.
    Map(Vec<Part>),
    /// The map stands at the start of the content.
    InContent,
}

/// Looks for a sparse map in PAX records; `Err` where there is a broken one.
pub(super) fn announced(records: &[(&[u8], &[u8])]) -> Result<Option<Announced>, ()> {
    let get = |name: &[u8]| {
        records
            .iter()
            .rev()
            .find(|(key, _)| *key == name)
            .map(|r| r.1)
    };
    match (get(b"GNU.sparse.major"), get(b"GNU.sparse.minor")) {
        (Some(b"1"), Some(b"0")) => return Ok(Some(Announced::InContent)),
        (None, _) | (Some(b"0"), Some(b"0" | b"1")) => {}
        _ => return Err(()),
    }
    if let Some(map) = get(b"GNU.sparse.map") {
        let numbers: Option<Vec<u64>> = map.split(|byte| *byte == b',').map(pax::number).collect();
        return pairs(&numbers.ok_or(())?).map(|map| Some(Announced::Map(map)));
    }
    if get(b"GNU.sparse.numblocks").is_some() {
        let numbers: Option<Vec<u64>> = records
            .iter()
            .filter(|(key, _)| matches!(*key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes"))
            .map(|(_, value)| pax::number(value))
            .collect();
        return pairs(&numbers.ok_or(())?).map(|map| Some(Announced::Map(map)));
    }
    Ok(None)
}

fn pairs(numbers: &[u64]) -> Result<Vec<Part>, ()> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > PARTS_LIMIT {
        return Err(());
    }
    Ok(numbers
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}

/// The map of a file as it stands at the start of the content, before it is padded: the number of
/// parts, then each one's place and length. A last empty part says where a hole at the end ends.
pub(super) fn map_text(parts: &[Part], size: u64) -> Vec<u8> {
    let end = parts.last().map_or(0, |(offset, length)| offset + length);
    let last = (end < size).then_some((size, 0));
    let all: Vec<Part> = parts.iter().copied().chain(last).collect();
    let mut text = format!("{}\n", all.len());
    for (offset, length) in all {
        text += &format!("{offset}\n{length}\n");
    }
    text.into_bytes()
}

/// More parts than a reader takes.
pub(crate) fn is_scattered(parts: &[Part]) -> bool {
    parts.len() >= PARTS_LIMIT
}

/// Reads the map at the start of the content: lines of numbers, padded to whole blocks.
///
/// `block` gives the next block of the content.
pub(super) fn map_in_content<E>(
    mut block: impl FnMut() -> Result<Vec<u8>, E>,
    malformed: impl Fn() -> E,
) -> Result<Vec<Part>, E> {
    let mut line = Vec::new();
    let mut count = None;
    let mut numbers = Vec::new();
    loop {
        for byte in block()? {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(malformed());
                }
                continue;
            }
            let number = pax::number(&line).ok_or_else(&malformed)?;
            line.clear();
            match count {
                None if number > PARTS_LIMIT as u64 => return Err(malformed()),
                None => count = usize::try_from(number).ok(),
                Some(_) => numbers.push(number),
            }
            if count.is_some_and(|count| numbers.len() == count * 2) {
                return pairs(&numbers).map_err(|()| malformed());
            }
        }
    }
}

/// Whether the parts lie in order within the file and hold just what is stored.
pub(super) fn fits(parts: &[Part], size: u64, stored: u64) -> bool {
    let mut end = 0;
    let mut sum = 0_u64;
    for (offset, length) in parts {
        let Some(next) = offset.checked_add(*length) else {
            return false;
        };
        if *offset < end || next > size {
            return false;
        }
        end = next;
        sum += length;
    }
    sum == stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_pax_forms() {
        let form = |records: &[(&str, &str)]| {
            let records: Vec<_> = records
                .iter()
                .map(|(key, value)| (key.as_bytes(), value.as_bytes()))
                .collect();
            announced(&records)
        };
        assert_eq!(form(&[("path", "x")]), Ok(None));
        assert_eq!(
            form(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")]),
            Ok(Some(Announced::InContent))
        );
        assert_eq!(
            form(&[("GNU.sparse.map", "0,5,100,7")]),
            Ok(Some(Announced::Map(vec![(0, 5), (100, 7)])))
        );
        assert_eq!(
            form(&[
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.offset", "0"),
                ("GNU.sparse.numbytes", "5"),
                ("GNU.sparse.offset", "100"),
                ("GNU.sparse.numbytes", "7"),
            ]),
            Ok(Some(Announced::Map(vec![(0, 5), (100, 7)])))
        );
        assert_eq!(form(&[("GNU.sparse.map", "0,5,100")]), Err(()));
        assert_eq!(form(&[("GNU.sparse.major", "2")]), Err(()));
    }

    #[test]
    fn checks_that_a_map_fits() {
        assert!(fits(&[(0, 5), (100, 7)], 107, 12));
        assert!(fits(&[], 1 << 40, 0));
        assert!(!fits(&[(0, 5), (4, 7)], 107, 12), "overlap");
        assert!(!fits(&[(0, 5), (100, 8)], 107, 13), "past the end");
        assert!(!fits(&[(0, 5)], 107, 12), "less than what is stored");
        assert!(!fits(&[(u64::MAX, 5)], 107, 5), "overflow");
    }

    #[test]
    fn reads_a_map_that_spans_blocks() {
        let text = b"2\n0\n5\n100\n7\n";
        let mut blocks = text.chunks(4).map(<[u8]>::to_vec);
        let map = map_in_content(|| blocks.next().ok_or("end"), || "malformed");
        assert_eq!(map, Ok(vec![(0, 5), (100, 7)]));
        let map = map_in_content(|| Ok(b"999999999\n".to_vec()), || "malformed");
        assert_eq!(map, Err("malformed"));
    }
}
