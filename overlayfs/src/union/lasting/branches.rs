//! The branches and settings as they are now, written down twice in turn: one of both is whole.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::union::lasting::{BRANCHES, BRANCHES_AT, Lasting, Word, packed, unpacked};

/// The branches, and the words by which settings were changed since the union was mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastingMembers {
    pub(crate) epoch: u32,
    pub(crate) branches: Vec<LastingBranch>,
    pub(crate) words: Vec<String>,
}

/// A branch, with the descriptor of its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastingBranch {
    pub(crate) path: PathBuf,
    pub(crate) permission: String,
    pub(crate) root: i32,
    /// The same for a branch and its successor with another permission.
    pub(crate) lineage: u32,
}

impl Lasting {
    /// Writes the branches down; false when they are too many.
    pub(crate) fn keep_members(&self, members: &LastingMembers) -> bool {
        serde_json::to_vec(members).is_ok_and(|text| self.keep_text(&text))
    }

    /// Writes down what the first server says of its failure: it has no branches.
    pub(crate) fn complain(&self, text: &str) {
        self.keep_text(text.as_bytes());
    }

    /// What the first server says of its failure.
    pub(crate) fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.text()).into_owned()
    }

    fn keep_text(&self, text: &[u8]) -> bool {
        if text.len() > BRANCHES * 8 {
            return false;
        }
        let other = !self.get(Word::Branches) & 1;
        let place = BRANCHES_AT + usize::from(other == 1) * BRANCHES;
        for (word, value) in self.words[place..].iter().zip(packed(text)) {
            word.store(value, Ordering::Release);
        }
        self.set(Word::Branches, (text.len() as u64) << 1 | other);
        true
    }

    /// The branches that were written down last.
    pub(crate) fn members(&self) -> Option<LastingMembers> {
        serde_json::from_slice(&self.text()).ok()
    }

    fn text(&self) -> Vec<u8> {
        let word = self.get(Word::Branches);
        let place = BRANCHES_AT + usize::from(word & 1 == 1) * BRANCHES;
        let length = usize::try_from(word >> 1).unwrap_or(0).min(BRANCHES * 8);
        unpacked(&self.words[place..], length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_branches_hold() {
        let lasting = Lasting::new().unwrap();
        assert_eq!(lasting.members(), None);
        for epoch in 1..4 {
            let branch = LastingBranch {
                path: PathBuf::from("/a"),
                permission: "rw".into(),
                root: 7,
                lineage: epoch,
            };
            let members = LastingMembers {
                epoch,
                branches: vec![branch; epoch as usize],
                words: vec!["create=mfs".into()],
            };
            assert!(lasting.keep_members(&members));
            assert_eq!(lasting.members(), Some(members));
        }
    }

    #[test]
    fn too_many_words_are_refused() {
        let lasting = Lasting::new().unwrap();
        let members = LastingMembers {
            words: vec!["x".repeat(BRANCHES * 8)],
            ..LastingMembers::default()
        };
        assert!(!lasting.keep_members(&members));
        assert_eq!(lasting.members(), None);
    }
}
