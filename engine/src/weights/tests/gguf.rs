//! One test for each way a GGUF file can lie.

use super::build::{Gguf, text};
use super::*;

fn code(file: &Gguf) -> &'static str {
    refusal(file.bytes(), Profile::Model)
}

#[test]
fn gguf_valid_file_gives_metadata_shapes_and_bytes() {
    let file = WeightFile::from_bytes(Gguf::valid().bytes(), Profile::Model).expect("valid");
    let metadata = file.metadata();
    assert_eq!(metadata.require_text("general.architecture").unwrap(), "llama");
    assert_eq!(metadata.require_u32("llama.block_count").unwrap(), 2);
    assert_eq!(metadata.bool("flag").unwrap(), Some(true));
    assert_eq!(metadata.f32("epsilon").unwrap(), Some(1e-5));
    let tokens = metadata.require_texts("tokens").unwrap();
    assert_eq!(tokens.iter().collect::<Vec<_>>(), ["x", "yz"]);
    assert_eq!(metadata.i32s("numbers").unwrap(), Some(vec![-7]));
    assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
    let a = file.tensor("a").expect("listed");
    assert_eq!((a.shape.as_slice(), a.bytes()), (&[2, 4][..], &(0..32).collect::<Vec<u8>>()[..]));
}

#[test]
fn gguf_tensor_outlives_its_file() {
    let file = WeightFile::from_bytes(Gguf::valid().bytes(), Profile::Model).expect("valid");
    let tensor = file.tensor("b").expect("listed").clone();
    drop(file);
    assert_eq!(tensor.bytes()[0], 32);
}

#[test]
fn gguf_file_opens_mapped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, Gguf::valid().bytes()).expect("written");
    assert_eq!(WeightFile::open(&path).expect("valid").len(), 2);
    assert_eq!(WeightFile::open(folder.path()).unwrap_err().code(), "weights_io");
    std::fs::write(&path, []).expect("written");
    assert_eq!(WeightFile::open(&path).unwrap_err().code(), "weights_truncated");
}

#[test]
fn gguf_metadata_getters_refuse_other_types_by_key() {
    let file = WeightFile::from_bytes(Gguf::valid().bytes(), Profile::Model).expect("valid");
    let metadata = file.metadata();
    assert_eq!(metadata.u32("flag").unwrap_err().code(), "weights_wrong_type");
    assert_eq!(metadata.texts("numbers").unwrap_err().code(), "weights_wrong_type");
    assert_eq!(metadata.require_u32("absent").unwrap_err().code(), "weights_missing_key");
    assert_eq!(metadata.u32("absent").unwrap(), None);
}

#[test]
fn gguf_truncated_anywhere_is_refused() {
    let bytes = Gguf::valid().bytes();
    for length in 0..bytes.len() {
        WeightFile::from_bytes(bytes[..length].to_vec(), Profile::Model)
            .expect_err("a cut file must be refused");
    }
}

#[test]
fn gguf_version_1_and_4_and_big_endian() {
    for version in [0, 1, 4, 3_u32.swap_bytes()] {
        assert_eq!(code(&Gguf { version, ..Gguf::valid() }), "weights_version");
    }
}

#[test]
fn gguf_huge_tensor_count() {
    for count in [u64::MAX, 8193, 1000] {
        let file = Gguf { tensor_count: Some(count), ..Gguf::valid() };
        assert_eq!(code(&file), "weights_over_limit");
    }
}

#[test]
fn gguf_huge_key_count() {
    for count in [u64::MAX, 4097, 1000] {
        let file = Gguf { key_count: Some(count), ..Gguf::valid() };
        assert_eq!(code(&file), "weights_over_limit");
    }
}

#[test]
fn gguf_array_length_2_pow_63() {
    for element in [0, 4, 8, 12] {
        for length in [1_u64 << 63, u64::MAX, 17 << 20, 100] {
            let array = [&u32::to_le_bytes(element)[..], &length.to_le_bytes()].concat();
            assert_eq!(code(&Gguf::empty().pair("k", 9, &array)), "weights_over_limit");
        }
    }
}

#[test]
fn gguf_string_length_past_eof() {
    for length in [u64::MAX, (1 << 20) + 1] {
        let file = Gguf::empty().pair("k", 8, &length.to_le_bytes());
        assert_eq!(code(&file), "weights_over_limit");
    }
    let file = Gguf::empty().pair("k", 8, &1000_u64.to_le_bytes());
    assert_eq!(code(&file), "weights_truncated");
}

#[test]
fn gguf_nested_array() {
    let array = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat();
    assert_eq!(code(&Gguf::empty().pair("k", 9, &array)), "weights_nested_array");
}

