//! GGUF versions 2 and 3, little-endian.
//! Owns: the header, the metadata and the tensor table, each count checked against the file before
//! anything is allocated. Never: the bytes of tensors.
//! Source: the GGUF specification in ggml, `docs/gguf.md`.

use std::collections::{BTreeMap, HashMap};

use candle_core::quantized::GgmlDType;

use super::cursor::Cursor;
use super::metadata::{Element, Metadata, Numbers, Texts, Value};
use super::tensor::{self, DIMENSIONS_MAX, TENSORS_MAX, TensorRef};
use super::{SharedBytes, WeightsError};

pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// Files have less than a hundred. Together these limits keep what is allocated below four times a
/// file's length and 1 MiB.
const KEYS_MAX: u64 = 4096;
const TEXT_BYTES_MAX: u64 = 1 << 20;
const ARRAY_LENGTH_MAX: u64 = 16 << 20;
const ALIGNMENT_MAX: u64 = 4096;

const TYPE_TEXT: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// A tensor as the table describes it: shape, and offset from the start of the tensor bytes.
struct Entry {
    name: String,
    dtype: GgmlDType,
    shape: Vec<usize>,
    offset: u64,
    size_bytes: u64,
}

/// Reads the header, the metadata and the tensor table of a GGUF file.
pub(super) fn parse(
    file: &SharedBytes,
) -> Result<(Metadata, BTreeMap<String, TensorRef>), WeightsError> {
    let mut cursor = Cursor::new(file.as_slice());
    if cursor.array::<4>("the magic")? != *MAGIC {
        return Err(WeightsError::UnknownFormat);
    }
    let version = cursor.u32("the version")?;
    if !matches!(version, 2 | 3) {
        return Err(WeightsError::Version { version });
    }
    // A tensor takes at least 8 + 1 + 4 + 8 + 4 + 8 bytes of table, a pair 8 + 4 + 1.
    let tensor_count = cursor.count("the number of tensors", TENSORS_MAX as u64, 33)?;
    let key_count = cursor.count("the number of metadata keys", KEYS_MAX, 13)?;
    let metadata = read_metadata(&mut cursor, file, key_count)?;
    let alignment = alignment(&metadata)?;
    let entries = read_entries(&mut cursor, tensor_count, alignment)?;
    let start = (cursor.position() as u64).next_multiple_of(alignment);
    let tensors = place(file, entries, start, alignment)?;
    Ok((metadata, tensors))
}

fn read_metadata(
    cursor: &mut Cursor<'_>,
    file: &SharedBytes,
    count: usize,
) -> Result<Metadata, WeightsError> {
    let mut pairs = HashMap::new();
    for _ in 0..count {
        let key = cursor.text("a metadata key", TEXT_BYTES_MAX)?;
        let code = cursor.u32("a metadata type")?;
        let value = read_value(cursor, file, key, code)?;
        if pairs.insert(key.to_owned(), value).is_some() {
            return Err(WeightsError::Duplicate { what: "metadata key", name: key.to_owned() });
        }
    }
    Ok(Metadata(pairs))
}

fn read_value(
    cursor: &mut Cursor<'_>,
    file: &SharedBytes,
    key: &str,
    code: u32,
) -> Result<Value, WeightsError> {
    match code {
        TYPE_TEXT => Ok(Value::Text(cursor.text("a metadata text", TEXT_BYTES_MAX)?.to_owned())),
        TYPE_ARRAY => read_array(cursor, file, key),
        code => {
            let element = Element::from_code(code).ok_or_else(|| bad(key, "unknown type"))?;
            let bytes = cursor.take(element.size_bytes() as u64, "a metadata value")?;
            element.decode(bytes).ok_or_else(|| bad(key, "a bool that is neither 0 nor 1"))
        }
    }
}

fn read_array(
    cursor: &mut Cursor<'_>,
    file: &SharedBytes,
    key: &str,
) -> Result<Value, WeightsError> {
    let code = cursor.u32("an array's type")?;
    match code {
        TYPE_ARRAY => Err(WeightsError::NestedArray { key: key.to_owned() }),
        TYPE_TEXT => read_texts(cursor, key).map(Value::Texts),
        code => {
            let element = Element::from_code(code).ok_or_else(|| bad(key, "unknown array type"))?;
            let each = element.size_bytes() as u64;
            let count = cursor.count("an array's length", ARRAY_LENGTH_MAX, each)?;
            let start = cursor.position();
            let bytes = cursor.take(count as u64 * each, "an array")?;
            if element == Element::Bool && bytes.iter().any(|&byte| byte > 1) {
                return Err(bad(key, "a bool that is neither 0 nor 1"));
            }
            let bytes = file.slice(start..start + bytes.len()).expect("`take` checked the range");
            Ok(Value::Numbers(Numbers { element, bytes }))
        }
    }
}

