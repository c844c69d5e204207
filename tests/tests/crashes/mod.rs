//! Operations on unions of prepared branches, each of several system calls of the server.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Uid, XattrFlags, chownat, linkat,
    mknodat, open, renameat_with, setxattr, symlinkat,
};
use rustix::io::{Errno, write};

pub(crate) type Act = fn(&Path) -> Result<(), Errno>;

/// An operation on a union of prepared branches.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) branches: &'static str,
    /// In the words of `unions::prepare`.
    pub(crate) tree: &'static str,
    /// What has been done before, without a fault.
    pub(crate) first: Act,
    pub(crate) act: Act,
}

const fn case(what: &'static str, tree: &'static str, act: Act) -> Case {
    Case {
        what,
        branches: "dirs=a=rw:b=ro",
        tree,
        first: |_| Ok(()),
        act,
    }
}

const fn after(first: Act, case: Case) -> Case {
    Case { first, ..case }
}

const fn case_of(branches: &'static str, case: Case) -> Case {
    Case { branches, ..case }
}

fn rename(top: &Path, from: &str, to: &str, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, top.join(from), CWD, top.join(to), flags)
}

fn append(path: &Path, data: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY | OFlags::APPEND, Mode::empty())?;
    let mut done = 0;
    while done < data.len() {
        done += write(&file, &data[done..])?;
    }
    Ok(())
}

fn truncate(path: &Path, size: i64) -> Result<(), Errno> {
    let done = nix::unistd::truncate(path, size);
    done.map_err(|error| Errno::from_raw_os_error(error as i32))
}

fn of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap()
}

pub(crate) const COPY_UPS: &[Case] = &[
    case("append to a lower file", "b/d/e/f# b/d/e/g=1", |m| {
        append(&m.join("d/e/f"), b"new")
    }),
    case("append to a lower file that is read", "b/d/f#", |m| {
        let reader = open(m.join("d/f"), OFlags::RDONLY, Mode::empty())?;
        append(&m.join("d/f"), b"new")?;
        let size = fs::metadata(m.join("d/f")).map_err(of)?.len();
        let mut end = [0; 4];
        match rustix::io::pread(&reader, &mut end, size - 3)? {
            3 if end.starts_with(b"new") => Ok(()),
            _ => Err(Errno::NODATA), // what it was before the copy
        }
    }),
    case("chmod of a lower directory", "b/d/e/f=1", |m| {
        fs::set_permissions(m.join("d/e"), PermissionsExt::from_mode(0o711)).map_err(of)
    }),
    case("chown of a lower link", "b/d/l>to", |m| {
        let (owner, group) = (Uid::from_raw(5), Gid::from_raw(6));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(CWD, m.join("d/l"), Some(owner), Some(group), flags)
    }),
    case("open of a lower file to empty it", "b/d/f#", |m| {
        open(m.join("d/f"), OFlags::WRONLY | OFlags::TRUNC, Mode::empty()).map(drop)
    }),
    case("truncation of a lower file", "b/d/f#", |m| {
        truncate(&m.join("d/f"), 10)
    }),
    case("emptying of a lower file by its path", "b/d/f#", |m| {
        truncate(&m.join("d/f"), 0)
    }),
    case("an attribute for a lower pipe", "b/d/p|", |m| {
        setxattr(m.join("d/p"), c"trusted.new", b"1", XattrFlags::empty())
    }),
    case("link of a lower file", "b/d/f# b/e/x=1", |m| {
        linkat(CWD, m.join("d/f"), CWD, m.join("e/g"), AtFlags::empty())
    }),
];

