//! Safetensors files: an 8-byte header length, a JSON header, the tensors' bytes.
//! Owns: the header and its checks. Never: the bytes of tensors.
//! Source: the format section of the safetensors README.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use candle_core::quantized::GgmlDType;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};

use super::cursor::Cursor;
use super::tensor::{self, DIMENSIONS_MAX, TENSORS_MAX, TensorRef};
use super::unique::UniqueMap;
use super::{Profile, SharedBytes, WeightsError};

/// Entries of the free-form metadata, which nothing reads.
const NOTES_MAX: usize = 4096;
const METADATA_KEY: &str = "__metadata__";

/// A tensor as the header describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    #[serde(deserialize_with = "shape")]
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The header; a repeated key is an error, because readers disagree about which one counts.
struct Header(BTreeMap<String, Entry>);

/// Reads the header of a safetensors file. An integer buffer, which models may carry beside their
/// weights, is named but gives no tensor.
pub(super) fn parse(
    file: &SharedBytes,
    profile: Profile,
) -> Result<BTreeMap<String, Option<TensorRef>>, WeightsError> {
    let mut cursor = Cursor::new(file.as_slice());
    let length = cursor.count("the header's length", profile.header_bytes_max(), 1)?;
    let header = cursor.take(length as u64, "the header")?;
    if header.first() != Some(&b'{') {
        return Err(WeightsError::UnknownFormat);
    }
    let Header(entries) = serde_json::from_slice(header).map_err(|error| WeightsError::Json {
        what: "safetensors header",
        reason: error.to_string(),
    })?;
    check_entries(&entries, cursor.remaining() as u64)?;
    let start = cursor.position();
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let dtype = dtype(&name, &entry.dtype, profile)?;
        let (from, to) = entry.data_offsets;
        let bytes = file.slice(start + from as usize..start + to as usize);
        let bytes = bytes.expect("`check_entries` keeps every tensor inside the file");
        tensors.insert(name, dtype.map(|dtype| TensorRef::new(dtype, entry.shape, bytes)));
    }
    Ok(tensors)
}

/// Checks names, sizes and the exact cover of the `total` bytes after the header.
fn check_entries(entries: &BTreeMap<String, Entry>, total: u64) -> Result<(), WeightsError> {
    let mut extents: Vec<(Range<u64>, &str)> = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        tensor::check_name(name)?;
        let refuse = |reason| Err(WeightsError::Layout { name: name.clone(), reason });
        let (from, to) = entry.data_offsets;
        let Some(length) = to.checked_sub(from) else { return refuse("ends before it starts") };
        if to > total {
            return refuse("reaches past the end of the file");
        }
        if length != entry_bytes(name, entry)? {
            return refuse("has offsets that do not fit its shape");
        }
        extents.push((from..to, name));
    }
    tensor::check_cover(&mut extents, 1, total)
}

fn entry_bytes(name: &str, entry: &Entry) -> Result<u64, WeightsError> {
    if let Some(dtype) = float(&entry.dtype) {
        return tensor::size_bytes(name, dtype, &entry.shape);
    }
    let each = integer_bytes(&entry.dtype).ok_or_else(|| unsupported(name, &entry.dtype))?;
    let bytes = tensor::size_bytes(name, GgmlDType::F32, &entry.shape)? / 4;
    let overflow = || WeightsError::Shape { name: name.to_owned(), reason: "the size overflows" };
    bytes.checked_mul(each).ok_or_else(overflow)
}

/// The element type to compute with; `None` for an integer buffer in a model, whose values are not read.
fn dtype(name: &str, dtype: &str, profile: Profile) -> Result<Option<GgmlDType>, WeightsError> {
    match (float(dtype), profile) {
        (Some(float), _) => Ok(Some(float)),
        (None, Profile::Model) => Ok(None),
        (None, Profile::Adapter) => Err(unsupported(name, dtype)),
    }
}

fn unsupported(name: &str, dtype: &str) -> WeightsError {
    let dtype = dtype.chars().take(32).collect();
    WeightsError::ElementType { name: name.to_owned(), dtype }
}

fn float(dtype: &str) -> Option<GgmlDType> {
    Some(match dtype {
        "F32" => GgmlDType::F32,
        "F16" => GgmlDType::F16,
        "BF16" => GgmlDType::BF16,
        _ => return None,
    })
}

/// Buffers such as position ids, which published models carry beside their weights.
fn integer_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" => 1,
        "U16" | "I16" => 2,
        "U32" | "I32" => 4,
        "U64" | "I64" => 8,
        _ => return None,
    })
}

/// Stops at the first dimension too many.
fn shape<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    deserializer.deserialize_seq(ShapeVisitor)
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Vec<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {DIMENSIONS_MAX} sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Vec<usize>, A::Error> {
        let mut shape = Vec::new();
        while let Some(size) = sizes.next_element()? {
            if shape.len() == DIMENSIONS_MAX {
                return Err(A::Error::custom("more than 4 dimensions"));
            }
            shape.push(size);
        }
        Ok(shape)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to their descriptions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut entries = BTreeMap::new();
        let mut has_metadata = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == METADATA_KEY {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(A::Error::custom("`__metadata__` appears twice"));
                }
                map.next_value::<UniqueMap<String, NOTES_MAX>>()?;
                continue;
            }
            if entries.len() == TENSORS_MAX {
                return Err(A::Error::custom(format_args!("more than {TENSORS_MAX} tensors")));
            }
            if entries.contains_key(&key) {
                return Err(A::Error::custom("a tensor name appears twice"));
            }
            entries.insert(key, map.next_value()?);
        }
        Ok(Header(entries))
    }
}
