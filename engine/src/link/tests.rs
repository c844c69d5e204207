//! Sources and receivers without a kernel: containers that "run" as this very process.

use std::fs;

use netns::hosts::HostsFile;

use super::receive::Receiving;
use super::{DEFAULT_NETWORK, has_links};
use crate::Engine;
use crate::container::create::tests::{engine, image, request};
use crate::container::remove::RemoveOptions;
use crate::store::{
    Container, EndpointRecord, InitRecord, NetworkRecord, ProcessMark, RunDir, State,
};
use crate::time::Time;

const FORCE: RemoveOptions = RemoveOptions {
    force: true,
    volumes: false,
    link: false,
};

fn make(engine: &Engine, name: &str, links: &[&str]) -> Container {
    let mut request = request(name);
    if !links.is_empty() {
        request.host.links = Some(links.iter().map(|&text| text.to_owned()).collect());
    }
    engine.create_from(&request, &image()).unwrap();
    engine.find(name).unwrap()
}

/// As a launch does it: first where it is, then that it runs, then its receivers are told.
fn start(engine: &Engine, container: &Container, address: &str) {
    if let Some(mut receiving) = Receiving::begin(engine, container).unwrap() {
        let file = HostsFile {
            links: receiving.lines(),
            ..HostsFile::default()
        };
        let text = file.to_string();
        receiving.note(container, file).unwrap();
        fs::write(container.dir.hosts(), text).unwrap();
    }
    container.run.make().unwrap();
    let mark = ProcessMark::of(std::process::id().cast_signed()).unwrap();
    fs::write(container.run.monitor_path(), RunDir::monitor_text(mark)).unwrap();
    let endpoint = EndpointRecord {
        network: DEFAULT_NETWORK.to_owned(),
        address: address.parse().ok(),
        ..EndpointRecord::default()
    };
    let network = NetworkRecord {
        endpoints: vec![endpoint],
        ..NetworkRecord::default()
    };
    container.run.write_network(&network).unwrap();
    let init = InitRecord {
        process: mark,
        started_at: Time::now(),
    };
    container.run.write_init(&init).unwrap();
    let untold = engine.tell_receivers(container);
    assert!(untold.is_empty(), "{untold:?}");
}

fn stop(engine: &Engine, container: &Container) {
    let state = State {
        started_at: Time::now(),
        finished_at: Time::now(),
        ..State::default()
    };
    container.write_state(&state).unwrap();
    engine.leave_receivers(container, &container.current_name());
    fs::remove_dir_all(container.run.path()).unwrap();
}

/// The addresses of a receiver's lines, by alias.
fn lines(container: &Container) -> Vec<String> {
    let text = fs::read_to_string(container.dir.hosts()).unwrap();
    let (_, links) = text.split_once("ip6-allrouters\n").unwrap();
    let pair = |line: &str| {
        let (address, names) = line.split_once('\t').unwrap();
        format!("{} {address}", names.split(' ').next().unwrap())
    };
    links.lines().map(pair).collect()
}

fn marks(engine: &Engine) -> Vec<String> {
    let path = engine.store().root().join("links");
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| fs::read_dir(entry.path()).unwrap().count() > 0)
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_source_that_moves_is_followed_and_others_are_not_touched() {
    let (_directory, engine) = engine();
    let [db, db1] = ["db", "db1"].map(|name| make(&engine, name, &[]));
    start(&engine, &db, "172.17.0.2");
    start(&engine, &db1, "172.17.0.3");
    let receiver = make(&engine, "rcv", &["db", "db1", "db:copy"]);
    start(&engine, &receiver, "172.17.0.4");
    assert_eq!(
        lines(&receiver),
        ["db 172.17.0.2", "db1 172.17.0.3", "copy 172.17.0.2"]
    );
    stop(&engine, &db);
    assert_eq!(
        lines(&receiver)[0],
        "db 172.17.0.2",
        "the last known one stays"
    );
    start(&engine, &db, "172.17.0.9");
    let moved = ["db 172.17.0.9", "db1 172.17.0.3", "copy 172.17.0.9"];
    assert_eq!(lines(&receiver), moved);
    let variables = engine.link_variables(&receiver).unwrap();
    assert_eq!(
        variables,
        [
            "DB_NAME=/rcv/db",
            "DB1_NAME=/rcv/db1",
            "COPY_NAME=/rcv/copy"
        ]
    );
    // A receiver that does not run is told as well.
    stop(&engine, &receiver);
    stop(&engine, &db1);
    start(&engine, &db1, "172.17.0.3");
    stop(&engine, &db);
    start(&engine, &db, "172.17.0.2");
    assert_eq!(lines(&receiver)[0], "db 172.17.0.2");
}

