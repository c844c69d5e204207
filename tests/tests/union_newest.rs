//! Unions with `search=newest`: of several files of one name the one changed last is shown.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod unions;

use unions::Union;

/// Which branch has which file, changed when; `/` makes a directory, a `!` a whiteout.
fn prepared(files: &[(&str, u32)]) -> String {
    let lines = files.iter().map(|(path, minute)| {
        let branch = &path[..1];
        let (dir, name) = path.rsplit_once('/').unwrap();
        match (name, name.strip_prefix('!')) {
            ("", _) => format!("mkdir -p {dir}"),
            (_, Some(name)) => format!("mkdir -p {dir}; touch {dir}/.wh.{name}"),
            _ => format!("mkdir -p {dir}; echo {branch} > {path}; touch -d '2020-01-01 00:{minute:02}' {path}"),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_shows_the_newest_of_several_files() {
    type Case<'a> = (&'a [(&'a str, u32)], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        (&[("a/f", 1), ("b/f", 2), ("c/f", 3)], "f", "c"),
        (&[("a/f", 1), ("b/f", 3), ("c/f", 2)], "f", "b"),
        (&[("a/f", 5), ("b/f", 5), ("c/f", 5)], "f", "a"),
        (&[("b/f", 1), ("c/f", 2)], "f", "c"),
        (&[("a/d/f", 1), ("b/d/x", 9), ("c/d/f", 2)], "d/f", "c"),
        // hidden: by a whiteout, one beside a file, an opaque directory, a directory
        (&[("a/f", 1), ("b/!f", 0), ("c/f", 3)], "f", "a"),
        (&[("a/f", 1), ("b/f", 2), ("b/!f", 0), ("c/f", 3)], "f", "b"),
        (
            &[
                ("a/d/f", 1),
                ("b/d/f", 2),
                ("b/d/!.wh.opq", 0),
                ("c/d/f", 3),
            ],
            "d/f",
            "b",
        ),
        (&[("a/f", 1), ("b/f/", 0), ("c/f", 3)], "f", "a"),
    ];
    for (files, path, shown) in cases {
        let options = "dirs=a=ro+wh:b=ro+wh:c=ro+wh,search=newest";
        let union = Union::new(&prepared(files), options);
        assert_eq!(union.sh(&format!("cat m/{path}")), *shown, "{files:?}");
        let listed =
            format!("ls -i $(dirname m/{path}) | grep ' f$' | sed 's/ *\\([0-9]*\\) .*/\\1/'");
        let number = union.sh(&format!("stat -c %i m/{path}"));
        assert_eq!(union.sh(&listed), number, "{files:?}");
        let place = union.sh(&format!("rbox union where m/{path} | head -n 1"));
        assert!(
            place.contains(&format!("/{shown}")),
            "{place} for {files:?}"
        );
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_follows_the_newest_as_files_change() {
    for udba in ["reval", "notify"] {
        let files = prepared(&[("a/f", 1), ("b/f", 2)]);
        let options = format!("dirs=a=ro:b=ro,udba={udba},search=newest");
        let union = Union::new(&files, &options);
        assert_eq!(
            union.sh("cat m/f; ls -i m > old; cat m/f"),
            "b\nb",
            "{udba}"
        );
        assert_eq!(union.sh("touch a/f; cat m/f"), "a", "{udba}");
        union.sh("ls -i m > new; ! cmp -s old new");
        let text = union.rbox(&["ls", "m"]).run().success().text();
        assert!(text.contains("search=newest"), "{text}");
        let remount = |words| union.rbox(&["remount", "-o", words, "m"]).run();
        remount("mod:a=rw")
            .code(1)
            .says("option \"search=newest\": the newest file is shown where no branch is writable");
        remount("search=ff").success();
        assert_eq!(union.sh("touch b/f; cat m/f"), "a", "{udba}");
        remount("search=oldest")
            .code(1)
            .says("ff or newest must follow");
    }
}
