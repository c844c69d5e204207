//! `rbox cp`: copies files between a container and this host.

use std::io::{self, BufReader, PipeWriter, Read, Write};
use std::path::Path;
use std::sync::Mutex;

use clap::Args;
use engine::container::copy::PutOptions;
use engine::{Engine, ErrorKind};
use overlayfs::compression;
use overlayfs::diff::{Form, piped};
use sys::fs::Kind;

use self::local::Origin;
use self::place::{Side, Source, Target, place, split};
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::output::size;

mod local;
mod place;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<CpArgs>(
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\trbox cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    &["container cp", "cp"],
    Count::Exactly(2),
)
.help_text(
    "Copy files/folders between a container and the local filesystem\n\nUse '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for CpArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let (source, destination) = (&plain[0], &plain[1]);
        if source.is_empty() {
            return Err(Failure::said("source can not be empty"));
        }
        if destination.is_empty() {
            return Err(Failure::said("destination can not be empty"));
        }
        let sides = (Side::read(source), Side::read(destination));
        for side in [&sides.0, &sides.1] {
            if matches!(side, Side::Container { path, .. } if path.is_empty()) {
                return Err(engine::Error::invalid("bad parameter: path cannot be empty").into());
            }
        }
        let (bytes, to) = match sides {
            (Side::Container { .. }, Side::Container { .. }) => {
                return Err(Failure::said("copying between containers is not supported"));
            }
            (Side::Local(_), Side::Local(_)) => {
                return Err(Failure::said("must specify at least one container source"));
            }
            (Side::Container { name, path }, Side::Local(to)) => {
                let out = Outwards {
                    engine: &context.engine()?,
                    container: &name,
                    path: &path,
                    arguments: &self,
                };
                if to == "-" {
                    return out.to_stream();
                }
                out.to_path(&to)?
            }
            (Side::Local(from), Side::Container { name, path }) => {
                let inwards = Inwards {
                    engine: &context.engine()?,
                    container: &name,
                    path: &path,
                    arguments: &self,
                };
                inwards.copy(&from)?
            }
        };
        if !self.quiet && sys::pty::is_terminal(io::stdout()) {
            let size = size::human(bytes, 3);
            writeln!(io::stderr(), "Successfully copied {size} to {to}")?;
        }
        Ok(())
    }
}

/// A copy out of a container.
struct Outwards<'a> {
    engine: &'a Engine,
    container: &'a str,
    path: &'a str,
    arguments: &'a CpArgs,
}

impl Outwards<'_> {
    fn name(&self) -> std::path::PathBuf {
        split(Path::new(&format!("/{}", self.path))).1
    }

    fn to_stream(&self) -> Result<()> {
        let mut out = io::stdout();
        let source = (self.container, self.path);
        let name = self.name();
        // Whoever reads it need not know of holes.
        let form = Form::plain(&name);
        self.engine
            .take_files(source, self.arguments.follow_link, form, &mut out)?;
        out.flush()?;
        Ok(())
    }

    /// The bytes that were copied, and where to.
    fn to_path(&self, to: &str) -> Result<(u64, String)> {
        let to = local::absolute(to)?;
        local::check_output(&to)?;
        let follow = self.arguments.follow_link;
        let found = self
            .engine
            .look_at_file(self.container, self.path, follow)?;
        let source = Source {
            base: self.name(),
            is_directory: found.stat.kind == Kind::Directory,
        };
        let target = local::target(&to)?;
        let place = place(&source, &target).map_err(|error| Failure::said(error.to_string()))?;
        let source = (self.container, self.path);
        let form = Form {
            name: &place.name,
            holes: true,
        };
        let write = |pipe: PipeWriter| self.engine.take_files(source, follow, form, pipe);
        let bytes = through(write, |stream| {
            local::unpack(&place.directory, stream, self.arguments.archive)
        })?;
        Ok((bytes, to.display().to_string()))
    }
}

