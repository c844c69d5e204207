//! What the tests of links share: an image with ports and variables, and looks at containers.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses its part"
)]

pub(crate) mod apart;

use lab::{Lab, fixture};

/// A lab with busybox, and with `app`: the same with ports and variables of its own.
#[track_caller]
pub(crate) fn lab() -> Lab {
    let lab = Lab::with_busybox();
    let changes = ["EXPOSE 80 53/udp", "ENV COLOUR=blue", "ENV HOME=/srv"];
    fixture::import(&lab, &fixture::busybox_tar(), "app", &changes);
    lab
}

/// Starts a container that waits.
#[track_caller]
pub(crate) fn wait_in(lab: &Lab, name: &str, options: &[&str], image: &str) {
    lab.rbox(["run", "-d", "--name", name])
        .args(options)
        .args([image, "sleep", "1000"])
        .run()
        .success();
}

/// `rbox` with the words of a line; its output.
#[track_caller]
pub(crate) fn rbox(lab: &Lab, line: &str) -> String {
    lab.rbox(line.split_whitespace()).run().success().text()
}

/// One field of inspect.
#[track_caller]
pub(crate) fn field(lab: &Lab, name: &str, format: &str) -> String {
    lab.rbox(["inspect", "-f", format, name])
        .run()
        .success()
        .text()
}

/// The address on the default network.
#[track_caller]
pub(crate) fn address(lab: &Lab, name: &str) -> String {
    field(lab, name, "{{.NetworkSettings.IPAddress}}")
}

/// The first twelve digits of the id.
#[track_caller]
pub(crate) fn short_id(lab: &Lab, name: &str) -> String {
    field(lab, name, "{{.Id}}")[..12].to_owned()
}

/// What a container's hosts file has after the fixed lines.
#[track_caller]
pub(crate) fn hosts(lab: &Lab, name: &str) -> String {
    let path = field(lab, name, "{{.HostsPath}}");
    let text = lab.read(&path).unwrap();
    text.split_once("ip6-allrouters\n").unwrap().1.to_owned()
}

/// Makes a container take another address: `taker` is new and has its old one from now on.
#[track_caller]
pub(crate) fn move_away(lab: &Lab, name: &str, taker: &str) {
    let before = address(lab, name);
    rbox(lab, &format!("stop -t 0 {name}"));
    wait_in(lab, taker, &[], "busybox");
    assert_eq!(address(lab, taker), before);
    rbox(lab, &format!("start {name}"));
}
