//! GGUF metadata: typed values by key.
//! Owns: the values and their getters. Never: reading a file.

use std::collections::HashMap;

use super::{SharedBytes, WeightsError};

/// The key-value pairs of a GGUF file.
#[derive(Debug, Clone, Default)]
pub struct Metadata(pub(super) HashMap<String, Value>);

/// One value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Any integer type of the format; all fit.
    Integer(i128),
    /// `f32` or `f64`.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(String),
    /// A list of text.
    Texts(Texts),
    /// A list of numbers or truth values, kept in the file and decoded on request.
    Numbers(Numbers),
}

/// A list of text in one allocation.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    pub(super) text: String,
    pub(super) ends: Vec<u32>,
}

impl Texts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.text[start..end])
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index).expect("the index is below the length"))
    }
}

/// The element types of numeric arrays, with GGUF's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

impl Element {
    pub(super) const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    pub(super) const fn size_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Decodes one element from exactly `size_bytes` bytes; `None` for a bool that is not 0 or 1.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<Value> {
        let mut raw = [0; 8];
        raw[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(raw);
        Some(match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Value::Integer(bits.into()),
            Self::I8 => Value::Integer((bits as u8).cast_signed().into()),
            Self::I16 => Value::Integer((bits as u16).cast_signed().into()),
            Self::I32 => Value::Integer((bits as u32).cast_signed().into()),
            Self::I64 => Value::Integer(bits.cast_signed().into()),
            Self::F32 => Value::Float(f32::from_bits(bits as u32).into()),
            Self::F64 => Value::Float(f64::from_bits(bits)),
            Self::Bool if bits <= 1 => Value::Bool(bits == 1),
            Self::Bool => return None,
        })
    }
}

/// A list of numbers or truth values.
#[derive(Debug, Clone)]
pub struct Numbers {
    pub(super) element: Element,
    pub(super) bytes: SharedBytes,
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.element.size_bytes()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn values(&self) -> impl Iterator<Item = Value> {
        let elements = self.bytes.as_slice().chunks_exact(self.element.size_bytes());
        elements.map(|bytes| self.element.decode(bytes).unwrap_or(Value::Bool(true)))
    }
}

impl Metadata {
    /// The value of `key`, of whatever type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Text, or `None` if the key is absent.
    pub fn text(&self, key: &str) -> Result<Option<&str>, WeightsError> {
        self.typed(key, "text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer that fits `u32`, or `None` if the key is absent.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, WeightsError> {
        self.typed(key, "an unsigned 32-bit integer", |value| match value {
            Value::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number as `f32`, or `None` if the key is absent. Integers are converted.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, WeightsError> {
        self.typed(key, "a number", |value| match value {
            Value::Float(number) => Some(*number as f32),
            Value::Integer(number) => Some(*number as f32),
            _ => None,
        })
    }

    /// A truth value, or `None` if the key is absent.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, WeightsError> {
        self.typed(key, "a truth value", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    /// A list of text, or `None` if the key is absent.
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>, WeightsError> {
        self.typed(key, "a list of text", |value| match value {
            Value::Texts(texts) => Some(texts),
            _ => None,
        })
    }

    /// A list of integers that all fit `i32`, or `None` if the key is absent.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, WeightsError> {
        let integer = |value| match value {
            Value::Integer(number) => i32::try_from(number).ok(),
            _ => None,
        };
        self.typed(key, "a list of 32-bit integers", |value| match value {
            Value::Numbers(numbers) => numbers.values().map(integer).collect(),
            _ => None,
        })
    }

    /// A list of truth values, or `None` if the key is absent.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>, WeightsError> {
        let truth = |value| match value {
            Value::Bool(truth) => Some(truth),
            _ => None,
        };
        self.typed(key, "a list of truth values", |value| match value {
            Value::Numbers(numbers) => numbers.values().map(truth).collect(),
            _ => None,
        })
    }

    /// A list of numbers as `f32`, or `None` if the key is absent.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, WeightsError> {
        let number = |value| match value {
            Value::Float(number) => Some(number as f32),
            Value::Integer(number) => Some(number as f32),
            _ => None,
        };
        self.typed(key, "a list of numbers", |value| match value {
            Value::Numbers(numbers) => numbers.values().map(number).collect(),
            _ => None,
        })
    }

    /// The same as [`Metadata::text`], for a key that must be there.
    pub fn require_text(&self, key: &str) -> Result<&str, WeightsError> {
        required(key, self.text(key)?)
    }

    /// The same as [`Metadata::u32`], for a key that must be there.
    pub fn require_u32(&self, key: &str) -> Result<u32, WeightsError> {
        required(key, self.u32(key)?)
    }

    /// The same as [`Metadata::f32`], for a key that must be there.
    pub fn require_f32(&self, key: &str) -> Result<f32, WeightsError> {
        required(key, self.f32(key)?)
    }

    /// The same as [`Metadata::texts`], for a key that must be there.
    pub fn require_texts(&self, key: &str) -> Result<&Texts, WeightsError> {
        required(key, self.texts(key)?)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, WeightsError> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let wrong = || WeightsError::WrongType { key: key.to_owned(), wanted };
        read(value).map(Some).ok_or_else(wrong)
    }
}

fn required<T>(key: &str, value: Option<T>) -> Result<T, WeightsError> {
    value.ok_or_else(|| WeightsError::MissingKey { key: key.to_owned() })
}
