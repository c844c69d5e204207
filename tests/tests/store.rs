//! `rbox system` and `rbox volume`: what is stored is counted, compared and given back.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::Lab;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_store_check_names_what_is_damaged() {
    let lab = Lab::with_busybox();
    let id = lab
        .rbox(["create", "busybox", "true"])
        .run()
        .success()
        .text();
    let check = |words: &[&str]| lab.rbox(["system", "check"]).args(words).run();
    let output = check(&["--contents"]).success();
    assert_eq!(
        output.text(),
        "1 images, 1 layers, 1 containers checked, 0 damaged"
    );
    let repaired = check(&["--repair"]).success();
    assert!(
        repaired.text().ends_with("0 unused layers removed"),
        "{}",
        repaired.text()
    );
    lab.sh(&format!(
        "echo '{{' > /var/lib/rbox/containers/{id}/config.json"
    ));
    let output = check(&[]).code(1).says("damaged");
    assert!(
        output.text().contains(&format!("container {id}: ")),
        "{}",
        output.text()
    );
    lab.sh(&format!("rm -r /var/lib/rbox/containers/{id}"));
    // one byte of a file, its length kept: only reading tells
    lab.sh(
        "f=$(find /var/lib/rbox/layers -type f -name busybox | head -n 1)
            printf X | dd of=$f bs=1 seek=1000 conv=notrunc 2> /dev/null",
    );
    check(&[]).success();
    let output = check(&["--contents"]).code(1);
    assert!(output.text().contains("layer sha256:"), "{}", output.text());
    lab.sh("rm $(find /var/lib/rbox/layers -type f -name busybox | head -n 1)");
    let output = check(&["--repair"]).code(1).says("damaged");
    assert!(output.text().contains("layer sha256:"), "{}", output.text());
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_store_volumes_by_hand() {
    let lab = Lab::with_busybox();
    let volume = |words: &[&str]| lab.rbox(["volume"]).args(words).run();
    assert_eq!(
        volume(&["create", "--label", "a=1", "data"])
            .success()
            .text(),
        "data"
    );
    lab.rbox([
        "run",
        "--rm",
        "-v",
        "data:/d",
        "busybox",
        "sh",
        "-c",
        "echo kept > /d/f",
    ])
    .run()
    .success();
    lab.rbox([
        "create",
        "--name",
        "uses",
        "-v",
        "data:/d",
        "-v",
        "/anonymous",
        "busybox",
        "true",
    ])
    .run()
    .success();
    assert_eq!(
        volume(&["ls", "-q", "-f", "label=a=1"]).success().text(),
        "data"
    );
    assert_eq!(volume(&["ls", "-q"]).success().lines().len(), 2);
    assert_eq!(
        volume(&["ls", "-q", "-f", "dangling=true"])
            .success()
            .text(),
        ""
    );
    let place = volume(&["inspect", "-f", "{{.Mountpoint}}", "data"])
        .success()
        .text();
    assert_eq!(lab.sh(&format!("cat {place}/f")), "kept");
    volume(&["rm", "data"])
        .code(1)
        .says("remove data: volume is in use - [");
    lab.rbox(["rm", "uses"]).run().success();
    // of the two only the one without a name of the user's goes
    let pruned = volume(&["prune", "-f"]).success().lines();
    assert_eq!(pruned[0], "Deleted Volumes:");
    assert_eq!(pruned[1].len(), 64, "{pruned:?}");
    assert_eq!(volume(&["ls", "-q"]).success().text(), "data");
    let usage = lab
        .rbox([
            "system",
            "df",
            "--format",
            "{{.Type}} {{.TotalCount}} {{.Active}}",
        ])
        .run()
        .success()
        .lines();
    assert_eq!(
        usage,
        [
            "Images 1 0",
            "Containers 0 0",
            "Local Volumes 1 0",
            "Build Cache 0 0"
        ]
    );
    assert_eq!(volume(&["rm", "data"]).success().text(), "data");
    volume(&["inspect", "data"])
        .code(1)
        .says("get data: no such volume");
    assert_eq!(volume(&["rm", "-f", "data"]).success().text(), "data");
}
