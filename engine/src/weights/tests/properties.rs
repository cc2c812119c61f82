//! Properties over arbitrary and mutated files.

use proptest::collection::vec;
use proptest::prelude::*;

use super::build::{Gguf, safetensors};
use super::*;

/// Opens a file in every way, and reads all of what an accepted one claims to have.
fn exercise(bytes: &[u8]) {
    for profile in [Profile::Model, Profile::Adapter] {
        let Ok(file) = WeightFile::from_bytes(bytes.to_vec(), profile) else { continue };
        let claimed: usize =
            file.names().map(|name| file.tensor(name).unwrap().bytes().len()).sum();
        assert!(claimed <= bytes.len(), "tensors overlap or reach outside");
        let held: usize = file.metadata().keys().map(|key| held(file.metadata(), key)).sum();
        assert!(held <= 4 * bytes.len() + (1 << 20), "{held} bytes from {}", bytes.len());
    }
}

fn held(metadata: &Metadata, key: &str) -> usize {
    match metadata.get(key).expect("listed") {
        Value::Text(text) => text.capacity(),
        Value::Texts(texts) => texts.text.capacity() + 4 * texts.ends.capacity(),
        Value::Numbers(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) => 0,
    }
}

fn valid_safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b.c":{"dtype":"F16","shape":[2,1],"data_offsets":[8,12]}}"#;
    safetensors(header, &[3; 12])
}

fn mutate(mut bytes: Vec<u8>, edits: &[(prop::sample::Index, u8)], cut: usize) -> Vec<u8> {
    for (at, value) in edits {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
    bytes.truncate(bytes.len() - cut.min(bytes.len()));
    bytes
}

/// Our reader is the stricter one: what it accepts, the `safetensors` crate reads the same way.
fn agree(bytes: &[u8]) {
    let Ok(ours) = WeightFile::from_bytes(bytes.to_vec(), Profile::Adapter) else { return };
    let theirs = ::safetensors::SafeTensors::deserialize(bytes).expect("ours is the stricter one");
    assert_eq!(ours.len(), theirs.len());
    for (name, view) in theirs.tensors() {
        let tensor = ours.tensor(&name).expect("the same names");
        assert_eq!(tensor.shape, view.shape());
        assert_eq!(tensor.bytes(), view.data());
        assert_eq!(format!("{:?}", tensor.dtype), format!("{:?}", view.dtype()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        exercise(&bytes);
        exercise(&[b"GGUF\x03\0\0\0".as_slice(), &bytes].concat());
        exercise(&safetensors(&String::from_utf8_lossy(&bytes), &bytes));
    }

    #[test]
    fn mutated_gguf_never_panics(edits in vec(any::<(prop::sample::Index, u8)>(), 1..6), cut in 0..40_usize) {
        exercise(&mutate(Gguf::valid().bytes(), &edits, cut));
    }

    #[test]
    fn mutated_safetensors_agree_with_the_reference_reader(
        edits in vec(any::<(prop::sample::Index, u8)>(), 0..4), cut in 0..3_usize,
    ) {
        let bytes = mutate(valid_safetensors(), &edits, cut);
        exercise(&bytes);
        agree(&bytes);
    }

    #[test]
    fn rewritten_safetensors_headers_agree_with_the_reference_reader(
        shape in vec(0..5_usize, 0..4), from in 0..6_u64, length in 0..40_u64, data in 0..40_usize,
        dtype in prop::sample::select(vec!["F32", "F16", "BF16", "F64", "I64", "U8"]),
    ) {
        let to = from + length;
        let header = format!(
            r#"{{"a":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{from},{to}]}}}}"#
        );
        agree(&safetensors(&header, &vec![1; data]));
    }
}

#[test]
fn the_unchanged_file_is_accepted_by_both_readers() {
    let bytes = valid_safetensors();
    assert_eq!(WeightFile::from_bytes(bytes.clone(), Profile::Adapter).expect("valid").len(), 2);
    agree(&bytes);
}
