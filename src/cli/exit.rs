//! How the program ends, as a type: the exit codes that scripts trust.

use std::process::ExitCode;

use reknit_core::session::Verdict;

/// How a command ended. If several apply, the first of refused, cannot judge, differs, undetermined, done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// In sync, converged, or simply done.
    Done,
    /// Differences, an absent key, damage found by `verify`.
    Differs,
    /// Usage, configuration, connection, permission, corruption that stops the command.
    CannotJudge,
    /// Undetermined or partial.
    Undetermined,
    /// Refused for safety; nothing was written.
    Refused,
    /// Interrupted from the keyboard; the same command goes on.
    Interrupted,
    /// Asked to end; the same command goes on.
    Terminated,
}

impl Exit {
    /// The one of two that tells of both: an interrupt, else the first of refused, cannot judge, differs, undetermined, done.
    #[must_use]
    pub fn or(self, other: Exit) -> Exit {
        let order = [
            Exit::Interrupted,
            Exit::Terminated,
            Exit::Refused,
            Exit::CannotJudge,
            Exit::Differs,
            Exit::Undetermined,
            Exit::Done,
        ];
        order.into_iter().find(|exit| *exit == self || *exit == other).unwrap_or(self)
    }

    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Differs => 1,
            Exit::CannotJudge => 2,
            Exit::Undetermined => 3,
            Exit::Refused => 4,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }

    /// The exit of this number, as a daemon told it.
    pub fn of_number(number: u8) -> Exit {
        let all = [Exit::Done, Exit::Differs, Exit::Undetermined, Exit::Refused, Exit::Interrupted, Exit::Terminated];
        all.into_iter().find(|exit| exit.number() == number).unwrap_or(Exit::CannotJudge)
    }

    /// The exit of a verdict.
    pub fn of_verdict(verdict: Verdict) -> Exit {
        match verdict {
            Verdict::InSync | Verdict::Converged => Exit::Done,
            Verdict::Differs => Exit::Differs,
            Verdict::Refused => Exit::Refused,
            _ => Exit::Undetermined,
        }
    }

    /// What the process returns.
    pub fn code(self) -> ExitCode {
        ExitCode::from(self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_exits_the_worse_tells_of_both() {
        assert_eq!(Exit::Done.or(Exit::Undetermined), Exit::Undetermined);
        assert_eq!(Exit::Differs.or(Exit::Undetermined), Exit::Differs);
        assert_eq!(Exit::CannotJudge.or(Exit::Differs), Exit::CannotJudge);
        assert_eq!(Exit::Refused.or(Exit::CannotJudge), Exit::Refused);
        assert_eq!(Exit::Refused.or(Exit::Interrupted), Exit::Interrupted);
    }

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 2, 3, 4, 130, 143] {
            assert_eq!(Exit::of_number(number).number(), number);
        }
        assert_eq!(Exit::of_number(77), Exit::CannotJudge);
    }
}
