//! One command, one file; here they are put into a tree.

use crate::app::{Entry, Group, Node};

pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod network;
pub(crate) mod prune;
pub(crate) mod system;
pub(crate) mod union;
pub(crate) mod version;
pub(crate) mod volume;

/// Help of `--format` where lists are printed.
pub(crate) const FORMAT_TABLE: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// Help of `--format` where documents are printed.
pub(crate) const FORMAT_OBJECT: &str = "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// What can follow `rbox`, in the order of the help.
pub(crate) static NODES: &[Node] = &[
    Node::Entry(Entry::new("run", &container::run::LEAF).common()),
    Node::Entry(Entry::new("ps", &container::ps::LEAF).common()),
    Node::Entry(Entry::new("exec", &container::exec::LEAF).common()),
    Node::Entry(Entry::new("images", &image::ls::LEAF).common()),
    Node::Entry(Entry::new("version", &version::LEAF).common()),
    Node::Entry(Entry::new("info", &system::info::LEAF).common()),
    Node::Group(Group {
        name: "container",
        about: "Manage containers",
        entries: container::ENTRIES,
    }),
    Node::Group(Group {
        name: "image",
        about: "Manage images",
        entries: image::ENTRIES,
    }),
    Node::Group(Group {
        name: "network",
        about: "Manage networks",
        entries: network::ENTRIES,
    }),
    Node::Group(Group {
        name: "system",
        about: "Manage rbox",
        entries: system::ENTRIES,
    }),
    Node::Group(Group {
        name: "union",
        about: "Manage union mounts",
        entries: union::ENTRIES,
    }),
    Node::Group(Group {
        name: "volume",
        about: "Manage volumes",
        entries: volume::ENTRIES,
    }),
    Node::Entry(Entry::new("attach", &container::attach::LEAF)),
    Node::Entry(Entry::new("commit", &container::commit::LEAF)),
    Node::Entry(Entry::new("cp", &container::cp::LEAF)),
    Node::Entry(Entry::new("create", &container::create::LEAF)),
    Node::Entry(Entry::new("diff", &container::diff::LEAF)),
    Node::Entry(Entry::new("events", &system::events::LEAF)),
    Node::Entry(Entry::new("explain", &container::explain::LEAF)),
    Node::Entry(Entry::new("export", &container::export::LEAF)),
    Node::Entry(Entry::new("history", &image::history::LEAF)),
    Node::Entry(Entry::new("import", &image::import::LEAF)),
    Node::Entry(Entry::new("inspect", &inspect::LEAF)),
    Node::Entry(Entry::new("kill", &container::kill::LEAF)),
    Node::Entry(Entry::new("load", &image::load::LEAF)),
    Node::Entry(Entry::new("logs", &container::logs::LEAF)),
    Node::Entry(Entry::new("pause", &container::pause::LEAF)),
    Node::Entry(Entry::new("port", &container::port::LEAF)),
    Node::Entry(Entry::new("rename", &container::rename::LEAF)),
    Node::Entry(Entry::new("restart", &container::restart::LEAF)),
    Node::Entry(Entry::new("rm", &container::rm::LEAF)),
    Node::Entry(Entry::new("rmi", &image::rm::LEAF)),
    Node::Entry(Entry::new("save", &image::save::LEAF)),
    Node::Entry(Entry::new("start", &container::start::LEAF)),
    Node::Entry(Entry::new("stats", &container::stats::LEAF)),
    Node::Entry(Entry::new("stop", &container::stop::LEAF)),
    Node::Entry(Entry::new("tag", &image::tag::LEAF)),
    Node::Entry(Entry::new("top", &container::top::LEAF)),
    Node::Entry(Entry::new("unpause", &container::unpause::LEAF)),
    Node::Entry(Entry::new("update", &container::update::LEAF)),
    Node::Entry(Entry::new("wait", &container::wait::LEAF)),
];