fn read_texts(cursor: &mut Cursor<'_>, key: &str) -> Result<Texts, WeightsError> {
    let count = cursor.count("an array's length", ARRAY_LENGTH_MAX, 8)?;
    let mut texts = Texts { text: String::new(), ends: Vec::with_capacity(count) };
    for _ in 0..count {
        texts.text.push_str(cursor.text("a text in an array", TEXT_BYTES_MAX)?);
        let end = u32::try_from(texts.text.len());
        texts.ends.push(end.map_err(|_| bad(key, "more than 4 GiB of text"))?);
    }
    Ok(texts)
}

fn bad(key: &str, reason: &'static str) -> WeightsError {
    WeightsError::BadValue { key: key.chars().take(64).collect(), reason }
}

fn alignment(metadata: &Metadata) -> Result<u64, WeightsError> {
    let alignment = u64::from(metadata.u32("general.alignment")?.unwrap_or(32));
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
        return Err(WeightsError::Alignment { alignment });
    }
    Ok(alignment)
}

fn read_entries(
    cursor: &mut Cursor<'_>,
    count: usize,
    alignment: u64,
) -> Result<Vec<Entry>, WeightsError> {
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(read_entry(cursor, alignment)?);
    }
    Ok(entries)
}

fn read_entry(cursor: &mut Cursor<'_>, alignment: u64) -> Result<Entry, WeightsError> {
    let name = cursor.text("a tensor name", TEXT_BYTES_MAX)?;
    tensor::check_name(name)?;
    let name = name.to_owned();
    let dimensions = cursor.u32("a tensor's dimensions")?;
    if !(1..=DIMENSIONS_MAX).contains(&(dimensions as usize)) {
        return Err(WeightsError::Shape { name, reason: "not 1 to 4 dimensions" });
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        let dimension = usize::try_from(cursor.u64("a tensor's shape")?);
        let too_large = |_| WeightsError::Shape { name: name.clone(), reason: "too large" };
        shape.push(dimension.map_err(too_large)?);
    }
    shape.reverse(); // the file has the innermost dimension first
    let code = cursor.u32("a tensor's element type")?;
    let unknown = || WeightsError::ElementType { name: name.clone(), dtype: code.to_string() };
    let dtype = dtype(code).ok_or_else(unknown)?;
    let offset = cursor.u64("a tensor's offset")?;
    if offset % alignment != 0 {
        return Err(WeightsError::Layout { name, reason: "starts at an unaligned offset" });
    }
    let size_bytes = tensor::size_bytes(&name, dtype, &shape)?;
    Ok(Entry { name, dtype, shape, offset, size_bytes })
}

/// The element types of ggml that the engine has kernels for.
/// Source: `enum ggml_type` in `ggml.h`.
const fn dtype(code: u32) -> Option<GgmlDType> {
    Some(match code {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

fn place(
    file: &SharedBytes,
    entries: Vec<Entry>,
    start: u64,
    alignment: u64,
) -> Result<BTreeMap<String, TensorRef>, WeightsError> {
    check_places(&entries, (file.len() as u64).saturating_sub(start), alignment)?;
    let mut tensors = BTreeMap::new();
    for entry in entries {
        let from = (start + entry.offset) as usize;
        let bytes = file.slice(from..from + entry.size_bytes as usize);
        let bytes = bytes.expect("`check_places` keeps every tensor inside the file");
        let tensor = TensorRef::new(entry.dtype, entry.shape, bytes);
        if tensors.insert(entry.name.clone(), tensor).is_some() {
            return Err(WeightsError::Duplicate { what: "tensor", name: entry.name });
        }
    }
    Ok(tensors)
}

/// Demands that the tensors cover the `total` bytes behind the table.
fn check_places(entries: &[Entry], total: u64, alignment: u64) -> Result<(), WeightsError> {
    let mut extents = Vec::with_capacity(entries.len());
    for entry in entries {
        let end = entry.offset.checked_add(entry.size_bytes);
        let past = WeightsError::Layout {
            name: entry.name.clone(),
            reason: "reaches past the end of the file",
        };
        let end = end.filter(|&end| end <= total).ok_or(past)?;
        extents.push((entry.offset..end, entry.name.as_str()));
    }
    tensor::check_cover(&mut extents, alignment, total)
}
