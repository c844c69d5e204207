//! FUSE over io_uring, switched on for the time of a mount: the one setting of the machine that tests
//! touch. The kernel asks it only when a file system is mounted; nothing else depends on it.

use std::fs::File;
use std::io::{Read, Seek, Write};

const SETTING: &str = "/sys/module/fuse/parameters/enable_uring";

/// How unions in labs are to talk with the kernel: `ring` or `device`, else as rbox decides.
pub const TRANSPORT: &str = "LAB_UNION_TRANSPORT";

/// Whether the kernel knows it (Linux 6.14).
pub fn exist() -> bool {
    File::open(SETTING).is_ok()
}

/// Puts back what was there, and lets the next one have its turn.
struct Switched {
    setting: File,
    before: String,
}

impl Drop for Switched {
    fn drop(&mut self) {
        let _ = self.setting.write_all(self.before.as_bytes());
    }
}

/// Does something, a mount, while FUSE over io_uring is switched on or off on this machine.
///
/// # Panics
/// When the kernel does not know it, or forbids it.
#[track_caller]
pub fn switched<T>(on: bool, work: impl FnOnce() -> T) -> T {
    let setting = File::options().read(true).write(true).open(SETTING);
    let mut setting = setting.unwrap_or_else(|error| panic!("{SETTING}: {error}"));
    // Held until the file is closed: one test at a time has it another way.
    setting.lock().expect("settings can be locked");
    let mut before = String::new();
    setting
        .read_to_string(&mut before)
        .expect("settings can be read");
    setting.rewind().expect("settings can be read twice");
    let mut switched = Switched { setting, before };
    let word: &[u8] = if on { b"Y" } else { b"N" };
    switched
        .setting
        .write_all(word)
        .unwrap_or_else(|error| panic!("{SETTING}: {error}"));
    work()
}
