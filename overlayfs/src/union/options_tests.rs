//! Tables of option lists and what they mean.

use super::*;
use crate::union::branch_words::absolute;
use crate::union::policy::Measure;

fn listed(options: &Options) -> Vec<String> {
    options
        .branches
        .iter()
        .map(|branch| match branch.permission {
            Some(permission) => format!("{}={permission}", branch.path.display()),
            None => branch.path.display().to_string(),
        })
        .collect()
}

#[test]
fn reads_branch_lists_in_both_spellings() {
    let cases: &[(&str, &[&str])] = &[
        ("dirs=./a=rw:./b=ro", &["./a=rw", "./b=ro"]),
        ("br:/a=rw:/b=ro+wh", &["/a=rw", "/b=ro+wh"]),
        ("br=/a:/b", &["/a", "/b"]),
        ("dirs:/a:/b=rr", &["/a", "/b=rr"]),
        (r"br=/a\:b=rw:/c\,d", &["/a:b=rw", "/c,d"]),
        (r"br=/a\=rw", &["/a=rw"]),
        ("br=/a=b/c=rw", &["/a=b/c=rw"]),
        ("br=/a=rw+min=4K:/b", &["/a=rw+min=4096", "/b"]),
        (
            "lowerdir=/l1:/l2,upperdir=/u,workdir=/w",
            &["/u=rw", "/l1=ro+wh", "/l2=ro+wh"],
        ),
        ("upperdir=/u,lowerdir=/l", &["/u=rw", "/l=ro+wh"]),
        (
            "noatime,xino=/x/y,dirs=/a,defaults,x-systemd.automount",
            &["/a"],
        ),
    ];
    for (text, want) in cases {
        let options = Options::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(listed(&options), *want, "{text}");
    }
}

#[test]
fn reads_policies() {
    let cases: &[(&str, Create)] = &[
        ("create=rr", Create::RoundRobin),
        ("create:round-robin", Create::RoundRobin),
        ("create=mfs", Create::MostFreeSpace(30)),
        ("create=most-free-space:0", Create::MostFreeSpace(0)),
        (
            "create=mfsrr:1000",
            Create::MostFreeSpaceOrRoundRobin(Amount::Bytes(1000), 30),
        ),
        (
            "create=mfsrr:1G:0",
            Create::MostFreeSpaceOrRoundRobin(Amount::Bytes(1 << 30), 0),
        ),
        ("create=pmfs:5", Create::ParentMostFreeSpace(5)),
        (
            "create=tdmfs:2K:3600",
            Create::TopDownMostFreeSpace(Amount::Bytes(2048), 3600),
        ),
        ("create=tdp", Create::TopDownParent),
        (
            "create=pmfsrr:5%",
            Create::ParentMostFreeSpaceOrRoundRobin(Amount::Percent(5), 30),
        ),
        ("create=lup", Create::Any(Measure::LeastUsedPart)),
        ("create=eppfrd", Create::Existing(Measure::ChanceByFree)),
    ];
    for (text, want) in cases {
        assert_eq!(
            Options::parse(text).unwrap().settings.create,
            *want,
            "{text}"
        );
        let again = Options::parse(&format!("create={want}")).unwrap();
        assert_eq!(again.settings.create, *want, "as it is shown");
    }
    let options = Options::parse("cpup=bu,udba=none,sum,passthrough=all").unwrap();
    assert_eq!(options.settings.copy_up, CopyUp::BottomUp);
    assert_eq!(options.settings.direct_changes, DirectChanges::None);
    assert!(options.settings.sum);
    assert_eq!(options.settings.passthrough, Passthrough::All);
}

#[test]
fn reads_changes_in_order() {
    let options =
        Options::parse("remount,add:1:/x=ro,del:/a,mod=/b=ro,append:/z,prepend=/t=rw").unwrap();
    assert!(options.remount);
    let arg = |path: &str, access: Option<Access>| BranchArg {
        path: path.into(),
        permission: access.map(Permission::of),
    };
    assert_eq!(
        options.changes,
        [
            Change::Insert(1, arg("/x", Some(Access::ReadOnly))),
            Change::Delete("/a".into()),
            Change::Modify("/b".into(), Permission::of(Access::ReadOnly)),
            Change::Insert(usize::MAX, arg("/z", None)),
            Change::Insert(0, arg("/t", Some(Access::ReadWrite))),
        ]
    );
}

