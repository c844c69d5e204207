//! Columns of text with at least three spaces between, as Go's tabwriter sets them for Docker.

use std::io::{self, Write};

use tabwriter::TabWriter;

const PADDING: usize = 3;

/// Writes lines whose cells are separated by tabs.
pub(crate) fn write(out: &mut impl Write, text: &str, minimum: usize) -> io::Result<()> {
    // Go counts the padding within the least width
    let mut table = TabWriter::new(Vec::new())
        .minwidth(minimum.saturating_sub(PADDING))
        .padding(PADDING);
    table.write_all(text.as_bytes())?;
    let aligned = table
        .into_inner()
        .map_err(|error| io::Error::other(error.to_string()))?;
    out.write_all(&aligned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_spaces_and_ten_columns_at_least() {
        let mut out = Vec::new();
        write(&mut out, "A\tB\nlonger than ten\tx\n", 10).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "A                 B\nlonger than ten   x\n"
        );
    }
}