pub(crate) const RENAMES: &[Case] = &[
    case(
        "rename of a file above another",
        "a/d/f=high b/d/f=low",
        |m| rename(m, "d/f", "d/g", RenameFlags::empty()),
    ),
    case("rename over a lower file", "a/d/f=high b/d/g=low", |m| {
        rename(m, "d/f", "d/g", RenameFlags::empty())
    }),
    case(
        "rename over two",
        "a/d/f=high a/d/g=x b/d/g=low b/d/f=low",
        |m| rename(m, "d/f", "d/g", RenameFlags::empty()),
    ),
    case("rename of a lower file", "b/d/f# b/e/x/y=1", |m| {
        rename(m, "d/f", "e/x/f", RenameFlags::empty())
    }),
    case(
        "rename of a lower file that is open",
        "b/d/f# b/e/x/y=1",
        |m| {
            let reader = open(m.join("d/f"), OFlags::RDONLY, Mode::empty())?;
            let done = rename(m, "d/f", "e/x/f", RenameFlags::empty());
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&reader)?.st_mode);
            match rustix::fs::fchmod(&reader, mode) {
                // What was changed must not be a file that nobody finds.
                Ok(()) if rustix::fs::fstat(&reader)?.st_nlink == 0 => Err(Errno::NODATA),
                _ => done,
            }
        },
    ),
    case("rename of a lower file over one", "b/d/f# b/e/x/f=1", |m| {
        rename(m, "d/f", "e/x/f", RenameFlags::empty())
    }),
    case(
        "rename to a removed name",
        "a/d/f=1 a/d/.wh.g! b/d/g=low",
        |m| rename(m, "d/f", "d/g", RenameFlags::empty()),
    ),
    case_of(
        "dirs=a=rw:b=rw:c=ro",
        case(
            "rename over a higher file",
            "b/d/f=1 c/d/f=0 a/d/g=2",
            |m| rename(m, "d/f", "d/g", RenameFlags::empty()),
        ),
    ),
    case_of(
        "dirs=a=rw:b=rw:c=ro",
        case(
            "rename over a writable lower file",
            "a/d/f=1 b/d/g=2 c/d/g=3",
            |m| rename(m, "d/f", "d/g", RenameFlags::empty()),
        ),
    ),
];

pub(crate) const DIRECTORY_RENAMES: &[Case] = &[
    case("rename of a directory", "a/p/x=1 b/d/e/z=1", |m| {
        rename(m, "p", "d/e/p", RenameFlags::empty())
    }),
    case(
        "rename of one to a removed name",
        "a/d/p/x=1 a/d/.wh.q! b/d/q/y=2",
        |m| rename(m, "d/p", "d/q", RenameFlags::empty()),
    ),
    case(
        "rename of one over an emptied one",
        "a/d/p/x=1 a/d/q/.wh.y! b/d/q/y=2",
        |m| rename(m, "d/p", "d/q", RenameFlags::empty()),
    ),
    case(
        "rename of one over a lower empty one",
        "a/d/p/x=1 b/d/q/",
        |m| rename(m, "d/p", "d/q", RenameFlags::empty()),
    ),
    case("exchange of files", "a/d/f=1 b/e/g# b/d/f=0", |m| {
        rename(m, "d/f", "e/g", RenameFlags::EXCHANGE)
    }),
    case(
        "exchange of a file and a directory",
        "a/d/p/x=1 a/d/f=1 b/d/f/y=1",
        |m| rename(m, "d/p", "d/f", RenameFlags::EXCHANGE),
    ),
];

pub(crate) const REMOVALS: &[Case] = &[
    case("unlink of a file above another", "a/d/f=1 b/d/f=2", |m| {
        fs::remove_file(m.join("d/f")).map_err(of)
    }),
    case("unlink of a lower file", "b/d/e/f=2", |m| {
        fs::remove_file(m.join("d/e/f")).map_err(of)
    }),
    case(
        "rmdir of an emptied directory",
        "a/d/e/.wh.f! b/d/e/f=1",
        |m| fs::remove_dir(m.join("d/e")).map_err(of),
    ),
    case(
        "rmdir of one that was opaque",
        "a/d/e/.wh..wh.opq! a/d/e/.wh.g! b/d/e/f=1",
        |m| fs::remove_dir(m.join("d/e")).map_err(of),
    ),
    case("rmdir of a lower one", "b/d/e/", |m| {
        fs::remove_dir(m.join("d/e")).map_err(of)
    }),
];

pub(crate) const CREATIONS: &[Case] = &[
    case("mkdir over a removed one", "a/d/.wh.e! b/d/e/f=1", |m| {
        fs::create_dir(m.join("d/e")).map_err(of)
    }),
    case("create over a removed file", "a/d/.wh.f! b/d/f=1", |m| {
        File::create(m.join("d/f")).map(drop).map_err(of)
    }),
    case("symlink over a removed file", "a/d/.wh.f! b/d/f=1", |m| {
        symlinkat("to", CWD, m.join("d/f"))
    }),
    case("create in a lower directory", "b/d/e/f=1", |m| {
        File::create(m.join("d/e/g")).map(drop).map_err(of)
    }),
    case("mkdir in a lower directory", "b/d/e/f=1", |m| {
        fs::create_dir(m.join("d/e/g")).map_err(of)
    }),
    case("mknod in a lower directory", "b/d/e/f=1", |m| {
        mknodat(CWD, m.join("d/e/p"), FileType::Fifo, Mode::RUSR, 0)
    }),
    case(
        "link to a removed name",
        "a/d/f=1 a/d/.wh.g! b/d/g=1",
        |m| linkat(CWD, m.join("d/f"), CWD, m.join("d/g"), AtFlags::empty()),
    ),
    case_of(
        "dirs=a=rw:b=rw:c=ro",
        case("create that falls over", "a/x=1 c/d/e/f=1 b/y=1", |m| {
            File::create(m.join("d/e/g")).map(drop).map_err(of)
        }),
    ),
];