#[test]
fn refuses_with_the_word_at_fault() {
    let cases: &[(&str, &str)] = &[
        ("frob", "unknown option \"frob\""),
        ("frob=1", "unknown option \"frob=1\""),
        (
            "create=best",
            "option \"create=best\": unknown policy \"best\"",
        ),
        ("cpup=down", "option \"cpup=down\": unknown policy \"down\""),
        (
            "create=mfs:9999",
            "option \"create=mfs:9999\": \"9999\" is no number of seconds from 0 to 3600",
        ),
        (
            "create=mfsrr",
            "option \"create=mfsrr\": a size must follow the policy",
        ),
        (
            "create=mfsrr:many",
            "option \"create=mfsrr:many\": \"many\" is no size",
        ),
        (
            "create=rr:1",
            "option \"create=rr:1\": \"1\" says nothing to policy \"rr\"",
        ),
        ("br=/a=rx", "option \"br=/a=rx\": unknown permission \"rx\""),
        (
            "br=/a=rw+wh",
            "option \"br=/a=rw+wh\": attribute \"wh\" does not fit permission \"rw\"",
        ),
        (
            "br=/a=ro+nolwh",
            "option \"br=/a=ro+nolwh\": attribute \"nolwh\" does not fit permission \"ro\"",
        ),
        (
            "br=/a=rw+moo",
            "option \"br=/a=rw+moo\": attribute \"moo\" of aufs is not there: files are copied up when they are first changed",
        ),
        (
            "create=mfsrr:101%",
            "option \"create=mfsrr:101%\": \"101%\" is no size",
        ),
        (
            "statfs_ignore=rw",
            "option \"statfs_ignore=rw\": none, ro or nc must follow",
        ),
        ("br=", "option \"br=\": a branch must follow"),
        ("add:x:/a", "option \"add:x:/a\": the index is no number"),
        (
            "udba=maybe",
            "option \"udba=maybe\": reval, notify or none must follow",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(Options::parse(text).unwrap_err().to_string(), *want);
    }
}

#[test]
fn a_remount_changes_only_what_it_names() {
    let mut settings = Options::parse("create=rr,sum").unwrap().settings;
    settings.update(&Options::parse("remount,create=mfs:1").unwrap());
    assert_eq!(settings.create, Create::MostFreeSpace(1));
    assert!(settings.sum);
}

#[test]
fn makes_paths_absolute() {
    let cases: &[(&str, &str)] = &[
        ("add:1:./x=ro,del:y", "add=1:/w/x=ro,del=/w/y"),
        (
            "br:/a=rw:b=ro,create=mfs:1",
            "br=/a=rw:/w/b=ro,create=mfs:1",
        ),
        ("remount,ro", "remount,ro"),
    ];
    for (text, want) in cases {
        assert_eq!(absolute(text, "/w"), *want);
    }
}

#[test]
fn a_permission_is_shown_as_it_was_written() {
    for text in [
        "rw",
        "nc",
        "ro+wh",
        "rr+wh",
        "rw+nolwh",
        "rw+icex",
        "rw+icexsec+icexusr",
        "rw+min=5%",
        "rw+nolwh+min=1048576",
    ] {
        assert_eq!(Permission::parse(text).unwrap().to_string(), text);
    }
    let some = Permission::parse("rw+icexusr+icexoth").unwrap();
    let has = |name: &str| some.ignored_xattrs.has(name.as_bytes());
    assert!(has("user.x") && has("other") && !has("security.x") && !has("trusted.user."));
}

#[test]
fn reads_the_form_of_marks() {
    for (text, form) in [
        ("dirs=/a", Form::Aufs),
        ("dirs=/a,whform=aufs", Form::Aufs),
        ("whform:overlay,dirs=/a", Form::Overlay),
        ("whform=auto,dirs=/a", Form::Auto),
        // whose words are overlayfs's has its marks, unless they say otherwise
        ("lowerdir=/b,upperdir=/a,workdir=/w", Form::Overlay),
        ("lowerdir=/b", Form::Overlay),
        ("lowerdir=/b,upperdir=/a,whform=aufs", Form::Aufs),
        ("whform=aufs,lowerdir=/b", Form::Aufs),
    ] {
        let options = Options::parse(text).unwrap();
        assert_eq!(options.settings.form, form, "{text}");
    }
    let refused = Options::parse("whform=unionfs").unwrap_err().to_string();
    assert_eq!(
        refused,
        "option \"whform=unionfs\": aufs, overlay or auto must follow"
    );
}

#[test]
fn hard_links_stay_together_unless_a_layer_could_not_say_so() {
    for (text, together) in [
        ("dirs=/a", true),
        ("dirs=/a,noplink", false),
        ("dirs=/a,noplink,plink", true),
        ("dirs=/a,whform=overlay", false),
        ("dirs=/a,whform=overlay,plink", true),
        ("lowerdir=/b,upperdir=/a,workdir=/w", false),
        ("lowerdir=/b,upperdir=/a,workdir=/w,index=on", true),
        ("dirs=/a,index=off", false),
    ] {
        let options = Options::parse(text).unwrap();
        assert_eq!(options.settings.links_names(), together, "{text}");
    }
    assert!(Options::parse("dirs=/a,index=maybe").is_err());
    let mut settings = Options::parse("dirs=/a,noplink").unwrap().settings;
    settings.update(&Options::parse("remount,sum").unwrap());
    assert!(!settings.links_names());
    settings.update(&Options::parse("plink").unwrap());
    assert!(settings.links_names());
}
