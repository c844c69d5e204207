//! Which branch takes a new object, and which takes a copy: pure choices over plain facts.

use std::fmt;

use crate::union::permission::Amount;

/// How a new object's branch is chosen (`create=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// The topmost branch that has the parent directory, else the nearest writable one.
    TopDownParent,
    /// In turn over the writable branches.
    RoundRobin,
    /// The branch with most free space; the answer is kept so many seconds.
    MostFreeSpace(u64),
    /// As most free space, but round robin while the winner has less than this.
    MostFreeSpaceOrRoundRobin(Amount, u64),
    /// Of the branches that have the parent, the one with most free space.
    ParentMostFreeSpace(u64),
    /// As before; when all that have the parent are below this, over all branches.
    ParentMostFreeSpaceOrRoundRobin(Amount, u64),
    /// The highest branch with more than this free, else most free space.
    TopDownMostFreeSpace(Amount, u64),
    /// By a measure of mergerfs's, over all branches.
    Any(Measure),
    /// By a measure of mergerfs's, over branches that have the parent and no other.
    Existing(Measure),
}

/// What mergerfs's policies choose by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The branch named first.
    First,
    /// Most free space.
    MostFree,
    /// Least free space.
    LeastFree,
    /// Least used space.
    LeastUsed,
    /// Least used part of the size.
    LeastUsedPart,
    /// By chance.
    Chance,
    /// By chance, the likelier the more is free.
    ChanceByFree,
}

impl Measure {
    /// All of them, as mergerfs spells them; `Any` of `mfs` is aufs's own.
    pub(crate) const ALL: &[(&str, Self)] = &[
        ("ff", Self::First),
        ("mfs", Self::MostFree),
        ("lfs", Self::LeastFree),
        ("lus", Self::LeastUsed),
        ("lup", Self::LeastUsedPart),
        ("rand", Self::Chance),
        ("pfrd", Self::ChanceByFree),
    ];
}

impl fmt::Display for Create {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |measure: &Measure| {
            let found = Measure::ALL.iter().find(|(_, known)| known == measure);
            found.map_or("", |(word, _)| *word)
        };
        match self {
            Self::TopDownParent => out.write_str("tdp"),
            Self::RoundRobin => out.write_str("rr"),
            Self::MostFreeSpace(sec) => write!(out, "mfs:{sec}"),
            Self::MostFreeSpaceOrRoundRobin(low, sec) => write!(out, "mfsrr:{low}:{sec}"),
            Self::ParentMostFreeSpace(sec) => write!(out, "pmfs:{sec}"),
            Self::ParentMostFreeSpaceOrRoundRobin(low, sec) => write!(out, "pmfsrr:{low}:{sec}"),
            Self::TopDownMostFreeSpace(low, sec) => write!(out, "tdmfs:{low}:{sec}"),
            Self::Any(measure) => out.write_str(word(measure)),
            Self::Existing(measure) => write!(out, "ep{}", word(measure)),
        }
    }
}

impl Create {
    /// Whether the choice depends on how full the branches are.
    pub(crate) fn needs_space(self, members: &super::branch::Members) -> bool {
        let by_name = matches!(
            self,
            Self::TopDownParent
                | Self::RoundRobin
                | Self::Any(Measure::First | Measure::Chance)
                | Self::Existing(Measure::First | Measure::Chance)
        );
        let reserves = members.settings.reserve != Amount::ZERO
            || members
                .branches
                .iter()
                .any(|branch| branch.permission.reserve != Amount::ZERO);
        !by_name || reserves
    }

    /// Whether the choice is left to chance.
    pub(crate) fn needs_chance(self) -> bool {
        matches!(
            self,
            Self::Any(Measure::Chance | Measure::ChanceByFree)
                | Self::Existing(Measure::Chance | Measure::ChanceByFree)
        )
    }
}

/// How the target of a copy-up is chosen (`cpup=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyUp {
    /// The highest branch above the source that has the parent, else the nearest one above.
    TopDownParent,
    /// The nearest branch above the source that has the parent, else the nearest one above.
    BottomUpParent,
    /// The nearest branch above the source.
    BottomUp,
}

impl fmt::Display for CopyUp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TopDownParent => "tdp",
            Self::BottomUpParent => "bup",
            Self::BottomUp => "bu",
        })
    }
}

