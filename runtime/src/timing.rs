//! How long the steps inside the container took.

use serde::{Deserialize, Serialize};

/// The time of one step of the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTime {
    /// The step's name.
    pub step: String,
    /// When it began, in microseconds since the child did.
    pub begin: u64,
    /// How long it took, in microseconds.
    pub duration: u64,
}
