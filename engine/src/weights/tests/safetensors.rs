//! One test for each way a safetensors file can lie.

use super::build::safetensors;
use super::*;

const A: &str = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;

fn code(header: &str, data: usize) -> &'static str {
    refusal(safetensors(header, &vec![0; data]), Profile::Adapter)
}

#[test]
fn safetensors_valid_file_gives_shapes_and_bytes() {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{A},"b":{{"dtype":"BF16","shape":[1,3],"data_offsets":[8,14]}}}}  "#
    );
    let bytes = safetensors(&header, &(0..14).collect::<Vec<u8>>());
    let file = WeightFile::from_bytes(bytes, Profile::Adapter).expect("valid");
    let b = file.tensor("b").expect("listed");
    assert_eq!((b.shape.as_slice(), b.bytes()), (&[1, 3][..], &[8, 9, 10, 11, 12, 13][..]));
}

#[test]
fn safetensors_duplicate_tensor_key() {
    assert_eq!(code(&format!("{{{A},{A}}}"), 8), "weights_json");
}

#[test]
fn safetensors_duplicate_field_or_metadata_key() {
    let twice = r#"{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert_eq!(code(twice, 8), "weights_json");
    assert_eq!(code(&format!(r#"{{"__metadata__":{{"x":"1","x":"2"}},{A}}}"#), 8), "weights_json");
    assert_eq!(
        code(&format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},{A}}}"#), 8),
        "weights_json"
    );
}

#[test]
fn safetensors_unknown_field() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"code":"x"}}"#;
    assert_eq!(code(header, 8), "weights_json");
}

#[test]
fn safetensors_zero_size_tensor_sharing_an_offset() {
    let zero = r#""z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#;
    assert_eq!(code(&format!("{{{A},{zero}}}"), 8), "weights_shape");
}

#[test]
fn safetensors_shape_product_overflow() {
    let header = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
    assert_eq!(code(header, 8), "weights_shape");
    let header = r#"{"a":{"dtype":"I64","shape":[4611686018427387904],"data_offsets":[0,8]}}"#;
    assert_eq!(code(header, 8), "weights_shape");
}

#[test]
fn safetensors_offsets_that_lie() {
    for (offsets, data) in
        [("[0,16]", 8), ("[8,0]", 8), ("[0,4]", 8), ("[0,18446744073709551615]", 8)]
    {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
        assert_eq!(code(&header, data), "weights_layout", "{offsets}");
    }
    let overlap = r#""b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#;
    assert_eq!(code(&format!("{{{A},{overlap}}}"), 12), "weights_layout");
    let hole = r#""b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}"#;
    assert_eq!(code(&format!("{{{A},{hole}}}"), 20), "weights_layout");
    assert_eq!(code(&format!("{{{A}}}"), 9), "weights_uncovered");
}

#[test]
fn safetensors_negative_or_fractional_numbers() {
    for shape in ["[-2]", "[2.0]", "[1e2]", "[\"2\"]", "2", "[null]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,8]}}}}"#);
        assert_eq!(code(&header, 8), "weights_json", "{shape}");
    }
}

#[test]
fn safetensors_header_longer_than_its_profile_allows() {
    let header = format!("{{{A}}}{}", " ".repeat(9 << 20));
    assert_eq!(code(&header, 8), "weights_over_limit");
    let bytes = safetensors(&header, &[0; 8]);
    WeightFile::from_bytes(bytes, Profile::Model).expect("a model's header may be larger");
}

#[test]
fn safetensors_header_length_past_eof() {
    for length in [u64::MAX, 1 << 62, 3] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        assert_eq!(refusal(bytes, Profile::Adapter), "weights_over_limit");
    }
}