/// What a choice needs to know of one branch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View {
    /// New objects may be placed here.
    pub(crate) creatable: bool,
    /// The parent directory exists here.
    pub(crate) has_parent: bool,
    /// Bytes in all.
    pub(crate) size: u64,
    /// Bytes available to ordinary users.
    pub(crate) free: u64,
    /// Bytes in use.
    pub(crate) used: u64,
    /// Bytes to leave free.
    pub(crate) reserve: u64,
}

/// The branches to try for a new object, best first; none means that no branch can take it.
///
/// `bound` is the last branch in which the object would be visible, `turn` the rotation, or a
/// number by chance.
pub(crate) fn create(policy: Create, views: &[View], bound: usize, turn: u64) -> Vec<usize> {
    let all: Vec<usize> = (0..views.len())
        .filter(|&at| views[at].creatable && at <= bound)
        .filter(|&at| views[at].has_parent || !matches!(policy, Create::Existing(_)))
        .collect();
    let roomy: Vec<usize> = all
        .iter()
        .copied()
        .filter(|&at| views[at].free >= views[at].reserve)
        .collect();
    let pool = if roomy.is_empty() { all.clone() } else { roomy };
    let mut order = preferred(policy, views, &pool, turn);
    for at in pool.into_iter().chain(all) {
        if !order.contains(&at) {
            order.push(at);
        }
    }
    order
}

fn preferred(policy: Create, views: &[View], pool: &[usize], turn: u64) -> Vec<usize> {
    let with_parent = || -> Vec<usize> {
        let found: Vec<usize> = pool
            .iter()
            .copied()
            .filter(|&at| views[at].has_parent)
            .collect();
        if found.is_empty() {
            pool.to_vec()
        } else {
            found
        }
    };
    match policy {
        Create::TopDownParent => top_down_parent(views, pool),
        Create::RoundRobin => rotate(pool, turn),
        Create::MostFreeSpace(_) => by_free(views, pool),
        Create::MostFreeSpaceOrRoundRobin(low, _) => free_or_turn(views, pool, low, turn),
        Create::ParentMostFreeSpace(_) | Create::ParentMostFreeSpaceOrRoundRobin(..) => {
            if !pool.iter().any(|&at| views[at].has_parent) {
                return top_down_parent(views, pool);
            }
            let order = by_free(views, &with_parent());
            match policy {
                Create::ParentMostFreeSpaceOrRoundRobin(low, _)
                    if order
                        .first()
                        .is_none_or(|&at| views[at].free < low.of(views[at].size)) =>
                {
                    free_or_turn(views, pool, low, turn)
                }
                _ => order,
            }
        }
        Create::TopDownMostFreeSpace(low, _) => {
            match pool
                .iter()
                .copied()
                .find(|&at| views[at].free > low.of(views[at].size))
            {
                Some(at) => vec![at],
                None => by_free(views, pool),
            }
        }
        Create::Any(measure) | Create::Existing(measure) => by_measure(measure, views, pool, turn),
    }
}

fn by_measure(measure: Measure, views: &[View], pool: &[usize], turn: u64) -> Vec<usize> {
    match measure {
        Measure::First => pool.to_vec(),
        Measure::MostFree => by_free(views, pool),
        Measure::LeastFree => sorted(pool, |at| views[at].free),
        Measure::LeastUsed => sorted(pool, |at| views[at].used),
        Measure::LeastUsedPart => sorted(pool, |at| {
            let part = u128::from(views[at].used) << 32;
            u64::try_from(part / u128::from(views[at].size.max(1))).unwrap_or(u64::MAX)
        }),
        Measure::Chance => rotate(pool, turn),
        Measure::ChanceByFree => {
            let all: u64 = pool.iter().map(|&at| views[at].free >> 10).sum();
            let mut point = turn % all.max(1);
            let hit = pool.iter().position(|&at| {
                let free = views[at].free >> 10;
                let here = point < free;
                point = point.saturating_sub(free);
                here
            });
            let mut order = pool.to_vec();
            order.rotate_left(hit.unwrap_or(0));
            order
        }
    }
}

