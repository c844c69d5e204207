//! Terminals: pseudo-terminal pairs, window sizes, raw mode that is always given back.

// A handler for fatal signals must be installed, which only unsafe code can do.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::error::{Result, SysResultExt};

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Whether the descriptor is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// The size of a terminal.
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn window_size(fd: impl AsFd) -> Result<WindowSize> {
    let size = rustix::termios::tcgetwinsize(fd).call(|| "ioctl(TIOCGWINSZ)")?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Sets the size of a terminal; its foreground processes get SIGWINCH.
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn set_window_size(fd: impl AsFd, size: WindowSize) -> Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(fd, size).call(|| "ioctl(TIOCSWINSZ)")
}

/// A pseudo-terminal of the caller's own devpts: master and slave.
///
/// # Errors
/// `ENOSPC` when no more can be had, `ENOENT` without a devpts.
pub fn open_pair() -> Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).call(|| "open(\"/dev/ptmx\", O_RDWR|O_NOCTTY)")?;
    rustix::pty::unlockpt(&master).call(|| "ioctl(TIOCSPTLCK)")?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).call(|| "ioctl(TIOCGPTPEER)")?;
    Ok((master, slave))
}

/// What must be put back, where a signal handler finds it.
struct Saved {
    terminal: OwnedFd,
    settings: Termios,
}

static SAVED: AtomicPtr<Saved> = AtomicPtr::new(std::ptr::null_mut());
static HANDLERS: Once = Once::new();

/// A terminal in raw mode. Its former settings come back on drop, on [`RawMode::suspend`], on a
/// panic (also one that aborts) and when the program dies by a fault of its own.
///
/// Signals that only ask the program to end are the caller's to catch; it then drops this.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    raw: Termios,
    before: Termios,
}

impl RawMode {
    /// Puts the terminal in raw mode. One at a time in a process.
    ///
    /// # Errors
    /// `ENOTTY` when it is no terminal.
    pub fn enter(terminal: impl AsFd) -> Result<Self> {
        let terminal = terminal
            .as_fd()
            .try_clone_to_owned()
            .call(|| "fcntl(F_DUPFD_CLOEXEC)")?;
        let before = rustix::termios::tcgetattr(&terminal).call(|| "ioctl(TCGETS)")?;
        let mut raw = before.clone();
        raw.make_raw();
        let guard = Self {
            terminal,
            raw,
            before,
        };
        guard.remember()?;
        HANDLERS.call_once(install_handlers);
        guard.resume()?;
        Ok(guard)
    }

    fn remember(&self) -> Result<()> {
        let saved = Box::new(Saved {
            terminal: self
                .terminal
                .try_clone()
                .call(|| "fcntl(F_DUPFD_CLOEXEC)")?,
            settings: self.before.clone(),
        });
        // The old value, if any, is leaked on purpose: a handler may be reading it.
        SAVED.store(Box::into_raw(saved), Ordering::SeqCst);
        Ok(())
    }

    /// Gives the former settings back for a while, as when the program is stopped.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn suspend(&self) -> Result<()> {
        rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before)
            .call(|| "ioctl(TCSETS)")
    }

    /// Raw mode again.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resume(&self) -> Result<()> {
        rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.raw)
            .call(|| "ioctl(TCSETS)")
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = self.suspend();
        SAVED.store(std::ptr::null_mut(), Ordering::SeqCst);
    }
}

/// Puts back what was saved; safe in a signal handler: one load and one ioctl.
fn restore() {
    let saved = SAVED.load(Ordering::SeqCst);
    // SAFETY: the pointer is null or came from Box::into_raw of a fully made value, which is never
    // freed nor changed afterwards; a shared reference to it is valid for ever.
    if let Some(saved) = unsafe { saved.as_ref() } {
        let _ = rustix::termios::tcsetattr(&saved.terminal, OptionalActions::Now, &saved.settings);
    }
}

/// Gives a signal its default action; returns the one before.
pub(crate) fn default_action(signal: Signal) -> Result<SigAction> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, only the kernel's own action.
    unsafe { sigaction(signal, &action) }.call(|| format!("rt_sigaction({signal})"))
}

/// Puts back what [`default_action`] returned.
pub(crate) fn set_action(signal: Signal, action: &SigAction) {
    // SAFETY: the action was in force in this program before.
    let _ = unsafe { sigaction(signal, action) };
}

extern "C" fn on_fatal(signal: i32) {
    restore();
    // The handler was installed with SA_RESETHAND: the second delivery ends the program.
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = raise(signal);
    }
}

fn install_handlers() {
    let action = SigAction::new(
        SigHandler::Handler(on_fatal),
        SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER,
        SigSet::empty(),
    );
    for signal in [
        Signal::SIGABRT,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
    ] {
        // SAFETY: the handler only loads an atomic, makes an ioctl and raises a signal, all of
        // which are allowed in a signal handler.
        let _ = unsafe { sigaction(signal, &action) };
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        before(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::LocalModes;

    fn echoes(fd: impl AsFd) -> bool {
        rustix::termios::tcgetattr(fd)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    }

    #[test]
    fn raw_mode_is_given_back() {
        let (_master, slave) = open_pair().unwrap();
        assert!(echoes(&slave));
        let raw = RawMode::enter(&slave).unwrap();
        assert!(!echoes(&slave));
        raw.suspend().unwrap();
        assert!(echoes(&slave));
        raw.resume().unwrap();
        assert!(!echoes(&slave));
        drop(raw);
        assert!(echoes(&slave));
        // What the handler and the panic hook do.
        let raw = RawMode::enter(&slave).unwrap();
        restore();
        assert!(echoes(&slave));
        drop(raw);
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(RawMode::enter(&reader).unwrap_err().errno(), libc::ENOTTY);
    }

    #[test]
    fn sizes_pass_from_one_end_to_the_other() {
        let (master, slave) = open_pair().unwrap();
        let size = WindowSize {
            rows: 33,
            columns: 111,
        };
        set_window_size(&master, size).unwrap();
        assert_eq!(window_size(&slave).unwrap(), size);
        assert!(is_terminal(&slave));
    }
}
