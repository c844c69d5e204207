//! `user[:group]` → numbers, from the container's own passwd and group files.
//!
//! Own parser: the C library's would load the host's name service into a container's process.

use crate::request::UserRequest;

/// Who the program runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub user: u32,
    /// Primary group.
    pub group: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory; `/` where the user has no entry.
    pub home: String,
}

/// The user or group does not exist in the container; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownUser {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// A number that no kernel takes.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
}

struct Account<'a> {
    name: &'a str,
    user: u32,
    group: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    group: u32,
    members: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(Account {
            name,
            user,
            group,
            home,
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or("");
        Some(Group {
            name,
            group,
            members,
        })
    })
}

fn number(text: &str) -> Result<Option<u32>, UnknownUser> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(value) if value <= i32::MAX.cast_unsigned() => Ok(Some(value)),
        _ => Err(UnknownUser::Range),
    }
}

/// Finds out who is meant.
///
/// A name must have an entry, a number need not. Without a group given, it is the user's primary
/// group (0 without an entry) with the groups that list the user's name as supplementary ones; a
/// group given replaces them all. The primary group is repeated in the list, as Docker does.
///
/// # Errors
/// [`UnknownUser`].
pub fn resolve(request: &UserRequest, passwd: &str, group: &str) -> Result<Identity, UnknownUser> {
    let (user, primary) = match request.user.split_once(':') {
        Some((user, primary)) => (user, Some(primary).filter(|text| !text.is_empty())),
        None => (request.user.as_str(), None),
    };
    let wanted = number(user)?;
    let account = accounts(passwd).find(|account| match (user, wanted) {
        ("", _) => account.user == 0,
        // A user whose name is a number is found by it first, as useradd(8) would have it.
        (name, Some(id)) => account.name == name || account.user == id,
        (name, None) => account.name == name,
    });
    let mut identity = match (&account, wanted) {
        (Some(account), _) => Identity {
            user: account.user,
            group: account.group,
            groups: Vec::new(),
            home: account.home.to_owned(),
        },
        (None, Some(id)) => Identity {
            user: id,
            ..Identity::default()
        },
        (None, None) if user.is_empty() => Identity::default(),
        (None, None) => return Err(UnknownUser::User(user.to_owned())),
    };
    match primary {
        Some(primary) => identity.group = find_group(primary, group)?,
        None => {
            if let Some(account) = &account {
                let listed = groups(group)
                    .filter(|group| group.members.split(',').any(|name| name == account.name))
                    .map(|group| group.group);
                identity.groups.extend(listed);
            }
        }
    }
    for extra in &request.groups {
        let id = find_group(extra, group)?;
        identity.groups.push(id);
    }
    let mut all = vec![identity.group];
    for id in identity.groups {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    identity.groups = all;
    if identity.home.is_empty() {
        identity.home = "/".to_owned();
    }
    Ok(identity)
}

fn find_group(text: &str, group: &str) -> Result<u32, UnknownUser> {
    let wanted = number(text)?;
    groups(group)
        .find(|group| group.name == text)
        .map(|group| group.group)
        .or(wanted)
        .ok_or_else(|| UnknownUser::Group(text.to_owned()))
}

/// The home directory of a user known by number.
pub fn home_of(user: u32, passwd: &str) -> String {
    accounts(passwd)
        .find(|account| account.user == user)
        .map(|account| account.home)
        .filter(|home| !home.is_empty())
        .unwrap_or("/")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken line\n\
                          web:x:33:34:w:/srv:/bin/false\n1000:x:7:7::/seven:\nnohome:x:9:9:::\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:40:root,web\nnames:x:41:website\n";

    fn ask(user: &str, groups: &[&str]) -> Result<Identity, String> {
        let request = UserRequest {
            user: user.to_owned(),
            groups: groups.iter().map(|name| (*name).to_owned()).collect(),
        };
        resolve(&request, PASSWD, GROUP).map_err(|error| error.to_string())
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let cases = [
            ("", (0, 0, vec![0, 40], "/root")),
            ("root", (0, 0, vec![0, 40], "/root")),
            ("web", (33, 34, vec![34, 40], "/srv")),
            ("33", (33, 34, vec![34, 40], "/srv")),
            ("web:", (33, 34, vec![34, 40], "/srv")),
            ("web:log", (33, 40, vec![40], "/srv")),
            ("web:6789", (33, 6789, vec![6789], "/srv")),
            ("4711", (4711, 0, vec![0], "/")),
            ("4711:12", (4711, 12, vec![12], "/")),
            ("1000", (7, 7, vec![7], "/seven")),
            ("nohome", (9, 9, vec![9], "/")),
            (":log", (0, 40, vec![40], "/root")),
        ];
        for (text, (user, group, groups, home)) in cases {
            let found = ask(text, &[]).unwrap();
            assert_eq!((found.user, found.group), (user, group), "{text}");
            assert_eq!(found.groups, groups, "{text}");
            assert_eq!(found.home, home, "{text}");
        }
        assert_eq!(ask("web", &["77", "log"]).unwrap().groups, [34, 40, 77]);
    }

    #[test]
    fn what_is_not_there_has_dockers_words() {
        let cases = [
            (
                "nosuchuser",
                "unable to find user nosuchuser: no matching entries in passwd file",
            ),
            (
                "web:nogrp",
                "unable to find group nogrp: no matching entries in group file",
            ),
            ("4294967296", "uids and gids must be in range 0-2147483647"),
            (
                "-1",
                "unable to find user -1: no matching entries in passwd file",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(ask(text, &[]).unwrap_err(), message);
        }
        let error = ask("web", &["nogrp"]).unwrap_err();
        assert_eq!(
            error,
            "unable to find group nogrp: no matching entries in group file"
        );
    }

    #[test]
    fn an_image_without_files_knows_root_and_numbers() {
        let ask = |user: &str| {
            let request = UserRequest {
                user: user.to_owned(),
                groups: Vec::new(),
            };
            resolve(&request, "", "")
        };
        assert_eq!(ask("").unwrap().home, "/");
        assert_eq!(ask("5").unwrap().user, 5);
        assert!(ask("root").is_err());
        assert_eq!(home_of(33, PASSWD), "/srv");
    }
}
