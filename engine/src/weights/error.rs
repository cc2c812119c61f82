//! Why a weight file is refused.

use std::path::PathBuf;

/// A weight file that cannot be read, or that lies about itself.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused to open or map the file.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Neither GGUF nor safetensors.
    #[error("the file is neither GGUF nor safetensors")]
    UnknownFormat,
    /// A GGUF version other than 2 and 3.
    #[error("GGUF version {version} is not supported (2 and 3 are)")]
    Version {
        /// The version that the file states.
        version: u32,
    },
    /// The file ends inside a field.
    #[error("the file ends inside {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A count or a length is above its limit, or above what the file's size allows.
    #[error("{what} is {found}, above the limit of {limit}")]
    OverLimit {
        /// What was counted.
        what: &'static str,
        /// What the file states.
        found: u64,
        /// The most that is accepted here.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// What was being read.
        what: &'static str,
    },
    /// The same key, or the same tensor name, twice.
    #[error("{what} `{name}` appears twice")]
    Duplicate {
        /// Key or tensor.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A metadata value with a type that the format does not have, or with impossible content.
    #[error("metadata `{key}` has a bad value: {reason}")]
    BadValue {
        /// The metadata key.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An array inside an array.
    #[error("metadata `{key}` nests arrays")]
    NestedArray {
        /// The metadata key.
        key: String,
    },
    /// The alignment is not a power of two between 1 and 4096.
    #[error("alignment {alignment} is not a power of two up to 4096")]
    Alignment {
        /// The alignment that the file states.
        alignment: u64,
    },
    /// A tensor name outside `[A-Za-z0-9_.-]{1,256}`.
    #[error("tensor name {name:?} is not 1 to 256 letters, digits, `_`, `.` or `-`")]
    TensorName {
        /// The name, cut to 64 characters.
        name: String,
    },
    /// An element type that the engine cannot compute with.
    #[error("tensor `{name}` has element type {dtype}, which is not supported")]
    ElementType {
        /// The tensor.
        name: String,
        /// The type as the file writes it.
        dtype: String,
    },
    /// No or too many dimensions, a dimension of zero, or a size that overflows.
    #[error("tensor `{name}` has a bad shape: {reason}")]
    Shape {
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Offsets that do not fit the shape, the file, or each other.
    #[error("tensor `{name}` {reason}")]
    Layout {
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Bytes that belong to no tensor.
    #[error("the file has {bytes} bytes that belong to no tensor")]
    Uncovered {
        /// How many.
        bytes: u64,
    },
    /// A safetensors header, or a shard index, that is not the JSON it must be.
    #[error("the {what} is malformed: {reason}")]
    Json {
        /// Header or index.
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// A shard index and its shards disagree.
    #[error("the shard index is wrong: {reason}")]
    Index {
        /// What is wrong.
        reason: String,
    },
    /// A metadata key that the caller needs is absent.
    #[error("metadata `{key}` is missing")]
    MissingKey {
        /// The metadata key.
        key: String,
    },
    /// A metadata key that the caller needs has another type.
    #[error("metadata `{key}` is not {wanted}")]
    WrongType {
        /// The metadata key.
        key: String,
        /// The type that was asked for.
        wanted: &'static str,
    },
}

impl WeightsError {
    /// A stable name of the failure.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "weights_io",
            Self::UnknownFormat => "weights_unknown_format",
            Self::Version { .. } => "weights_version",
            Self::Truncated { .. } => "weights_truncated",
            Self::OverLimit { .. } => "weights_over_limit",
            Self::NotUtf8 { .. } => "weights_not_utf8",
            Self::Duplicate { .. } => "weights_duplicate",
            Self::BadValue { .. } => "weights_bad_value",
            Self::NestedArray { .. } => "weights_nested_array",
            Self::Alignment { .. } => "weights_alignment",
            Self::TensorName { .. } => "weights_tensor_name",
            Self::ElementType { .. } => "weights_element_type",
            Self::Shape { .. } => "weights_shape",
            Self::Layout { .. } => "weights_layout",
            Self::Uncovered { .. } => "weights_uncovered",
            Self::Json { .. } => "weights_json",
            Self::Index { .. } => "weights_index",
            Self::MissingKey { .. } => "weights_missing_key",
            Self::WrongType { .. } => "weights_wrong_type",
        }
    }
}
