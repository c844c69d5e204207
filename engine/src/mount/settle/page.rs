//! The tables of the users' page, made from what `settle` does and compared with the page.

use super::*;
use crate::config::Empty;

const PAGE: &str = include_str!("../../../../docs/volumes.md");

/// The rows of a table on the page, without its head.
fn on_the_page(name: &str) -> Vec<&'static str> {
    let begin = format!("<!-- compared: {name} -->\n");
    let (_, rest) = PAGE.split_once(&begin).expect("the page has this table");
    let (table, _) = rest.split_once("<!-- end -->").expect("the table ends");
    table.lines().skip(2).collect()
}

fn from(name: &str, writable: bool, read_only: bool) -> Inherited {
    let mount = MountPoint {
        name: name.to_owned(),
        writable,
        ..MountPoint::new(MountKind::Volume, "", "/data")
    };
    Inherited {
        read_only,
        mounts: vec![mount],
    }
}

fn row(cells: &[&str]) -> String {
    let cells: String = cells
        .iter()
        .map(|cell| match cell.is_empty() {
            true => " |".to_owned(),
            false => format!(" {cell} |"),
        })
        .collect();
    format!("|{cells}")
}

fn settled(image: bool, inherited: &[Inherited], asked: bool) -> Option<MountPoint> {
    let config = Config {
        volumes: image.then(|| [("/data".to_owned(), Empty {})].into()),
        ..Config::default()
    };
    let host = HostConfig {
        binds: asked.then(|| vec!["asked:/data".to_owned()]),
        ..HostConfig::default()
    };
    let wishes = Wishes {
        config: &config,
        host: &host,
        inherited,
    };
    settle(wishes).expect("these wishes agree").pop()
}

#[test]
fn the_page_tells_who_wins() {
    let mut rows = Vec::new();
    for bits in 0_u8..16 {
        let [image, first, later, asked] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let mut inherited = Vec::new();
        if first {
            inherited.push(from("first", true, false));
        }
        if later {
            inherited.push(from("later", true, false));
        }
        let gets = match settled(image, &inherited, asked) {
            None => "nothing",
            Some(mount) if mount.anonymous => "an anonymous volume",
            Some(mount) => match mount.name.as_str() {
                "first" => "the first one's",
                "later" => "the later one's",
                "asked" => "what was asked for",
                other => panic!("{other}"),
            },
        };
        let yes = |is: bool| if is { "yes" } else { "" };
        rows.push(row(&[yes(image), yes(first), yes(later), yes(asked), gets]));
    }
    assert_eq!(on_the_page("precedence"), rows);
}

#[test]
fn the_page_tells_what_is_inherited() {
    let word = |writable: bool| if writable { "`rw`" } else { "`ro`" };
    let mut rows = Vec::new();
    for writable in [true, false] {
        for modes in [&["name", "name:rw"][..], &["name:ro"]] {
            let inherited = modes.iter().map(|text| {
                let read_only = VolumesFrom::parse(text).expect("it is one").read_only;
                let mount = settled(false, &[from("v", writable, read_only)], false);
                mount.expect("it is inherited").writable
            });
            let mut inherited: Vec<bool> = inherited.collect();
            inherited.dedup();
            let [inherited] = inherited[..] else {
                panic!("{modes:?} differ");
            };
            let typed: Vec<String> = modes.iter().map(|mode| format!("`{mode}`")).collect();
            rows.push(row(&[word(writable), &typed.join(", "), word(inherited)]));
        }
    }
    assert_eq!(on_the_page("rights"), rows);
}
