//! Random bytes from the kernel, by the system call alone.
//!
//! No library that may fall back on `/dev/urandom`: it would keep that file open behind our back,
//! and once its descriptor has been closed (a monitor closes what it does not know) the next bytes
//! would be read from whatever got the number.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Result, SysResultExt};

/// Fills the buffer; waits only while a machine that has just started gathers its first entropy.
///
/// # Errors
/// Those of getrandom; none in practice.
pub fn fill(buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match getrandom(&mut buffer[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).call(|| "getrandom()"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fillings_differ_and_no_part_is_left_out() {
        let (mut one, mut other) = ([0; 1000], [0; 1000]);
        fill(&mut one).unwrap();
        fill(&mut other).unwrap();
        assert_ne!(one, other);
        assert!(
            one.chunks(100)
                .all(|part| part.iter().any(|byte| *byte != 0))
        );
    }
}
