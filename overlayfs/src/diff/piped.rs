//! What a thread of its own writes, to be read as a stream: an archive is made and used at once.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::thread::{Scope, ScopedJoinHandle};

/// The reading side. A writer that fails makes the read fail that would have found the end: what
/// was cut off is never taken for whole.
#[derive(Debug)]
pub struct Piped<'scope, E> {
    pipe: PipeReader,
    writer: Option<ScopedJoinHandle<'scope, Result<(), E>>>,
}

/// Starts a thread that writes; it ends early, with an error, when the reading side is dropped.
///
/// # Errors
/// When there can be no pipe.
pub fn piped<'scope, E>(
    scope: &'scope Scope<'scope, '_>,
    write: impl FnOnce(PipeWriter) -> Result<(), E> + Send + 'scope,
) -> io::Result<Piped<'scope, E>>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let (pipe, end) = io::pipe()?;
    let writer = std::thread::Builder::new().spawn_scoped(scope, move || write(end))?;
    Ok(Piped {
        pipe,
        writer: Some(writer),
    })
}

impl<E: std::error::Error + Send + Sync + 'static> Read for Piped<'_, E> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(writer) = self.writer.take()
        {
            match writer.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(io::Error::other(error)),
                Err(_) => return Err(io::Error::other("the writing thread panicked")),
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_written_is_read_and_a_failure_is_heard_of() {
        let read = |fails: bool| {
            std::thread::scope(|scope| {
                let mut piped = piped(scope, move |mut pipe| {
                    pipe.write_all(&[7; 100_000])?;
                    match fails {
                        true => Err(io::Error::other("broken")),
                        false => Ok(()),
                    }
                })
                .unwrap();
                let mut all = Vec::new();
                piped.read_to_end(&mut all).map(|_| all.len())
            })
        };
        assert_eq!(read(false).unwrap(), 100_000);
        assert_eq!(read(true).unwrap_err().to_string(), "broken");
    }

    #[test]
    fn a_reader_that_leaves_ends_the_writer() {
        std::thread::scope(|scope| {
            let piped = piped(scope, |mut pipe| {
                loop {
                    pipe.write_all(&[0; 4096])?;
                }
                #[allow(unreachable_code)]
                Ok::<(), io::Error>(())
            });
            drop(piped.unwrap());
        });
    }
}
