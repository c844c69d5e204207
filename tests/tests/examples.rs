//! The examples: every script must run to its end.

use lab::example;

#[track_caller]
fn runs(name: &str) {
    let output = example::run(name).success();
    assert!(output.text().ends_with("-- done"), "{}", output.text());
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_example_echo_static() {
    runs("echo-static");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_example_echo_erlang() {
    runs("echo-erlang");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_example_erlang_cluster() {
    runs("erlang-cluster");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_example_search_engine() {
    runs("search-engine");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_example_union() {
    runs("union");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_example_volumes_links_stack() {
    runs("volumes-links-stack");
}

#[test]
fn every_example_has_a_test() {
    let tests = include_str!("examples.rs");
    for name in example::all() {
        assert!(
            tests.contains(&format!("runs(\"{name}\")")),
            "no test runs examples/{name}"
        );
    }
}
