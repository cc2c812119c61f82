//! Why a constraint cannot be used, or a token not be taken.

use protocol::ErrorCode;

/// A constraint that is too large, malformed or not supported, or a matcher that is at its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstrainError {
    /// The tokenizer has no tokens, or none that ends an answer.
    #[error("the vocabulary cannot be constrained: {reason}")]
    Vocabulary {
        /// What is wrong.
        reason: String,
    },
    /// The text of the constraint is too long.
    #[error("the {what} has {found} bytes, above the limit of {limit}")]
    TooLarge {
        /// Schema, regular expression or grammar.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// The constraint nests too deeply.
    #[error("the {what} nests more than {limit} levels")]
    TooDeep {
        /// Schema, regular expression or grammar.
        what: &'static str,
        /// The most that is accepted.
        limit: usize,
    },
    /// The compiler refuses it; its words name the unsupported part.
    #[error("the {what} cannot be used: {reason}")]
    Unusable {
        /// Schema, regular expression or grammar.
        what: &'static str,
        /// The compiler's words.
        reason: String,
    },
    /// Computing what may come next takes more than a token is allowed to.
    #[error("the constraint is too complex to follow: {reason}")]
    TooComplex {
        /// The parser's words.
        reason: String,
    },
    /// The token may not come here.
    #[error("token {token} is not allowed by the constraint here")]
    Rejected {
        /// The token.
        token: u32,
    },
}

impl ConstrainError {
    /// The code that callers see.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. }
            | Self::TooDeep { .. }
            | Self::Unusable { .. }
            | Self::TooComplex { .. } => ErrorCode::InvalidConstraint,
            Self::Vocabulary { .. } | Self::Rejected { .. } => ErrorCode::Internal,
        }
    }
}

/// One line of the compiler's words: they may hold its whole state or a backtrace.
pub(super) fn one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    if text.starts_with("panic") {
        return "the compiler failed on it".to_owned();
    }
    // What is wrong with an expression stands below a drawing of the expression.
    let of_regex = text.lines().find(|line| line.starts_with("error: "));
    let first = || text.lines().find(|line| !line.trim().is_empty());
    match of_regex.or_else(first) {
        None => "no reason is given".to_owned(),
        Some("NoExtensionBias") => "no token can follow".to_owned(),
        Some(line) => line.chars().filter(|c| !c.is_control()).take(300).collect(),
    }
}
