//! Roots on overlayfs: trees as Docker unpacks and shows them, hundreds of layers, long paths.
//!
//! `golden/root-tree.txt` is what a container of Docker's shows of the same image, every attribute
//! of every file. It is made, and this test checked against Docker itself, by
//! `LAB_ENGINE=docker LAB_GOLDEN=write cargo nextest run -p rbox-tests --run-ignored all -E
//! 'test(root_tree_is_docker)'`.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::archive::{Tar, docker};
use lab::{Lab, fixture};

/// What the first layer has: each kind, owner, mode, time and attribute.
const FIRST: &str = "
    mkdir -p t/plain t/sticky t/gone/deep t/merged/low t/opaque/low t/kinds/dir/in t/names t/twice
    for name in plain/a plain/b gone/f gone/deep/f merged/low/f merged/f opaque/low/f opaque/f twice/f \\
        kinds/file kinds/dir/in/f kinds/link-target kinds/hidden; do echo \"first $name\" > t/$name; done
    ln t/plain/a t/plain/hard; ln t/plain/a t/merged/hard; ln -s a t/plain/soft; ln -s /nowhere t/plain/dangling
    ln t/plain/soft t/plain/soft-hard; ln -s file t/kinds/link
    mkfifo t/plain/pipe; mknod t/plain/char c 1 3; mknod t/plain/block b 7 300; ln t/plain/pipe t/plain/pipe-hard
    truncate -s 5M t/plain/sparse; echo middle | dd of=t/plain/sparse bs=1 seek=2000000 conv=notrunc status=none
    : > t/plain/empty; head -c 70000 t/plain/sparse > t/plain/zeros
    L=$(printf 'n%.0s' $(seq 200)); mkdir t/names/$L; echo long > t/names/$L/$L; ln -s $L/$L t/names/long-link
    echo x > 't/names/blank and ü'; echo x > t/names/'back\\slash'; echo x > t/names/.hidden; echo x > t/names/.who
    cp t/plain/a t/plain/setuid; cp t/plain/a t/plain/setgid; cp t/plain/a t/plain/capable; cp t/plain/a t/plain/marked
    chown 12:34 t/plain/setuid t/plain/setgid t/plain/b; chown -h 56:78 t/plain/soft; chown 3000000:4000000 t/plain/empty
    chmod 4755 t/plain/setuid; chmod 2750 t/plain/setgid; chmod 1777 t/sticky; chmod 000 t/plain/b; chmod 2711 t/plain
    chown 5:6 t/merged; setcap cap_net_raw,cap_net_admin+ep t/plain/capable
    setfattr -n user.text -v 'a=b' t/plain/marked; setfattr -n trusted.x -v y t/plain/marked
    setfattr -n user.dir -v z t/merged
    setfacl -m u:5:rw t/plain/marked; setfacl -d -m g:7:rx t/sticky
    find t -exec touch -h -d '2001-02-03 04:05:06.123456789' {} +; touch -d '1971-12-31 23:59:58.25' t/plain/empty
    touch -d '2100-01-01' t/plain/zeros";

/// The second takes away, replaces and adds.
const SECOND: &str = "
    mkdir -p t/plain t/merged/new t/merged/low t/opaque/new t/kinds/file t/twice t/gone-not
    : > t/.wh.gone; : > t/plain/.wh.hard; : > t/merged/low/.wh.f
    : > t/opaque/.wh..wh..opq; echo second > t/opaque/new/f; echo second > t/merged/new/f; echo second > t/merged/f
    echo file > t/kinds/dir; echo was-a-link > t/kinds/link; echo in > t/kinds/file/in; : > t/kinds/.wh.hidden
    echo second > t/twice/f; ln t/merged/new/f t/merged/new/hard; ln -s nowhere t/kinds/link-target
    chmod 750 t/merged; chown 7:8 t/merged; chmod 700 t/plain
    find t -exec touch -h -d '2002-02-03 04:05:06.5' {} +";

/// The third brings back some of what is gone.
const THIRD: &str = "
    mkdir -p t/gone t/opaque/low t/kinds; echo third > t/gone/other; echo third > t/opaque/low/other
    echo third > t/kinds/hidden; : > t/twice.not; mkdir t/twice; : > t/twice/.wh.f
    find t -exec touch -h -d '2003-02-03 04:05:06.000000001' {} +";

/// Every file below `/t` of a running container, a line for each thing that is to be seen of it.
const LOOK: &str = r#"
    cd /proc/$1/root/t; export LC_ALL=C TZ=UTC
    find . -print0 | sort -z | while IFS= read -r -d '' name; do
        stat -c '%n: %F, mode %a, owner %u:%g, changed %y' "$name"
        [ -d "$name" ] && [ ! -h "$name" ] || stat -c '    %s bytes, %h names, device %t:%T' "$name"
        [ ! -h "$name" ] || echo "    leads to $(readlink "$name")"
        [ -h "$name" ] || [ ! -f "$name" ] || echo "    content $(sha256sum < "$name" | cut -c1-16)"
        getfattr -h -d -m - -e hex --absolute-names "$name" 2> /dev/null | grep = | sort | sed 's/^/    /' || :
    done
    [ plain/soft -ef plain/a ] && echo the link leads to its file
    [ merged/hard -ef plain/a ] && echo two names of one file"#;