fn top_down_parent(views: &[View], pool: &[usize]) -> Vec<usize> {
    let Some(parent) = views.iter().position(|view| view.has_parent) else {
        return pool.to_vec();
    };
    let here = pool.iter().copied().find(|&at| at == parent);
    let above = pool.iter().copied().rfind(|&at| at < parent);
    let below = pool
        .iter()
        .copied()
        .find(|&at| at > parent && views[at].has_parent);
    let lowest = pool.iter().copied().find(|&at| at > parent);
    here.or(above).or(below).or(lowest).into_iter().collect()
}

/// First turn the first branch, then downwards from the last: 1, 3, 2 with three branches.
fn rotate(pool: &[usize], turn: u64) -> Vec<usize> {
    let count = pool.len();
    if count == 0 {
        return Vec::new();
    }
    let step = usize::try_from(turn % count as u64).unwrap_or(0);
    (0..count)
        .map(|next| pool[(2 * count - step - next) % count])
        .collect()
}

fn by_free(views: &[View], pool: &[usize]) -> Vec<usize> {
    sorted(pool, |at| u64::MAX - views[at].free)
}

fn sorted(pool: &[usize], key: impl Fn(usize) -> u64) -> Vec<usize> {
    let mut order = pool.to_vec();
    order.sort_by_key(|&at| key(at)); // stable: of equals, the branch named first
    order
}

fn free_or_turn(views: &[View], pool: &[usize], low: Amount, turn: u64) -> Vec<usize> {
    let order = by_free(views, pool);
    match order.first() {
        Some(&at) if views[at].free >= low.of(views[at].size) => order,
        _ => rotate(pool, turn),
    }
}

