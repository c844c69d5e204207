//! The process's environment, in Docker's order.

use std::collections::HashMap;

use crate::config::Config;

/// What `PATH` is where nobody sets it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `PATH`, `HOSTNAME`, `TERM` (terminal only), links, then image and user. A later value of a name
/// takes the place of the earlier one; a name without `=` takes it out.
pub fn environment(config: &Config, links: &[String]) -> Vec<String> {
    let mut all = vec![PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if config.tty {
        all.push("TERM=xterm".to_owned());
    }
    merge(&mut all, links);
    merge(&mut all, &config.env);
    all
}

/// Puts each variable where its name stands already, else at the end.
pub(crate) fn merge(all: &mut Vec<String>, more: &[String]) {
    // Looked up by name: many links give thousands of variables.
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, variable) in all.iter().enumerate() {
        places.entry(key(variable).to_owned()).or_insert(place);
    }
    let mut gone = Vec::new();
    for variable in more {
        let name = key(variable);
        match (places.get(name), variable.contains('=')) {
            (Some(place), true) => all[*place].clone_from(variable),
            (None, true) => {
                places.insert(name.to_owned(), all.len());
                all.push(variable.clone());
            }
            (Some(place), false) => {
                gone.push(*place);
                places.remove(name);
            }
            (None, false) => {}
        }
    }
    gone.sort_unstable();
    for place in gone.into_iter().rev() {
        all.remove(place);
    }
}

/// The name of a variable.
pub(crate) fn key(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tty: bool, links: &[&str], env: &[&str], expected: &[&str]) {
        let own =
            |list: &[&str]| -> Vec<String> { list.iter().map(|&text| text.to_owned()).collect() };
        let config = Config {
            hostname: "h".to_owned(),
            tty,
            env: own(env),
            ..Config::default()
        };
        assert_eq!(environment(&config, &own(links)), expected);
    }

    #[test]
    fn the_order_is_dockers_and_the_user_wins() {
        check(false, &[], &[], &[PATH, "HOSTNAME=h"]);
        check(
            true,
            &[],
            &["A=1"],
            &[PATH, "HOSTNAME=h", "TERM=xterm", "A=1"],
        );
        check(
            true,
            &["DB_NAME=/r/db", "DB_PORT=tcp://1:2"],
            &["PATH=/bin", "B=2", "DB_NAME=mine", "A=1=2", "B=3"],
            &[
                "PATH=/bin",
                "HOSTNAME=h",
                "TERM=xterm",
                "DB_NAME=mine",
                "DB_PORT=tcp://1:2",
                "B=3",
                "A=1=2",
            ],
        );
        check(false, &[], &["HOSTNAME", "NOSUCH"], &[PATH]);
        check(
            false,
            &["A=1", "B=2"],
            &["A", "C=3", "HOSTNAME", "A=4"],
            &[PATH, "B=2", "C=3", "A=4"],
        );
    }
}
