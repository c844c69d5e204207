//! Which branch takes a new object, and which takes a copy: pure choices over plain facts.

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
    MostFreeSpaceOrRoundRobin(u64, u64),
    /// Of the branches that have the parent, the one with most free space.
    ParentMostFreeSpace(u64),
    /// As before; when all that have the parent are below this, over all branches.
    ParentMostFreeSpaceOrRoundRobin(u64, u64),
    /// The highest branch with more than this free, else most free space.
    TopDownMostFreeSpace(u64, u64),
    /// The first branch that has its reserve free (mergerfs).
    FirstFound,
    /// As first found, among branches that have the parent (mergerfs).
    ExistingFirstFound,
    /// As most free space, among branches that have the parent (mergerfs).
    ExistingMostFreeSpace,
    /// The branch with least free space (mergerfs).
    LeastFreeSpace,
    /// The branch with least used space (mergerfs).
    LeastUsedSpace,
    /// Any branch, by chance (mergerfs).
    Random,
}

impl Create {
    /// Whether the choice depends on how full the branches are.
    pub(crate) fn needs_space(self, members: &super::branch::Members) -> bool {
        let by_name = matches!(self, Self::TopDownParent | Self::RoundRobin | Self::Random);
        let reserves = members.settings.reserve > 0
            || members
                .branches
                .iter()
                .any(|branch| branch.permission.reserve > 0);
        !by_name || reserves
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

/// What a choice needs to know of one branch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View {
    /// New objects may be placed here.
    pub(crate) creatable: bool,
    /// The parent directory exists here.
    pub(crate) has_parent: bool,
    /// Bytes available to ordinary users.
    pub(crate) free: u64,
    /// Bytes in use.
    pub(crate) used: u64,
    /// Bytes to leave free.
    pub(crate) reserve: u64,
}

/// The branches to try for a new object, best first; none means that no branch can take it.
///
/// `bound` is the last branch in which the object would be visible, `turn` the rotation.
pub(crate) fn create(policy: Create, views: &[View], bound: usize, turn: u64) -> Vec<usize> {
    let all: Vec<usize> = (0..views.len())
        .filter(|&at| views[at].creatable && at <= bound)
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
                    if order.first().is_none_or(|&at| views[at].free < low) =>
                {
                    free_or_turn(views, pool, low, turn)
                }
                _ => order,
            }
        }
        Create::TopDownMostFreeSpace(low, _) => {
            match pool.iter().copied().find(|&at| views[at].free > low) {
                Some(at) => vec![at],
                None => by_free(views, pool),
            }
        }
        Create::FirstFound => pool.to_vec(),
        Create::ExistingFirstFound => with_parent(),
        Create::ExistingMostFreeSpace => by_free(views, &with_parent()),
        Create::LeastFreeSpace => sorted(pool, |at| views[at].free),
        Create::LeastUsedSpace => sorted(pool, |at| views[at].used),
        Create::Random => rotate(pool, turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32),
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

fn free_or_turn(views: &[View], pool: &[usize], low: u64, turn: u64) -> Vec<usize> {
    let order = by_free(views, pool);
    match order.first() {
        Some(&at) if views[at].free >= low => order,
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
                MostFreeSpaceOrRoundRobin(10, 0),
                "WW",
                &[5, 20],
                1,
                0,
                Some(1),
            ),
            (
                MostFreeSpaceOrRoundRobin(50, 0),
                "WW",
                &[5, 20],
                1,
                0,
                Some(0),
            ),
            (ParentMostFreeSpace(0), "wWW", &[90, 5, 20], 2, 0, Some(2)),
            (ParentMostFreeSpace(0), "wRr", &[90, 5, 20], 2, 0, Some(0)),
            (
                ParentMostFreeSpaceOrRoundRobin(50, 0),
                "wWW",
                &[90, 5, 20],
                2,
                0,
                Some(0),
            ),
            (
                ParentMostFreeSpaceOrRoundRobin(10, 0),
                "wWW",
                &[90, 5, 20],
                2,
                0,
                Some(2),
            ),
            (
                TopDownMostFreeSpace(10, 0),
                "www",
                &[5, 20, 90],
                2,
                0,
                Some(1),
            ),
            (
                TopDownMostFreeSpace(99, 0),
                "www",
                &[5, 20, 90],
                2,
                0,
                Some(2),
            ),
            (ExistingFirstFound, "wWW", &[], 2, 0, Some(1)),
            (ExistingMostFreeSpace, "wWW", &[90, 5, 20], 2, 0, Some(2)),
            (LeastFreeSpace, "WWW", &[5, 3, 20], 2, 0, Some(1)),
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
        assert_eq!(create(Create::FirstFound, &facts, 1, 0)[0], 1);
        facts[1].reserve = 100;
        assert_eq!(create(Create::FirstFound, &facts, 1, 0)[0], 0);
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
