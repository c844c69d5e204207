//! Which containers the filters let through.

use super::*;
use crate::config::{Empty, PortBinding};
use crate::container::create::tests::{engine, image, request};
use crate::store::State;

/// Three stopped containers: `one` (never started), `two` (ended with 3), `three` (ended with 0).
fn world() -> (tempfile::TempDir, Engine) {
    let (directory, engine) = engine();
    for (name, code) in [("one", None), ("two", Some(3)), ("three", Some(0))] {
        let mut request = request(name);
        request.config.labels = [("name".to_owned(), name.to_owned())].into();
        match name {
            "one" => {
                request
                    .config
                    .labels
                    .insert("first".to_owned(), String::new());
                request.host.binds = Some(vec!["data:/data".to_owned()]);
            }
            "two" => {
                request
                    .config
                    .exposed_ports
                    .insert("8000/tcp".to_owned(), Empty {});
                request.host.port_bindings =
                    [("80/tcp".to_owned(), vec![PortBinding::default()])].into();
            }
            _ => request.host.network_mode = "none".to_owned(),
        }
        engine.create_from(&request, &image()).unwrap();
        if let Some(exit_code) = code {
            let state = State {
                started_at: Time::now(),
                finished_at: Time::now(),
                exit_code,
                ..State::default()
            };
            engine.find(name).unwrap().write_state(&state).unwrap();
        }
    }
    (directory, engine)
}

fn names(engine: &Engine, filters: &[(&str, &str)]) -> std::result::Result<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let request = ListRequest {
        all: true,
        filters: Filters(filters.iter().map(pair).collect()),
        ..ListRequest::default()
    };
    let rows = engine.list(&request).map_err(|error| error.to_string())?;
    let names: Vec<_> = rows.into_iter().map(|row| row.names.join(",")).collect();
    Ok(names.join(" "))
}

#[test]
fn filters() {
    let (_directory, engine) = world();
    let id = engine.resolve("two").unwrap();
    for (filters, expected) in [
        (&[][..], "three two one"),
        (&[("name", "t")], "three two"),
        (&[("name", "^/t")], "three two"),
        (&[("name", "^t.o$")], "two"),
        (&[("name", "two"), ("name", "one")], "two one"),
        (&[("name", "t"), ("exited", "3")], "two"),
        (&[("name", "(")], ""),
        (&[("id", &id.as_str()[..20])], "two"),
        (&[("label", "first")], "one"),
        (&[("label", "name=two")], "two"),
        (&[("label", "first"), ("label", "name=one")], "one"),
        (&[("label", "first"), ("label", "name=two")], ""),
        (&[("exited", "0")], "three"),
        (&[("exited", "0"), ("exited", "3")], "three two"),
        (&[("status", "created")], "one"),
        (&[("status", "exited")], "three two"),
        (&[("status", "running")], ""),
        (&[("health", "none")], "three two one"),
        (&[("health", "healthy")], ""),
        (&[("ancestor", "busybox")], "three two one"),
        (&[("ancestor", "nosuch")], ""),
        (&[("before", "two")], "one"),
        (&[("since", "two")], "three"),
        (&[("volume", "data")], "one"),
        (&[("volume", "/data")], "one"),
        (&[("network", "none")], "three"),
        (&[("network", "bridge")], "two one"),
        (&[("publish", "80")], "two"),
        (&[("publish", "1-90/tcp")], "two"),
        (&[("publish", "80/udp")], ""),
        (&[("expose", "7999-8001")], "two"),
        (&[("is-task", "false")], "three two one"),
        (&[("is-task", "true")], ""),
    ] {
        assert_eq!(
            names(&engine, filters),
            Ok(expected.to_owned()),
            "{filters:?}"
        );
    }
}

#[test]
fn what_is_refused_in_dockers_words() {
    let (_directory, engine) = world();
    for (key, value, text) in [
        ("foo", "x", "Invalid filter 'foo'"),
        ("status", "foo", "Invalid filter 'status=foo'"),
        ("health", "foo", "Invalid filter 'health=foo'"),
        ("exited", "x", "Invalid filter 'exited=x'"),
        ("publish", "x", "Invalid filter 'publish=x'"),
        ("before", "nope", "no such container nope"),
    ] {
        assert_eq!(names(&engine, &[(key, value)]), Err(text.to_owned()));
    }
}

#[test]
fn without_all_only_what_runs_is_listed() {
    let (_directory, engine) = world();
    let list = |request: ListRequest| engine.list(&request).unwrap().len();
    assert_eq!(list(ListRequest::default()), 0);
    let last = |last| ListRequest {
        last: Some(last),
        ..ListRequest::default()
    };
    assert_eq!(list(last(1)), 1);
    assert_eq!(list(last(9)), 3);
    let exited = ListRequest {
        filters: Filters(vec![("status".to_owned(), "exited".to_owned())]),
        ..ListRequest::default()
    };
    assert_eq!(list(exited), 2);
}

#[test]
fn a_row_says_what_docker_says() {
    let (_directory, engine) = world();
    let request = ListRequest {
        all: true,
        size: true,
        ..ListRequest::default()
    };
    let rows = engine.list(&request).unwrap();
    let two = &rows[1];
    assert_eq!((&*two.image, &*two.image_id), ("1", "sha256:1"));
    assert_eq!(two.command, ["sh"]);
    assert_eq!(two.status_text, "Exited (3) Less than a second ago");
    assert_eq!(rows[2].status_text, "Created");
    assert_eq!(two.networks, ["bridge"]);
    assert!(two.ports.is_empty());
    assert_eq!(two.size.unwrap().writable, 0);
}
