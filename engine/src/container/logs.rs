//! `logs`: what a container wrote, and what it goes on to write.

use std::io::{self, Write};
use std::os::fd::AsFd;

use sys::epoll::{DirectoryWatch, Interest, poll};
use sys::socket::MessageSocket;

use crate::Engine;
use crate::container::control::connect;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::log::print::Printer;
use crate::log::{LogOptions, LogReader};
use crate::request::LogsRequest;
use crate::stdio::protocol::{Answer, Request};
use crate::store::Container;

impl Engine {
    /// Writes the log to the two streams; with `follow` until the container ends.
    ///
    /// A stream that nobody reads any more ends it without an error.
    ///
    /// # Errors
    /// `configured logging driver does not support reading`; when the log cannot be read.
    pub fn logs(
        &self,
        id: &ContainerId,
        request: &LogsRequest,
        out: &mut dyn Write,
        error: &mut dyn Write,
    ) -> Result<()> {
        let container = self.store().load(id)?;
        let config = &container.record.host.log_config;
        if config.driver == "none" {
            return Err(Error::new(
                ErrorKind::NotImplemented,
                "configured logging driver does not support reading",
            )
            .hint("create the container with '--log-driver json-file' to keep its output"));
        }
        let options = LogOptions::read(&config.options).unwrap_or_default();
        let path = container.dir.log();
        let mut printer = Printer::new(request, out, error);
        match show(&container, request, &options, &mut printer) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| Error::file("read the log", &path, error)),
        }
    }
}

fn show(
    container: &Container,
    request: &LogsRequest,
    options: &LogOptions,
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    let path = container.dir.log();
    // Watched before the first look, so that nothing falls between the two.
    let follow = if request.follow {
        follow(container)?
    } else {
        None
    };
    let mut reader = LogReader::open(&path, options.max_file, request.tail)?;
    loop {
        let ended = match &follow {
            Some(follow) => follow.ended(),
            None => true,
        };
        let more = reader.read(&mut |entry| printer.show(&entry))?;
        printer.flush()?;
        match &follow {
            Some(follow) if more && !ended => follow.wait()?,
            Some(_) | None => return Ok(()),
        }
    }
}

/// What is waited for while a log grows.
struct Follow {
    watch: DirectoryWatch,
    monitor: MessageSocket,
}

/// `None` when the container does not run.
fn follow(container: &Container) -> io::Result<Option<Follow>> {
    let Some(monitor) = connect(container).map_err(io::Error::other)? else {
        return Ok(None);
    };
    if monitor.send(&Request::Wait.encode(), &[]).is_err() {
        return Ok(None);
    }
    let watch = DirectoryWatch::new(container.dir.path()).map_err(io::Error::other)?;
    Ok(Some(Follow { watch, monitor }))
}

impl Follow {
    /// Whether the container has ended: nothing more is written after that.
    fn ended(&self) -> bool {
        let mut buffer = [0; 256];
        match self.monitor.try_receive(&mut buffer) {
            Ok(received) => !matches!(
                Answer::decode(&buffer[..received.length]),
                Ok(Answer::Started | Answer::Done)
            ),
            Err(error) => !crate::stdio::session::is_again(&error),
        }
    }

    fn wait(&self) -> io::Result<()> {
        poll(
            &[
                (self.watch.as_fd(), Interest::Read),
                (self.monitor.as_fd(), Interest::Read),
            ],
            None,
        )
        .map_err(io::Error::other)?;
        self.watch.clear();
        Ok(())
    }
}