#[test]
fn a_plain_container_leaves_no_trace_of_links() {
    let (_directory, engine) = engine();
    let plain = make(&engine, "plain", &[]);
    assert!(!has_links(&plain));
    start(&engine, &plain, "172.17.0.2");
    stop(&engine, &plain);
    assert!(!plain.dir.links().exists() && !plain.dir.links_lock().exists());
    assert!(!engine.store().root().join("links").exists());
}

#[test]
fn marks_go_with_names_and_with_their_receivers() {
    let (_directory, engine) = engine();
    let source = make(&engine, "src", &[]);
    make(&engine, "taken", &[]);
    start(&engine, &source, "172.17.0.2");
    let receiver = make(&engine, "rcv", &["src:db", "taken"]);
    assert_eq!(marks(&engine), ["src", "taken"]);
    assert!(engine.rename("src", "taken").is_err());
    assert_eq!(
        marks(&engine),
        ["src", "taken"],
        "the other link's mark stays"
    );
    engine.rename("src", "new").unwrap();
    assert_eq!(marks(&engine), ["new", "taken"]);
    assert_eq!(
        engine.shown_links(&receiver).unwrap().unwrap(),
        ["/new:/rcv/db", "/taken:/rcv/taken"]
    );
    engine.remove_link("rcv/taken").unwrap();
    assert_eq!(marks(&engine), ["new"]);
    assert!(engine.remove_link("rcv/taken").is_err());
    engine.remove("rcv", FORCE).unwrap();
    assert!(marks(&engine).is_empty());
}

#[test]
fn a_mark_that_nobody_stands_behind_goes_when_it_is_met() {
    let (_directory, engine) = engine();
    let source = make(&engine, "src", &[]);
    let gone = crate::ContainerId::random().unwrap();
    engine.store().mark_receiver("src", &gone).unwrap();
    let other = make(&engine, "other", &[]);
    engine.store().mark_receiver("src", other.id()).unwrap();
    // One that is just being made may not be seen yet.
    let aside = engine
        .store()
        .make_aside(&crate::ContainerId::random().unwrap())
        .unwrap();
    let making = aside
        .dir()
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    engine.store().mark_receiver("src", &making).unwrap();
    start(&engine, &source, "172.17.0.2");
    assert_eq!(engine.store().receivers("src").unwrap(), [making]);
}

#[test]
fn a_rename_and_new_receivers_at_once_lose_nobody() {
    let (_directory, engine) = engine();
    let source = make(&engine, "s0", &[]);
    start(&engine, &source, "172.17.0.2");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..60 {
                let (old, new) = (format!("s{number}"), format!("s{}", number + 1));
                engine.rename(&old, &new).unwrap();
            }
        });
        scope.spawn(|| {
            for number in 0..60 {
                let link = format!("{}:db", source.id());
                make(&engine, &format!("r{number}"), &[&link]);
            }
        });
    });
    let name = source.current_name();
    assert_eq!(engine.store().receivers(&name).unwrap().len(), 60);
}

#[test]
fn a_hosts_file_that_cannot_be_written_is_told_and_stops_nothing() {
    let (_directory, engine) = engine();
    let source = make(&engine, "src", &[]);
    start(&engine, &source, "172.17.0.2");
    for name in ["good", "long"] {
        let receiver = make(&engine, name, &["src:db"]);
        start(&engine, &receiver, "172.17.0.3");
    }
    let [good, long] = ["good", "long"].map(|name| engine.find(name).unwrap());
    let text = fs::read_to_string(long.dir.hosts()).unwrap();
    fs::write(long.dir.hosts(), format!("{text}{}\n", "x".repeat(2 << 20))).unwrap();
    let mut network = source.run.network().unwrap().unwrap();
    network.endpoints[0].address = "172.17.0.9".parse().ok();
    source.run.write_network(&network).unwrap();
    let untold = engine.tell_receivers(&source);
    assert_eq!(untold.len(), 1);
    let text = untold[0].to_string();
    assert!(
        text.starts_with("cannot tell container long where src is: the hosts file"),
        "{text}"
    );
    assert_eq!(lines(&good), ["db 172.17.0.9"]);
}
