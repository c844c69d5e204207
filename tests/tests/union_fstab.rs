//! Unions by mount(8), umount(8) and lines of fstab, as aufs had them.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::Lab;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_is_mounted_by_lines_of_fstab() {
    let lab = Lab::new();
    let sh = |script: &str| lab.sh(&format!("cd {}\n{script}", lab.directory().display()));
    sh(
        "mkdir a b c x up work; echo low > b/f; echo x > x/g; touch /etc/fstab || :
         mount -t overlay none -o lowerdir=/usr/sbin,upperdir=up,workdir=work /usr/sbin
         ln -s $(command -v rbox) /usr/sbin/mount.aufs
         ln -s $(command -v rbox) /usr/sbin/mount.fuse.rbox-union
         : > fstab; mount --bind fstab /etc/fstab",
    );
    let fstab = |kind: &str, options: &str| {
        sh(&format!(
            "echo \"none $PWD/c {kind} {options} 0 0\" > fstab"
        ));
    };
    let mounted = || sh("grep -c rbox-union /proc/mounts || :");
    fstab("aufs", "dirs=$PWD/a=rw:$PWD/b=ro,noauto");
    assert_eq!(sh("mount ./c; cat c/f; mount -a"), "low");
    // mount(8) puts the line's options before those of the command.
    assert_eq!(sh("mount -o remount,add:1:$PWD/x=ro ./c; cat c/g"), "x");
    assert_eq!(
        sh("mount -o remount,ro ./c; touch c/z 2>&1 || mount -o remount,rw ./c; touch c/z; ls c"),
        "touch: cannot touch 'c/z': Read-only file system\nf\nz"
    );
    assert_eq!(mounted(), "1");
    sh("umount ./c; mount -a");
    assert_eq!(mounted(), "0", "noauto");
    fstab("aufs", "dirs=$PWD/a=rw:$PWD/b=ro,create=mfs");
    sh("mount -a; mount -a; test -e c/f");
    assert_eq!(mounted(), "1", "what is mounted is not mounted again");
    sh("umount -a -t fuse.rbox-union");
    assert_eq!(mounted(), "0");
    fstab(
        "fuse.rbox-union",
        "br=$PWD/a=rw:$PWD/b=ro,nofail,_netdev,x-systemd.automount",
    );
    assert_eq!(sh("mount -a; cat c/f; umount c"), "low");
    fstab("aufs", "dirs=$PWD/a=rw:$PWD/nope=ro");
    let refused = sh("mount -a 2>&1 || echo failed");
    assert!(
        refused.contains("nope\": No such file or directory"),
        "{refused}"
    );
    assert!(refused.ends_with("failed"), "{refused}");
    assert_eq!(mounted(), "0");
}