/// The branch that takes a copy of an object of branch `source`; always above it.
pub(crate) fn copy_up(policy: CopyUp, views: &[View], source: usize) -> Option<usize> {
    let above = || (0..source.min(views.len())).filter(|&at| views[at].creatable);
    let nearest = above().next_back();
    match policy {
        CopyUp::TopDownParent => above().find(|&at| views[at].has_parent).or(nearest),
        CopyUp::BottomUpParent => above().rfind(|&at| views[at].has_parent).or(nearest),
        CopyUp::BottomUp => nearest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter per branch: `w` writable, `W` writable with the parent, `r` read-only, `R`
    /// read-only with the parent; free space follows.
    fn views(text: &str, free: &[u64]) -> Vec<View> {
        text.chars()
            .enumerate()
            .map(|(at, letter)| View {
                creatable: matches!(letter, 'w' | 'W'),
                has_parent: letter.is_uppercase(),
                free: free.get(at).copied().unwrap_or(100),
                size: 100,
                used: 100_u64.saturating_sub(free.get(at).copied().unwrap_or(100)),
                ..View::default()
            })
            .collect()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn chooses_the_branch_for_a_new_object() {
        use Create::*;
        type Case<'a> = (Create, &'a str, &'a [u64], usize, u64, Option<usize>);
        let cases: &[Case<'_>] = &[
            (TopDownParent, "WR", &[], 1, 0, Some(0)),
            (TopDownParent, "wW", &[], 1, 0, Some(1)),
            (TopDownParent, "wR", &[], 1, 0, Some(0)),
            (TopDownParent, "RW", &[], 1, 0, Some(1)),
            (TopDownParent, "Rw", &[], 1, 0, Some(1)),
            (TopDownParent, "wRW", &[], 2, 0, Some(0)),
            (TopDownParent, "RR", &[], 1, 0, None),
            (TopDownParent, "Rw", &[], 0, 0, None),
            (RoundRobin, "WWW", &[], 2, 0, Some(0)),
            (RoundRobin, "WWW", &[], 2, 1, Some(2)),
            (RoundRobin, "WWW", &[], 2, 2, Some(1)),
            (RoundRobin, "WWW", &[], 2, 3, Some(0)),
            (RoundRobin, "WRW", &[], 2, 1, Some(2)),
            (RoundRobin, "WWW", &[], 0, 1, Some(0)),
            (MostFreeSpace(0), "WWW", &[1, 3, 2], 2, 0, Some(1)),
            (MostFreeSpace(0), "WWW", &[3, 3, 3], 2, 0, Some(0)),
            (MostFreeSpace(0), "WRW", &[1, 9, 2], 0, 0, Some(0)),
            (
                MostFreeSpaceOrRoundRobin(Amount::Bytes(10), 0),
                "WW",
                &[5, 20],
                1,
                0,
                Some(1),
            ),
            (
                MostFreeSpaceOrRoundRobin(Amount::Bytes(50), 0),
                "WW",
                &[5, 20],
                1,
                0,
                Some(0),
            ),
            (ParentMostFreeSpace(0), "wWW", &[90, 5, 20], 2, 0, Some(2)),
            (ParentMostFreeSpace(0), "wRr", &[90, 5, 20], 2, 0, Some(0)),
            (
                ParentMostFreeSpaceOrRoundRobin(Amount::Bytes(50), 0),
                "wWW",
                &[90, 5, 20],
                2,
                0,
                Some(0),
            ),
            (
                ParentMostFreeSpaceOrRoundRobin(Amount::Bytes(10), 0),
                "wWW",
                &[90, 5, 20],
                2,
                0,
                Some(2),
            ),
            (
                TopDownMostFreeSpace(Amount::Bytes(10), 0),
                "www",
                &[5, 20, 90],
                2,
                0,
                Some(1),
            ),
            (
                TopDownMostFreeSpace(Amount::Bytes(99), 0),
                "www",
                &[5, 20, 90],
                2,
                0,
                Some(2),
            ),
            (Existing(Measure::First), "wWW", &[], 2, 0, Some(1)),
            (
                Existing(Measure::MostFree),
                "wWW",
                &[90, 5, 20],
                2,
                0,
                Some(2),
            ),
            (Existing(Measure::First), "wRw", &[], 2, 0, None),
            (Any(Measure::LeastFree), "WWW", &[5, 3, 20], 2, 0, Some(1)),
            (Any(Measure::LeastUsed), "WWW", &[5, 3, 20], 2, 0, Some(2)),
            (
                Any(Measure::LeastUsedPart),
                "WWW",
                &[5, 3, 20],
                2,
                0,
                Some(2),
            ),
            (
                Any(Measure::ChanceByFree),
                "WWW",
                &[2048, 0, 1024],
                2,
                1,
                Some(0),
            ),
            (
                Any(Measure::ChanceByFree),
                "WWW",
                &[2048, 0, 1024],
                2,
                2,
                Some(2),
            ),
            (
                TopDownMostFreeSpace(Amount::Percent(10), 0),
                "www",
                &[5, 20, 90],
                2,
                0,
                Some(1),
            ),
        ];
        for (number, (policy, text, free, bound, turn, want)) in cases.iter().enumerate() {
            let got = create(*policy, &views(text, free), *bound, *turn);
            assert_eq!(
                got.first(),
                want.as_ref(),
                "case {number}: {policy:?} {text}"
            );
        }
    }

    #[test]
    fn gives_every_branch_its_fair_share() {
        let views = views("WWW", &[]);
        let mut counts = [0; 3];
        for turn in 0..9 {
            counts[create(Create::RoundRobin, &views, 2, turn)[0]] += 1;
        }
        assert_eq!(counts, [3, 3, 3]);
    }

    #[test]
    fn names_further_branches_for_a_full_one() {
        let order = create(Create::TopDownParent, &views("WRw", &[]), 2, 0);
        assert_eq!(order, [0, 2]);
    }

    #[test]
    fn leaves_a_reserve_unless_all_are_below_theirs() {
        let mut facts = views("WW", &[5, 50]);
        facts[0].reserve = 10;
        assert_eq!(create(Create::Any(Measure::First), &facts, 1, 0)[0], 1);
        facts[1].reserve = 100;
        assert_eq!(create(Create::Any(Measure::First), &facts, 1, 0)[0], 0);
    }

    #[test]
    fn copies_upwards_only() {
        use CopyUp::*;
        let cases: &[(CopyUp, &str, usize, Option<usize>)] = &[
            (TopDownParent, "WWR", 2, Some(0)),
            (TopDownParent, "wWR", 2, Some(1)),
            (TopDownParent, "wwR", 2, Some(1)),
            (BottomUpParent, "WwR", 2, Some(0)),
            (BottomUpParent, "WWR", 2, Some(1)),
            (BottomUp, "WwR", 2, Some(1)),
            (BottomUp, "RW", 0, None),
            (TopDownParent, "rR", 1, None),
        ];
        for (policy, text, source, want) in cases {
            assert_eq!(
                copy_up(*policy, &views(text, &[]), *source),
                *want,
                "{policy:?} {text}"
            );
        }
    }
}
