//! How a stream ended.

use super::frame::ErrorCode;
use crate::Outcome;
use crate::protocols::Side;

/// A stream or a connection that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub by: Side,
    pub code: ErrorCode,
}

impl GivenUp {
    /// Whose failure it was. One who only stops listening says nothing about the other.
    pub fn outcome(self, answered: bool) -> Outcome {
        let blamed = if self.code.blames_the_other() {
            other(self.by)
        } else {
            self.by
        };
        match blamed {
            Side::Client if self.by == Side::Client && self.only_stops() => {
                if answered {
                    Outcome::Unknown
                } else {
                    Outcome::NoResponse
                }
            }
            Side::Client => Outcome::ClientError,
            Side::Server => Outcome::ServerError,
        }
    }

    /// Whether nothing went wrong by its own account.
    fn only_stops(self) -> bool {
        matches!(self.code, ErrorCode::NO_ERROR | ErrorCode::CANCEL)
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}