/// A copy into a container.
struct Inwards<'a> {
    engine: &'a Engine,
    container: &'a str,
    path: &'a str,
    arguments: &'a CpArgs,
}

impl Inwards<'_> {
    /// The bytes that were copied, and where to.
    fn copy(&self, from: &str) -> Result<(u64, String)> {
        let target = self.target()?;
        let to = format!("{}:{}", self.container, target.path.display());
        if from == "-" {
            if target.is_directory != Some(true) {
                return Err(Failure::said(format!(
                    "destination \"{}:{}\" must be a directory",
                    self.container, self.path
                )));
            }
            let mut stream = Counted::new(io::stdin());
            let (_, plain) = compression::decoder(&mut stream)?;
            self.put(&target.path, &mut BufReader::with_capacity(1 << 18, plain))?;
            return Ok((stream.bytes, to));
        }
        let origin = Origin::find(&local::absolute(from)?, self.arguments.follow_link)?;
        let place =
            place(&origin.source, &target).map_err(|error| Failure::said(error.to_string()))?;
        let write = |pipe: PipeWriter| {
            origin
                .write(&place.name, pipe)
                .map_err(|error| engine::Error::system(format!("cannot read {from:?}"), error))
        };
        let bytes = through(write, |stream| self.put(&place.directory, stream))?;
        Ok((bytes, to))
    }

    /// What is at the path in the container, all links followed.
    fn target(&self) -> Result<Target> {
        let typed = format!("/{}", self.path.trim_start_matches('/'));
        let found = match self.engine.evaluate_path(self.container, &typed) {
            // Said to be a directory, and none.
            Err(error) if error.kind() == ErrorKind::InvalidParameter && typed.ends_with('/') => {
                return Err(Failure::said("no such directory"));
            }
            other => other?,
        };
        let kind = found.stat.map(|stat| stat.kind);
        if matches!(kind, Some(Kind::CharDevice | Kind::BlockDevice)) {
            return Err(Failure::said(format!(
                "destination \"{}:{}\" must be a directory or a regular file: got a device",
                self.container, self.path
            )));
        }
        Ok(Target {
            path: found.path,
            is_directory: kind.map(|kind| kind == Kind::Directory),
        })
    }

    fn put(&self, directory: &Path, stream: &mut (impl io::BufRead + Send)) -> Result<()> {
        let options = PutOptions {
            archive: self.arguments.archive,
        };
        let directory = directory.display().to_string();
        self.engine
            .put_files((self.container, &directory), stream, options)?;
        Ok(())
    }
}

/// Lets one side write what the other reads; the number of bytes. Where the writer failed, its
/// error is the one that counts.
fn through(
    write: impl FnOnce(PipeWriter) -> engine::Result<()> + Send,
    read: impl FnOnce(&mut BufReader<&mut (dyn Read + Send)>) -> Result<()>,
) -> Result<u64> {
    let failed: Mutex<Option<engine::Error>> = Mutex::new(None);
    let done = std::thread::scope(|scope| {
        let mut stream = Counted::new(piped(scope, |pipe| {
            write(pipe).map_err(|error| {
                // A reader that left has its own reason, which is told.
                if let Ok(mut failed) = failed.lock() {
                    *failed = Some(error);
                }
                io::Error::other("the other side failed")
            })
        })?);
        read(&mut BufReader::with_capacity(1 << 18, &mut stream))?;
        // What the archive's end left is read as well: only then has the writer ended.
        io::copy(&mut stream, &mut io::sink())?;
        Ok(stream.bytes)
    });
    match (done, failed.into_inner().ok().flatten()) {
        (Err(read), Some(written)) => {
            let broken = Failure::from(written);
            match broken {
                Failure::BrokenPipe => Err(read),
                other => Err(other),
            }
        }
        (done, _) => done,
    }
}

/// A stream whose bytes are counted.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R> Counted<R> {
    fn new(inner: R) -> Self {
        Self { inner, bytes: 0 }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