#[test]
fn safetensors_more_than_8192_tensors() {
    let entry = |index| {
        let (from, to) = (index * 4, index * 4 + 4);
        format!(r#""t{index}":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{to}]}}"#)
    };
    let header = |count| (0..count).map(entry).collect::<Vec<_>>().join(",");
    assert_eq!(code(&format!("{{{}}}", header(8193)), 32_772), "weights_json");
    let bytes = safetensors(&format!("{{{}}}", header(8192)), &vec![0; 32_768]);
    assert_eq!(WeightFile::from_bytes(bytes, Profile::Adapter).expect("at the limit").len(), 8192);
}

#[test]
fn safetensors_more_than_4_dimensions_or_4096_notes() {
    let header = r#"{"a":{"dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8]}}"#;
    assert_eq!(code(header, 8), "weights_json");
    let notes = |count| {
        let notes: Vec<String> = (0..count).map(|at| format!(r#""k{at}":"v""#)).collect();
        format!(r#"{{"__metadata__":{{{}}},{A}}}"#, notes.join(","))
    };
    assert_eq!(code(&notes(4097), 8), "weights_json");
    let bytes = safetensors(&notes(4096), &[0; 8]);
    WeightFile::from_bytes(bytes, Profile::Adapter).expect("at the limit");
}

#[test]
fn safetensors_element_types() {
    for dtype in ["F64", "F8_E4M3", "C64", "f32", ""] {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,8]}}}}"#);
        assert_eq!(code(&header, 8), "weights_element_type", "{dtype}");
    }
}

#[test]
fn safetensors_integer_buffers_are_left_out_of_models_and_refused_in_adapters() {
    let ids = r#""ids":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}"#;
    let header = format!("{{{A},{ids}}}");
    assert_eq!(code(&header, 16), "weights_element_type");
    let file = WeightFile::from_bytes(safetensors(&header, &[0; 16]), Profile::Model);
    assert_eq!(file.expect("valid").names().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn safetensors_tensor_names_outside_of_the_alphabet() {
    for name in ["", "a/b", "../x", "\\u0000", "é"] {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#);
        assert_eq!(code(&header, 8), "weights_tensor_name", "{name}");
    }
}

#[test]
fn neither_format_is_refused() {
    for bytes in [&b"PK\x03\x04 a zip archive, or a pickle"[..], &[0x80, 2, 0, 0, 0, 0, 0, 0, 0]] {
        let code = refusal(bytes.to_vec(), Profile::Model);
        assert!(matches!(code, "weights_over_limit" | "weights_unknown_format"), "{code}");
    }
    assert_eq!(
        refusal(super::build::Gguf::valid().bytes(), Profile::Adapter),
        "weights_over_limit",
        "an adapter is never GGUF"
    );
}

fn shards(index: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, name) in [("one.safetensors", "a"), ("two.safetensors", "b")] {
        let header = format!("{{{}}}", A.replace("\"a\"", &format!("{name:?}")));
        std::fs::write(folder.path().join(file), safetensors(&header, &[7; 8])).expect("written");
    }
    let path = folder.path().join("model.safetensors.index.json");
    std::fs::write(&path, index).expect("written");
    (folder, path)
}

#[test]
fn sharded_safetensors_open_by_their_index() {
    let index = r#"{"metadata":{"total_size":16},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
    let (_folder, path) = shards(index);
    let file = WeightFile::open(&path).expect("valid");
    assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn sharded_safetensors_that_contradict_their_index_are_refused() {
    for index in [
        r#"{"weight_map":{"b":"one.safetensors"}}"#,
        r#"{"weight_map":{"a":"one.safetensors","c":"one.safetensors"}}"#,
        r#"{"weight_map":{"a":"../one.safetensors"}}"#,
    ] {
        let (_folder, path) = shards(index);
        assert_eq!(WeightFile::open(&path).unwrap_err().code(), "weights_index", "{index}");
    }
    let (_folder, path) = shards(r#"{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}"#);
    assert_eq!(WeightFile::open(&path).unwrap_err().code(), "weights_json");
}
