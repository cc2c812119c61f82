//! Why a chat template is refused or does not render.

/// A template that cannot be used, or a render that went past its limits.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The source is above the size cap.
    #[error("the template has {bytes} bytes, above the limit of {limit}")]
    SourceTooLarge {
        /// Its size.
        bytes: usize,
        /// The cap.
        limit: usize,
    },
    /// The source does not parse.
    #[error("the template does not parse: {reason}")]
    Syntax {
        /// The engine's words.
        reason: String,
    },
    /// The template itself refused the conversation, through `raise_exception`.
    #[error("the template refuses the conversation: {message}")]
    Raised {
        /// The template's words.
        message: String,
    },
    /// The render took more steps, or made more data, than it may.
    #[error("the template used up its fuel")]
    OutOfFuel,
    /// The output is above the size cap.
    #[error("the rendered conversation is above {limit} bytes")]
    OutputTooLarge {
        /// The cap.
        limit: usize,
    },
    /// The template asked for something that does not exist.
    #[error("the template does not render: {reason}")]
    Render {
        /// The engine's words.
        reason: String,
    },
}

impl TemplateError {
    /// A stable name of the failure.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SourceTooLarge { .. } => "template_source_too_large",
            Self::Syntax { .. } => "template_syntax",
            Self::Raised { .. } => "template_raised",
            Self::OutOfFuel => "template_out_of_fuel",
            Self::OutputTooLarge { .. } => "template_output_too_large",
            Self::Render { .. } => "template_render",
        }
    }
}
