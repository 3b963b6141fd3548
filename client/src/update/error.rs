use bento_protocol::Outcome;

use crate::exit::{ExitReason, Failure};
use crate::generation::pull::PullError;
use crate::machine::Rejection;

/// Failure of an update.
#[derive(Debug)]
pub(super) struct UpdateError {
    /// Outcome for the report: the phase that failed, or what became of the rollback.
    pub(super) outcome: Outcome,
    /// Whether another try may succeed though nothing changes in the fleet.
    pub(super) retry: bool,
    /// The fault.
    pub(super) source: anyhow::Error,
}

impl UpdateError {
    /// A failure before anything of the machine was changed. Whether the configuration, a cache or a builder is to blame
    /// can't be known for sure.
    pub(super) fn build(source: anyhow::Error) -> Self {
        UpdateError {
            outcome: Outcome::BuildFailed,
            retry: true,
            source,
        }
    }

    /// A failure to keep or write something: a disk that is full, or fails.
    pub(super) fn local(source: anyhow::Error) -> Self {
        Self::build(source)
    }

    /// A new system that was refused, while the old one runs untouched.
    pub(super) fn activation(rejection: Rejection) -> Self {
        UpdateError {
            outcome: Outcome::ActivationFailed,
            retry: rejection.retry,
            source: rejection.source,
        }
    }

    fn reason(&self) -> ExitReason {
        match self.outcome {
            Outcome::PullFailed => match self.source.downcast_ref() {
                Some(PullError::Lost(_)) => ExitReason::Server,
                _ => ExitReason::Unverified,
            },
            Outcome::RolledBack | Outcome::RollbackFailed => ExitReason::RolledBack,
            _ => ExitReason::RebuildFailed,
        }
    }
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        Failure {
            reason: error.reason(),
            error: error.source,
        }
    }
}