#[test]
fn gguf_unknown_value_type() {
    assert_eq!(code(&Gguf::empty().pair("k", 13, &[0; 8])), "weights_bad_value");
    let array = [&13_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat();
    assert_eq!(code(&Gguf::empty().pair("k", 9, &array)), "weights_bad_value");
}

#[test]
fn gguf_bool_that_is_neither_0_nor_1() {
    assert_eq!(code(&Gguf::empty().pair("k", 7, &[2])), "weights_bad_value");
    let array = [&7_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &[2]].concat();
    assert_eq!(code(&Gguf::empty().pair("k", 9, &array)), "weights_bad_value");
}

#[test]
fn gguf_text_that_is_not_utf8() {
    assert_eq!(code(&Gguf::empty().pair("k", 8, &text(&[0xff]))), "weights_not_utf8");
}

#[test]
fn gguf_duplicate_key() {
    let file = Gguf::empty().pair("k", 0, &[1]).pair("k", 0, &[2]);
    assert_eq!(code(&file), "weights_duplicate");
}

#[test]
fn gguf_duplicate_tensor() {
    let mut file = Gguf::valid();
    file.tensors[1].name = "a".to_owned();
    assert_eq!(code(&file), "weights_duplicate");
}

#[test]
fn gguf_alignment_zero_odd_or_huge() {
    for alignment in [0_u32, 3, 8192, u32::MAX] {
        let file = Gguf::valid().pair("general.alignment", 4, &alignment.to_le_bytes());
        assert_eq!(code(&file), "weights_alignment");
    }
}

#[test]
fn gguf_alignment_is_obeyed() {
    let file = Gguf { alignment: 64, ..Gguf::valid() };
    let mut file = file.pair("general.alignment", 4, &64_u32.to_le_bytes());
    assert_eq!(code(&file), "weights_layout");
    file.tensors[1].offset = 64;
    file.data.resize(128, 0);
    WeightFile::from_bytes(file.bytes(), Profile::Model).expect("aligned now");
}

#[test]
fn gguf_offset_past_eof() {
    for offset in [64, 1 << 40, u64::MAX - 31] {
        let mut file = Gguf::valid();
        file.tensors[1].offset = offset;
        assert_eq!(code(&file), "weights_layout");
    }
}

#[test]
fn gguf_offset_unaligned() {
    let mut file = Gguf::valid();
    file.tensors[1].offset = 33;
    assert_eq!(code(&file), "weights_layout");
}

#[test]
fn gguf_overlap() {
    let mut file = Gguf::valid();
    file.tensors[1].offset = 0;
    assert_eq!(code(&file), "weights_layout");
}

#[test]
fn gguf_hole_between_tensors() {
    let mut file = Gguf::valid();
    file.tensors[1].offset = 64;
    file.data.resize(96, 0);
    assert_eq!(code(&file), "weights_layout");
}

#[test]
fn gguf_bytes_after_the_last_tensor() {
    let mut file = Gguf::valid();
    file.data.push(0);
    assert_eq!(code(&file), "weights_uncovered");
}

#[test]
fn gguf_element_type_unknown() {
    for dtype in [4, 5, 16, 24, 31, u32::MAX] {
        let mut file = Gguf::valid();
        file.tensors[0].dtype = dtype;
        assert_eq!(code(&file), "weights_element_type");
    }
}

#[test]
fn gguf_shape_overflow_zero_or_too_many_dimensions() {
    for dimensions in [&[u64::MAX, 2][..], &[1 << 62, 4], &[0, 4], &[], &[1; 5], &[1 << 62]] {
        let mut file = Gguf::valid();
        file.tensors[0].dimensions = dimensions.to_vec();
        assert_eq!(code(&file), "weights_shape", "{dimensions:?}");
    }
}

#[test]
fn gguf_row_that_is_not_whole_blocks() {
    let file = Gguf::empty().tensor("q", &[16, 2], 2, 0).data(vec![0; 18]);
    assert_eq!(code(&file), "weights_shape");
    let file = Gguf::empty().tensor("q", &[32, 2], 2, 0).data(vec![0; 36]);
    WeightFile::from_bytes(file.bytes(), Profile::Model).expect("two Q4_0 blocks");
}

#[test]
fn gguf_tensor_names_outside_of_the_alphabet() {
    for name in ["", "a/b", "a b", "é", "a\0", &"x".repeat(257)] {
        let mut file = Gguf::valid();
        file.tensors[0].name = name.to_owned();
        assert_eq!(code(&file), "weights_tensor_name", "{name}");
    }
}
