//! Names, attributes and changes as marks of either form are told.

use super::*;

fn of(form: Form) -> Marks {
    Marks::of(form)
}

#[test]
fn names_are_reserved_where_they_are_marks() {
    for (name, aufs, overlay) in [
        (&b".wh.name"[..], true, false),
        (b".wh..wh.opq", true, false),
        (b".wh..wh.tmp.1.2", true, true),
        (b".w", false, false),
        (b"name", false, false),
    ] {
        assert_eq!(of(Form::Aufs).is_reserved(name), aufs, "{name:?}");
        assert_eq!(of(Form::Auto).is_reserved(name), aufs, "{name:?}");
        assert_eq!(of(Form::Overlay).is_reserved(name), overlay, "{name:?}");
    }
    assert!(of(Form::Overlay).is_reserved(work_name().to_bytes()));
}

#[test]
fn changes_of_entries_say_what_they_mean() {
    let hiding = |name: &CStr| Told::Hiding(name.to_owned());
    for (name, aufs, overlay) in [
        (c"name", Told::Name(c"name".into()), hiding(c"name")),
        (c".wh.name", hiding(c"name"), hiding(c".wh.name")),
        (c".wh..wh.opq", Told::Merging, hiding(c".wh..wh.opq")),
        (c".wh..wh.aufs", Told::Nothing, hiding(c".wh..wh.aufs")),
        (c".wh..wh.tmp.1", Told::Nothing, Told::Nothing),
    ] {
        assert_eq!(of(Form::Aufs).told(name), aufs, "{name:?}");
        assert_eq!(of(Form::Overlay).told(name), overlay, "{name:?}");
    }
    assert_eq!(of(Form::Auto).told(c"name"), hiding(c"name"));
    assert_eq!(of(Form::Auto).told(c".wh.name"), hiding(c"name"));
}

#[test]
fn overlayfs_attributes_are_escaped_where_they_are_marks() {
    for (shown, stored) in [
        (c"trusted.overlay.opaque", c"trusted.overlay.overlay.opaque"),
        (
            c"trusted.overlay.overlay.x",
            c"trusted.overlay.overlay.overlay.x",
        ),
        (c"user.overlay.opaque", c"user.overlay.opaque"),
        (c"trusted.overlays", c"trusted.overlays"),
    ] {
        for form in [Form::Overlay, Form::Auto] {
            assert_eq!(of(form).stored_xattr(shown).as_deref(), Some(stored));
            let back = of(form).shown_xattr(stored.to_bytes());
            assert_eq!(back.as_deref(), Some(shown.to_bytes()));
        }
        assert_eq!(of(Form::Aufs).stored_xattr(shown).as_deref(), Some(shown));
        assert_eq!(
            of(Form::Aufs).shown_xattr(shown.to_bytes()).as_deref(),
            Some(shown.to_bytes())
        );
    }
    for form in [Form::Aufs, Form::Overlay, Form::Auto] {
        assert!(of(form).stored_xattr(c"trusted.rbox.origin").is_none());
        assert!(of(form).shown_xattr(b"trusted.rbox.origin").is_none());
    }
    assert!(
        of(Form::Overlay)
            .shown_xattr(b"trusted.overlay.opaque")
            .is_none()
    );
}

#[test]
fn a_whiteouts_node_is_a_mark_in_overlayfs_form_alone() {
    for (mode, device, is) in [
        (libc::S_IFCHR | 0o600, 0, true),
        (libc::S_IFCHR, 259, false),
        (libc::S_IFBLK, 0, false),
        (libc::S_IFIFO, 0, false),
    ] {
        assert!(!of(Form::Aufs).is_mark(mode, device));
        assert_eq!(of(Form::Overlay).is_mark(mode, device), is);
    }
}
