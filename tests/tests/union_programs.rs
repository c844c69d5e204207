//! Union mounts: programs that are hard on file systems do on one what they do in a plain directory.
//!
//! In each test the lower branch has an earlier state, so that what the programs do is to change,
//! replace and remove what must not be written.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use rustix::fs::{Mode, OFlags, open};

mod unions;
use unions::Union;

/// Ways to serve that differ in what the kernel keeps and does itself.
const WAYS: &[&str] = &["", ",udba=notify", ",passthrough=off"];

/// A tree of everything that a file can be, made in the working directory.
const TREE: &str = "
    mkdir -p d/deep/er empty; for n in $(seq 200); do echo $n > d/$n; done
    ln d/1 d/deep/one; ln d/1 uno; ln -s d/2 link; ln -s /nowhere dangling; mkfifo fifo
    mknod d/null c 1 3; truncate -s 1M sparse; echo end >> sparse; chmod 4755 d/3; chown 1:2 d/4
    setfattr -n user.colour -v red d/5; setfacl -m u:7:rw d/6; setfacl -d -m g:8:rx d/deep
    touch -d 2001-02-03T04:05:06.789 d/7; touch $(printf 'n%.0s' $(seq 200))";

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_is_synchronised_and_packed_without_a_difference() {
    for way in WAYS {
        let options = format!("dirs=a=rw:b=ro{way}");
        let union = Union::new(
            &format!(
                "mkdir tree back packed; (cd tree; {TREE}); rsync -aHAX tree/ b/
                 cd tree; rm -r d/deep d/1 link; mkdir link; echo in > link/in; echo new > d/2
                 chmod 600 d/8; mv d/9 nine; rm d/1?; echo more >> sparse; setfattr -x user.colour d/5
                 ln d/20 twenty; touch d d/21"
            ),
            &options,
        );
        let same = |from: &str, to: &str| {
            let script = format!("rsync -aHAXcni --delete {from}/ {to}/");
            assert_eq!(union.sh(&script), "", "{way}: {from} {to}");
        };
        union.sh("find b | sort | xargs stat -c '%n %i %y %z' > c/before");
        union.sh("rsync -aHAX --delete tree/ m/");
        same("tree", "m");
        union.again(&options);
        same("tree", "m");
        union.sh("rsync -aHAX m/ back/; tar -C m --xattrs --acls -cf - . | tar -C packed --xattrs --acls -xpf -");
        same("tree", "back");
        same("m", "packed");
        union.sh("find b | sort | xargs stat -c '%n %i %y %z' | cmp - c/before");
        union.sh(
            "rsync -a --delete empty-one/ m/ 2>&1 || :; mkdir none; rsync -a --delete none/ m/",
        );
        assert_eq!(union.sh("ls -A m"), "", "{way}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_holds_a_repository() {
    for way in WAYS {
        let options = format!("dirs=a=rw:b=ro{way}");
        let git = "export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=n@x GIT_COMMITTER_NAME=n \
                   GIT_COMMITTER_EMAIL=n@x GIT_CONFIG_GLOBAL=/dev/null; umask 22";
        let union = Union::new(
            &format!(
                "{git}; cd b; git init -q -b main; mkdir -p d e
                 for n in $(seq 150); do echo $n > d/$n; ln -s ../d/$n e/$n; done
                 git add -A; git commit -qm one; echo 2 >> d/1; git commit -qam two"
            ),
            &options,
        );
        let run = |script: &str| union.sh(&format!("{git}; cd m; {script}"));
        assert_eq!(run("git status --porcelain"), "", "{way}");
        run("git checkout -qb side; mkdir moved; git mv d/* moved; git rm -q e/7; echo 3 > moved/1; git commit -qam side
             git checkout -q main; echo four > d/4; git commit -qam main; git merge -q -m merged side
             git gc -q --prune=now; git stash list; git worktree add -q ../c/work HEAD~1");
        assert_eq!(
            run("git fsck --strict 2>&1; git status --porcelain"),
            "",
            "{way}"
        );
        assert_eq!(
            run("git rev-list --count HEAD; ls moved | wc -l; cat moved/1 moved/4"),
            "5\n150\n3\nfour"
        );
        // The index knows numbers and times of files: they are the same after a new mount.
        run("git status");
        union.again(&options);
        assert_eq!(
            run("git diff-files --name-only; git fsck --strict 2>&1"),
            "",
            "{way}"
        );
        assert_eq!(union.sh("git -C b log --format=%s"), "two\none");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_holds_a_database_that_several_write() {
    for way in WAYS {
        let options = format!("dirs=a=rw:b=ro{way}");
        let union = Union::new(
            "sqlite3 b/db 'pragma journal_mode=wal; create table t(writer, n);
                           insert into t values(0, 0)'; sha256sum b/db > c/before",
            &options,
        );
        union.sh("all=; for writer in 1 2 3 4; do
                      for n in $(seq 50); do
                          sqlite3 -cmd '.timeout 60000' m/db \"insert into t values($writer, $n)\" || exit 1
                      done & all=\"$all $!\"
                  done
                  for one in $all; do wait $one || exit 1; done");
        let count =
            || union.sh("sqlite3 m/db 'pragma integrity_check; select count(*), sum(n) from t'");
        assert_eq!(count(), "ok\n201|5100", "{way}");
        union.again(&options);
        assert_eq!(count(), "ok\n201|5100", "{way}");
        union.sh("sqlite3 m/db 'delete from t where n > 25; vacuum'; sha256sum -c c/before");
        assert_eq!(
            union.sh("sqlite3 m/db 'pragma integrity_check; select count(*) from t'"),
            "ok\n101"
        );
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_takes_packages_as_a_plain_directory_does() {
    for way in WAYS {
        let union = Union::new(
            "export PATH=$PATH:/usr/sbin:/sbin
             for version in 1 2; do
                 mkdir -p p/DEBIAN p/usr/share/thing p/etc
                 printf 'Package: thing\\nVersion: %s\\nArchitecture: all\\nMaintainer: n <n@x>\\nDescription: d\\n' \
                     $version > p/DEBIAN/control
                 echo /etc/thing > p/DEBIAN/conffiles; echo $version > p/etc/thing
                 for n in $(seq 60); do echo $version.$n > p/usr/share/thing/$n; done
                 echo $version > p/usr/share/thing/only.$version; ln -f p/usr/share/thing/1 p/usr/share/thing/uno
                 dpkg-deb --root-owner-group -b p $version.deb > out; rm -r p
             done
             for root in b plain; do
                 mkdir -p $root/var/lib/dpkg/updates $root/var/lib/dpkg/info $root/var/log
                 touch $root/var/lib/dpkg/status; dpkg --root=$PWD/$root -i 1.deb > out 2>&1
             done",
            &format!("dirs=a=rw:b=ro{way}"),
        );
        let both = |words: &str| {
            union.sh(&format!(
                "export PATH=$PATH:/usr/sbin:/sbin
                 for root in m plain; do dpkg --root=$PWD/$root {words} > out 2>&1 || {{ cat out; exit 1; }}; done
                 diff -r --no-dereference m plain
                 for root in m plain; do
                     (cd $root; find . ! -path './var/*' -printf '%p %y %m %u %g %s %n\\n' | grep -v '^[^ ]* d' | sort)
                 done | sort | uniq -u"
            ))
        };
        assert_eq!(both("-i 2.deb"), "", "{way}");
        assert_eq!(
            union.sh("cat m/usr/share/thing/uno m/etc/thing; ls m/usr/share/thing/only*"),
            "2.1\n2\nm/usr/share/thing/only.2"
        );
        assert_eq!(both("-P thing"), "", "{way}");
        assert_eq!(union.sh("ls m; cat b/etc/thing"), "var\n1", "{way}");
    }
}

/// Programs of stress-ng that check what they read back.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_stands_stress_that_checks_itself() {
    let union = Union::new("", "dirs=a=rw:b=rw:c=ro,create=rr");
    union.sh("mkdir m/s; stress-ng --temp-path m/s --verify --timeout 4 --metrics-brief --no-rand-seed \
              --dir 1 --dir-dirs 200 --link 1 --symlink 1 --rename 1 --xattr 1 --lockf 1 --flock 1 --chmod 1 \
              --utime 1 --fallocate 1 --fallocate-bytes 4M --mmap 1 --mmap-file --mmap-bytes 4M --hdd 1 \
              --hdd-bytes 4M --seek 1 --seek-size 4M > out 2>&1 || { cat out; exit 1; }");
    assert_eq!(union.sh("ls -A m/s; ls -A c"), "");
}

/// What databases open: files that are open already, with the word that a link is not wanted.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_opens_again_what_must_be_no_link() {
    for way in WAYS {
        let union = Union::new("echo low > b/f", &format!("dirs=a=rw:b=ro{way}"));
        union.enter(|at| {
            let open = |flags| open(at.join("m/f"), flags | OFlags::NOFOLLOW, Mode::empty());
            let reader = open(OFlags::RDONLY).unwrap();
            let writer = open(OFlags::RDWR).unwrap();
            let other = open(OFlags::WRONLY | OFlags::APPEND).unwrap();
            rustix::io::write(&writer, b"abc").unwrap();
            rustix::io::write(&other, b"end").unwrap();
            let mut text = [0; 16];
            let length = rustix::io::read(&reader, &mut text).unwrap();
            assert_eq!(&text[..length], b"abc\nend", "{way}");
        });
    }
}