/// The image: busybox and the three layers.
fn image(lab: &Lab) {
    let mut layers = vec![fs::read(fixture::busybox_tar()).unwrap()];
    for (number, script) in [FIRST, SECOND, THIRD].into_iter().enumerate() {
        let path = format!("{}/layer{number}.tar", lab.directory().display());
        lab.sh(&format!(
            "mkdir -p /run/layer{number}; cd /run/layer{number}; {script}
             tar --format=posix --sort=name --numeric-owner --sparse --xattrs --xattrs-include='*' -cf {path} t"
        ));
        layers.push(lab.enter(|| fs::read(&path)).unwrap());
    }
    let archive = docker(&layers, "tree:one", &["sleep", "1000"]).tar();
    let path = lab.file("tree.tar", archive);
    lab.rbox(["load", "-i", &path]).run().success();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_root_tree_is_docker_s() {
    let lab = Lab::new();
    image(&lab);
    lab.sh("rbox run -d --name box --network none tree:one");
    let look = lab.file("look", LOOK);
    let seen = lab.sh(&format!(
        "bash {look} $(rbox inspect -f '{{{{.State.Pid}}}}' box)"
    ));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/root-tree.txt");
    if std::env::var("LAB_GOLDEN").is_ok_and(|word| word == "write") {
        fs::write(&golden, format!("{seen}\n")).unwrap();
    }
    let wanted = fs::read_to_string(golden).unwrap();
    for (number, (seen, wanted)) in seen.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(seen, wanted, "line {}", number + 1);
    }
    assert_eq!(seen.lines().count(), wanted.lines().count());
    // What was stacked from layers is what is written as one, and unpacked again.
    lab.sh("rbox export box | rbox import -c 'CMD sleep 1000' - flat; rbox run -d --name flat --network none flat");
    let flat = lab.sh(&format!(
        "bash {look} $(rbox inspect -f '{{{{.State.Pid}}}}' flat)"
    ));
    if !lab::reference::wanted() {
        // A name that a higher layer hides is counted on in the lower one.
        let seen = seen.replace(" 3 names", " 2 names");
        assert_eq!(flat, seen, "exported and imported");
    }
}

/// Layers that each add a file, hide the one of three layers before, and change one.
fn layers(count: usize) -> Vec<Vec<u8>> {
    let mut all = vec![fs::read(fixture::busybox_tar()).unwrap()];
    for number in 1..count {
        let text = number.to_string();
        let mut layer = Tar::new()
            .directory("s/")
            .file("s/last", &text)
            .file(&format!("s/f{number}"), &text);
        if number > 3 {
            layer = layer.file(&format!("s/.wh.f{}", number - 3), "");
        }
        all.push(layer.bytes());
    }
    all
}

/// Docker ends at 127 layers, and a page of mount options at about 40.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_root_of_hundreds_of_layers_at_long_paths() {
    let lab = Lab::with_busybox();
    // Beyond the 255 bytes that one option may have.
    let deep = format!("/run/{}/{}", "d".repeat(150), "e".repeat(150));
    for (count, root) in [(129, deep.as_str()), (500, "/run/many")] {
        let name = format!("many:{count}");
        let archive = docker(&layers(count), &name, &["sh"]).tar();
        let path = lab.file("many.tar", archive);
        let rbox = |words: &[&str]| {
            let limit = Duration::from_secs(180);
            lab.rbox(["--root", root]).args(words).limit(limit).run()
        };
        rbox(&["load", "-i", &path]).success();
        let script = "cat /s/last; echo; ls /s; echo new > /s/last; rm /s/f*; ls /s";
        let output = rbox(&[
            "run",
            "--name",
            "box",
            "--network",
            "none",
            &name,
            "sh",
            "-c",
            script,
        ]);
        let last = count - 1;
        let files: Vec<String> = (last - 2..=last)
            .map(|number| format!("f{number}"))
            .collect();
        assert_eq!(
            output.success().text(),
            format!("{last}\n{}\nlast\nlast", files.join("\n"))
        );
        let changes = rbox(&["diff", "box"]).success().text();
        let gone: Vec<String> = files.iter().map(|name| format!("D /s/{name}")).collect();
        assert_eq!(changes, format!("C /s\n{}\nC /s/last", gone.join("\n")));
        rbox(&["commit", "box", "more"]).success();
        let more = rbox(&["run", "--rm", "--network", "none", "more", "cat", "/s/last"]);
        match count {
            500 => more.code(125).says("limit is 500"),
            _ => {
                assert_eq!(more.text(), "new");
                more.success()
            }
        };
    }
}
