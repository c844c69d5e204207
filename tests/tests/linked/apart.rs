//! A host whose containers may not talk, seen with either hand of the firewall.

use lab::Lab;

use super::{address, lab};

/// `rbox` that keeps containers apart, with one of the two hands.
pub(crate) struct Apart {
    pub(crate) lab: Lab,
    hand: &'static str,
}

impl Apart {
    pub(crate) fn new(hand: &'static str) -> Self {
        let lab = lab();
        let script = format!("#!/bin/sh\nexec rbox --icc=false --firewall={hand} \"$@\"\n");
        let path = lab.file("bin/apart", script);
        lab.sh(&format!("chmod 755 {path}"));
        Self { lab, hand }
    }

    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> String {
        let words = line.split_whitespace();
        self.lab.command("apart").args(words).run().success().text()
    }

    /// Starts a container that listens on 80 and 81 and answers.
    #[track_caller]
    pub(crate) fn serve(&self, name: &str, options: &str) {
        self.lab
            .command("apart")
            .args(["run", "-d", "--name", name])
            .args(options.split_whitespace())
            .args(["app", "sh", "-c"])
            .arg("for p in 80 81; do nc -ll -p $p -e echo yes & done; wait")
            .run()
            .success();
    }

    pub(crate) fn reaches(&self, from: &str, to: &str, port: u16) -> bool {
        let line = format!("exec {from} nc -w 1 {to} {port}");
        let output = self.lab.command("apart").args(line.split(' ')).run();
        output.text() == "yes"
    }

    /// The rules of links, in pairs of receiver and source; sorted.
    pub(crate) fn rules(&self) -> Vec<String> {
        let text = match self.hand {
            "iptables" => self.lab.sh(
                "iptables -S DOCKER | sed -n 's|^-A DOCKER -s \\([0-9.]*\\)/32 -d \\([0-9.]*\\)/32 -i rbox0 -o rbox0 -p \\([a-z]*\\) -m [a-z]* --\\([sd]\\)port \\([0-9]*\\) -j ACCEPT$|\\1 \\2 \\3 \\4 \\5|p'",
            ),
            _ => self.lab.sh(
                "for set in linked linked_back; do nft list set ip rbox0 $set | tr ',{}' '\\n\\n\\n' | sed -n \"s/^[ \\t]*\\([0-9.]*\\) \\. \\([0-9.]*\\) \\. \\([a-z]*\\) \\. \\([a-z0-9]*\\)[ \\t]*$/\\1 \\2 \\3 $set \\4/p\"; done | sed 's/linked_back/s/; s/linked/d/; s/http$/80/; s/domain$/53/'",
            ),
        };
        let mut rules: Vec<String> = text.lines().map(str::to_owned).collect();
        rules.sort();
        rules
    }

    /// What the links of these pairs of receiver and source open.
    #[track_caller]
    pub(crate) fn wanted(&self, pairs: &[(&str, &str)]) -> Vec<String> {
        let mut rules = Vec::new();
        for (receiver, source) in pairs {
            let (to, from) = (address(&self.lab, source), address(&self.lab, receiver));
            for port in ["tcp 80", "udp 53"] {
                let (protocol, number) = port.split_once(' ').unwrap();
                rules.push(format!("{from} {to} {protocol} d {number}"));
                rules.push(format!("{to} {from} {protocol} s {number}"));
            }
        }
        rules.sort();
        rules
    }

    #[track_caller]
    pub(crate) fn has(&self, pairs: &[(&str, &str)]) {
        assert_eq!(self.rules(), self.wanted(pairs));
    }

    /// Starts a container that waits.
    #[track_caller]
    pub(crate) fn wait_in(&self, name: &str, options: &str) {
        self.run(&format!(
            "run -d --name {name} {options} busybox sleep 1000"
        ));
    }

    /// What is open once whatever died has been cleared up: exactly what the running pairs need.
    #[track_caller]
    pub(crate) fn settles(&self, pairs: &[(&str, &str)]) {
        let running = |name: &str| {
            let output = self
                .lab
                .rbox(["inspect", "-f", "{{.State.Running}}", name])
                .run();
            output.text() == "true"
        };
        let mut said = String::new();
        let good = lab::until(std::time::Duration::from_secs(10), || {
            // any command clears up after the dead
            self.lab.rbox(["ps", "-aq"]).run();
            let both: Vec<(&str, &str)> = pairs
                .iter()
                .copied()
                .filter(|(receiver, source)| running(receiver) && running(source))
                .collect();
            let (now, wanted) = (self.rules(), self.wanted(&both));
            said = format!("{both:?}\nopen: {now:#?}\nwanted: {wanted:#?}");
            (now == wanted).then_some(())
        });
        assert!(good.is_some(), "{said}");
    }
}
