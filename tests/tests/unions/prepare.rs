//! Branches written down in words.
//!
//! ```text
//! a/d/        a directory             a/f=text    a file
//! a/f#        a file with a hole      a/l>to      a symbolic link
//! a/.wh.f!    a mark                  a/p|        a named pipe
//! a/g~a/f     a further name of a/f   a/f%        a file that takes all the room that is left
//! a/f^        overlayfs's whiteout    a/d/^       overlayfs's mark of an opaque directory
//! ```

use std::ffi::CStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, setxattr,
    utimensat,
};

use super::view::{LONG_AGO, walk};

/// Overlayfs's mark.
pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// The same words with overlayfs's marks instead of aufs's.
pub(crate) fn in_overlay_form(words: &str) -> String {
    let marks = words.replace(".wh..wh.opq!", "^").replace(".wh.", "");
    marks.replace('!', "^")
}

/// Makes what the words say below a directory, all of it changed long ago and read before that.
pub(crate) fn prepare(top: &Path, words: &str) {
    for word in words.split_whitespace() {
        make(top, word);
    }
    for (path, _) in walk(top).iter().rev() {
        let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time(LONG_AGO - 90_000, 1),
            last_modification: time(LONG_AGO, 123_456_789),
        };
        utimensat(CWD, top.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn make(top: &Path, word: &str) {
    let at = word.find(['=', '#', '>', '!', '|', '~', '%', '^']);
    let (name, rest) = word.split_at(at.unwrap_or(word.len()));
    let path = top.join(name);
    if name.ends_with('/') && rest == "^" {
        fs::create_dir_all(&path).unwrap();
        return setxattr(&path, OPAQUE, b"y", XattrFlags::empty()).unwrap();
    }
    if name.ends_with('/') {
        return fs::create_dir_all(path).unwrap();
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = rest.get(1..).unwrap_or_default();
    match rest.chars().next().unwrap() {
        '=' => fs::write(&path, text).unwrap(),
        '#' => {
            let file = File::create(&path).unwrap();
            file.write_all_at(&[b'x'; 5000], 0).unwrap();
            file.write_all_at(&[b'y'; 3192], 1 << 17).unwrap();
            file.set_len((1 << 17) + 8192).unwrap();
        }
        '>' => symlink(text, &path).unwrap(),
        '!' => {
            File::create(&path).unwrap();
            return fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        }
        '|' => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        '^' => return mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap(),
        '~' => return fs::hard_link(top.join(text), &path).unwrap(),
        _ => {
            let mut file = File::create(&path).unwrap();
            while file.write(&[b'z'; 4096]).is_ok_and(|count| count > 0) {}
            return;
        }
    }
    lchown(&path, Some(1001), Some(1002)).unwrap();
    lsetxattr(&path, c"trusted.word", name.as_bytes(), XattrFlags::empty()).unwrap();
    if rest.starts_with(['=', '#']) {
        fs::set_permissions(&path, Permissions::from_mode(0o4751)).unwrap();
    }
}
