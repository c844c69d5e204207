//! The user's wish and the image's config become one (pure): the user wins, the image fills gaps.

use image::config::RunConfig;

use crate::config::{Config, Empty, Healthcheck};
use crate::spec::variable_name;

/// Fills what the user left open.
pub(super) fn merge(mut config: Config, image: &RunConfig) -> Config {
    fill(&mut config.user, &image.user);
    fill(&mut config.working_dir, &image.working_dir);
    for port in image.exposed_ports.keys() {
        config.exposed_ports.insert(port.clone(), Empty {});
    }
    for variable in &image.env {
        let name = variable_name(variable);
        if !config.env.iter().any(|have| variable_name(have) == name) {
            config.env.push(variable.clone());
        }
    }
    for (name, value) in image.labels.iter().flatten() {
        config
            .labels
            .entry(name.clone())
            .or_insert_with(|| value.clone());
    }
    let places = image.volumes.iter().flatten().map(|(place, _)| place);
    for place in places {
        config
            .volumes
            .get_or_insert_default()
            .insert(place.clone(), Empty {});
    }
    command(&mut config, image);
    config.healthcheck = healthcheck(config.healthcheck.take(), image);
    config.stop_signal = config
        .stop_signal
        .take()
        .or_else(|| image.stop_signal.clone());
    config.stop_timeout = config.stop_timeout.or(image.stop_timeout);
    config.shell = config.shell.take().or_else(|| image.shell.clone());
    config
}

fn fill(mine: &mut String, images: &str) {
    if mine.is_empty() {
        images.clone_into(mine);
    }
}

/// Arguments replace `CMD`; an entrypoint of the user's replaces the image's and drops its `CMD`;
/// an empty one drops both.
fn command(config: &mut Config, image: &RunConfig) {
    let given = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    match config.entrypoint.take() {
        Some(words) => {
            let empty = words.iter().all(String::is_empty);
            config.entrypoint = (!empty).then_some(words);
            config.cmd = given(&config.cmd);
        }
        None => {
            config.entrypoint = given(&image.entrypoint);
            config.cmd = given(&config.cmd).or_else(|| image.cmd.clone());
        }
    }
}

/// Each field of the check that the user leaves at nothing is the image's.
fn healthcheck(mine: Option<Healthcheck>, image: &RunConfig) -> Option<Healthcheck> {
    let images = image.healthcheck.as_ref().map(|check| Healthcheck {
        test: check.test.clone(),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    });
    let (mut mine, images) = match (mine, images) {
        (Some(mine), Some(images)) => (mine, images),
        (mine, images) => return mine.or(images),
    };
    if mine.test.is_empty() {
        mine.test = images.test;
    }
    for (field, image) in [
        (&mut mine.interval, images.interval),
        (&mut mine.timeout, images.timeout),
        (&mut mine.start_period, images.start_period),
        (&mut mine.start_interval, images.start_interval),
        (&mut mine.retries, images.retries),
    ] {
        if *field == 0 {
            *field = image;
        }
    }
    Some(mine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// `-` is absent; the words of the whole command, or nothing.
    #[test]
    fn entrypoint_and_arguments() {
        let list = |text: &str| (text != "-").then(|| words(text));
        for (image_entry, image_cmd, entry, cmd, expected) in [
            ("-", "-", "-", "-", ""),
            ("-", "c d", "-", "-", "c d"),
            ("E p", "-", "-", "-", "E p"),
            ("E p", "c d", "-", "-", "E p c d"),
            ("E p", "c d", "-", "x", "E p x"),
            ("-", "c d", "-", "x y", "x y"),
            ("E p", "c d", "X", "-", "X"),
            ("E p", "c d", "X", "y", "X y"),
            ("E p", "c d", "", "-", ""),
            ("E p", "c d", "", "y", "y"),
            ("E p", "/bin/sh -c c", "-", "-", "E p /bin/sh -c c"),
        ] {
            let image = RunConfig {
                entrypoint: list(image_entry),
                cmd: list(image_cmd),
                ..RunConfig::default()
            };
            let config = Config {
                entrypoint: (entry != "-").then(|| vec![entry.to_owned()]),
                cmd: list(cmd),
                ..Config::default()
            };
            let merged = merge(config, &image);
            let mut all = merged.entrypoint.unwrap_or_default();
            all.extend(merged.cmd.unwrap_or_default());
            assert_eq!(
                all,
                words(expected),
                "{image_entry}|{image_cmd}|{entry}|{cmd}"
            );
        }
    }

    #[test]
    fn the_user_wins_and_the_image_fills() {
        let image = RunConfig {
            user: "image".to_owned(),
            working_dir: "/image".to_owned(),
            env: words("A=image B=image"),
            labels: Some(
                [("a", "image"), ("b", "image")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
            ),
            exposed_ports: [("80/tcp".to_owned(), image::config::Empty {})].into(),
            volumes: Some([("/v".to_owned(), image::config::Empty {})].into()),
            stop_signal: Some("SIGQUIT".to_owned()),
            ..RunConfig::default()
        };
        let config = Config {
            user: "mine".to_owned(),
            env: words("B=mine C=mine"),
            labels: [("b".to_owned(), "mine".to_owned())].into(),
            exposed_ports: [("81/tcp".to_owned(), Empty {})].into(),
            ..Config::default()
        };
        let merged = merge(config, &image);
        assert_eq!(merged.user, "mine");
        assert_eq!(merged.working_dir, "/image");
        assert_eq!(merged.env, words("B=mine C=mine A=image"));
        assert_eq!(merged.labels["a"], "image");
        assert_eq!(merged.labels["b"], "mine");
        assert_eq!(merged.exposed_ports.len(), 2);
        assert!(merged.volumes.unwrap().contains_key("/v"));
        assert_eq!(merged.stop_signal.unwrap(), "SIGQUIT");
    }

    #[test]
    fn a_health_check_is_filled_field_by_field() {
        let image = RunConfig {
            healthcheck: Some(image::config::Healthcheck {
                test: words("CMD true"),
                interval: 5,
                retries: 2,
                ..image::config::Healthcheck::default()
            }),
            ..RunConfig::default()
        };
        let mine = Config {
            healthcheck: Some(Healthcheck {
                interval: 7,
                ..Healthcheck::default()
            }),
            ..Config::default()
        };
        let merged = merge(mine, &image).healthcheck.unwrap();
        assert_eq!((merged.interval, merged.retries), (7, 2));
        assert_eq!(merged.test, words("CMD true"));
        assert!(
            merge(Config::default(), &RunConfig::default())
                .healthcheck
                .is_none()
        );
    }
}