/// Here `s` is small and full.
pub(crate) const MOVES: &[Case] = &[
    case_of(
        "dirs=s=rw:b=rw,create=ff,moveonenospc,moveonenospc_guard=1G",
        case("a file that moves downwards", "s/d/f# s/fill% b/x=1", |m| {
            append(&m.join("d/f"), &[b'w'; 20_000])
        }),
    ),
    case_of(
        "dirs=b=rw:s=rw,create=ff,moveonenospc,moveonenospc_guard=1G",
        case("a file that moves upwards", "s/d/f# s/fill% b/x=1", |m| {
            append(&m.join("d/f"), &[b'w'; 20_000])
        }),
    ),
];

const THREE: &str = "b/d/f=1 b/d/g~b/d/f b/e/h~b/d/f";

fn change_f(m: &Path) -> Result<(), Errno> {
    append(&m.join("d/f"), b"before")
}

/// Files of several names where they come from.
pub(crate) const HARD_LINKS: &[Case] = &[
    case("append by one of two names", "b/d/f# b/d/g~b/d/f", |m| {
        append(&m.join("d/g"), b"new")
    }),
    case("emptying by one of three names", THREE, |m| {
        truncate(&m.join("e/h"), 0)
    }),
    case(
        "an attribute by one of two names",
        "b/d/p| b/d/q~b/d/p",
        |m| setxattr(m.join("d/q"), c"trusted.new", b"1", XattrFlags::empty()),
    ),
    case("rename of one of three names", THREE, |m| {
        rename(m, "e/h", "d/new", RenameFlags::empty())
    }),
    after(
        change_f,
        case("rename of another name", THREE, |m| {
            rename(m, "d/g", "e/new", RenameFlags::empty())
        }),
    ),
    after(
        change_f,
        case(
            "rename over another name",
            "b/d/f=1 b/d/g~b/d/f b/e/h~b/d/f b/x=1",
            |m| rename(m, "x", "e/h", RenameFlags::empty()),
        ),
    ),
    after(
        change_f,
        case(
            "exchange of another name",
            "b/d/f=1 b/d/g~b/d/f b/e/h~b/d/f b/x=1",
            |m| rename(m, "x", "e/h", RenameFlags::EXCHANGE),
        ),
    ),
    after(
        change_f,
        case("unlink of the name that was used", THREE, |m| {
            fs::remove_file(m.join("d/f")).map_err(of)
        }),
    ),
    after(
        change_f,
        case("unlink of another name", THREE, |m| {
            fs::remove_file(m.join("d/g")).map_err(of)
        }),
    ),
    after(
        |m| {
            change_f(m)?;
            fs::remove_file(m.join("d/f")).map_err(of)
        },
        case(
            "unlink of the last other name",
            "b/d/f=1 b/d/g~b/d/f",
            |m| fs::remove_file(m.join("d/g")).map_err(of),
        ),
    ),
    after(
        change_f,
        case("link of another name", THREE, |m| {
            linkat(CWD, m.join("e/h"), CWD, m.join("e/new"), AtFlags::empty())
        }),
    ),
    after(
        |m| append(&m.join("d/f"), b"before"),
        case_of(
            "dirs=a=rw:b=rw:c=ro,cpup=bu",
            case(
                "rename over a higher file",
                "c/d/f=1 c/d/g~c/d/f c/d/h~c/d/f a/x=1",
                |m| rename(m, "d/g", "x", RenameFlags::empty()),
            ),
        ),
    ),
];

/// Renames of directories that stay where they are in lower branches.
pub(crate) const REDIRECTS: &[Case] = &[
    case_of(
        "dirs=a=rw:b=ro,dirren",
        case(
            "rename of a lower directory",
            "b/d/e/f=1 b/d/g=2 b/x=3",
            |m| rename(m, "d", "new", RenameFlags::empty()),
        ),
    ),
    case_of(
        "dirs=a=rw:b=ro,dirren",
        case(
            "rename of a merged directory over an empty one",
            "a/d/e=0 b/d/e=1 b/d/g=2 b/new/",
            |m| rename(m, "d", "new", RenameFlags::empty()),
        ),
    ),
    case_of(
        "dirs=a=rw:b=ro,dirren",
        after(
            |m| rename(m, "d", "x/new", RenameFlags::empty()),
            case("rename of what was renamed", "b/d/e/f=1 b/x/y=2", |m| {
                rename(m, "x/new/e", "x/e", RenameFlags::empty())
            }),
        ),
    ),
];
