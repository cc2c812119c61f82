//! What a hostile weight file can make its reader allocate, measured by the allocator itself.

mod measure;

use std::path::{Path, PathBuf};

use engine::weights::{Profile, WeightFile, WeightsError};

#[allow(dead_code, reason = "the readers' own tests use the rest")]
#[path = "../src/weights/tests/build.rs"]
mod build;

use build::{Gguf, safetensors, text};
use measure::{alone, bound, peak_of};

/// A file that must be refused, and its name in the output.
type Case = (&'static str, Profile, Vec<u8>);

fn lying_gguf() -> Vec<Case> {
    let huge = |element: u32| [&element.to_le_bytes()[..], &(1_u64 << 63).to_le_bytes()].concat();
    let with = |change: fn(&mut Gguf)| {
        let mut file = Gguf::valid();
        change(&mut file);
        file.bytes()
    };
    let array = |element| Gguf::empty().pair("k", 9, &huge(element)).bytes();
    let cases = [
        ("tensor count 2^64-1", with(|file| file.tensor_count = Some(u64::MAX))),
        ("tensor count 8192", with(|file| file.tensor_count = Some(8192))),
        ("key count 2^64-1", with(|file| file.key_count = Some(u64::MAX))),
        ("key count 4096", with(|file| file.key_count = Some(4096))),
        ("bytes 2^63", array(0)),
        ("texts 2^63", array(8)),
        ("doubles 2^63", array(12)),
        ("array of arrays", array(9)),
        ("text 2^64-1", Gguf::empty().pair("k", 8, &u64::MAX.to_le_bytes()).bytes()),
        ("text of 1 MiB", Gguf::empty().pair("k", 8, &(1_u64 << 20).to_le_bytes()).bytes()),
        ("offset past the end", with(|file| file.tensors[1].offset = 1 << 40)),
        ("offset 2^64-32", with(|file| file.tensors[1].offset = u64::MAX - 31)),
        ("overlap", with(|file| file.tensors[1].offset = 0)),
        ("shape overflow", with(|file| file.tensors[0].dimensions = vec![1 << 62, 4])),
        ("shape 2^62", with(|file| file.tensors[0].dimensions = vec![1 << 62])),
        ("unknown element type", with(|file| file.tensors[0].dtype = 31)),
        ("alignment 2^32-1", Gguf::valid().pair("general.alignment", 4, &[255; 4]).bytes()),
        ("duplicate key", Gguf::empty().pair("k", 0, &[1]).pair("k", 0, &[2]).bytes()),
    ];
    cases.into_iter().map(|(name, bytes)| (name, Profile::Model, bytes)).collect()
}

/// Files whose counts are honest, each as long as its limits let it be, with the lie at the end.
fn long_gguf() -> Vec<Case> {
    let mut table = Gguf::empty();
    let mut keys = Gguf::empty();
    let mut short = Gguf::empty();
    for index in 0..8192 {
        short = short.tensor(&format!("{index:x}"), &[8], 0, 32 * index);
        table = table.tensor(&format!("t{index}"), &[1, 1, 1, 1], 0, 32 * index);
    }
    for index in 0..4095_u32 {
        keys = keys.pair(&format!("{index:x}"), 0, &[1]);
    }
    let texts = vec![text(b""); 100_000].concat();
    let texts = [&8_u32.to_le_bytes()[..], &100_000_u64.to_le_bytes(), &texts].concat();
    let long = vec![text(&vec![b'x'; 1 << 20]); 4].concat();
    let long = [&8_u32.to_le_bytes()[..], &4_u64.to_le_bytes(), &long].concat();
    vec![
        ("8192 tensors without bytes", Profile::Model, table.bytes()),
        ("8192 tensors and a hole", Profile::Model, short.data(vec![0; 32 * 8192 + 64]).bytes()),
        ("4096 keys, one twice", Profile::Model, keys.pair("0", 0, &[1]).bytes()),
        (
            "100000 empty texts",
            Profile::Model,
            Gguf::empty().pair("k", 9, &texts).pair("k", 0, &[1]).bytes(),
        ),
        (
            "4 MiB of text",
            Profile::Model,
            Gguf::empty().pair("k", 9, &long).pair("k", 0, &[1]).bytes(),
        ),
    ]
}

fn lying_safetensors() -> Vec<Case> {
    let entry = |name: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = entry("a", "[2]", "[0,8]");
    let many: Vec<String> = (0..8193)
        .map(|at| entry(&format!("t{at}"), "[1]", &format!("[{},{}]", 4 * at, 4 * at + 4)))
        .collect();
    let shape = format!("[{}1]", "1,".repeat(4_000_000));
    let last = format!("[{},{}]", 4 * 8191, 4 * 8192 + 4);
    let full = [&many[..8191], &[entry("t8191", "[1]", &last)]].concat().join(",");
    let header = |text: String| safetensors(&format!("{{{text}}}"), &[0; 8]);
    let metadata: Vec<String> = (0..4095).map(|at| format!(r#""k{at}":"v""#)).collect();
    let cases = [
        ("header length 2^64-1", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("header length 2^62", [&(1_u64 << 62).to_le_bytes()[..], b"{}"].concat()),
        ("9 MiB header", header(one.clone() + &" ".repeat(9 << 20))),
        ("duplicate tensor", header(format!("{one},{one}"))),
        ("shape overflow", header(entry("a", "[4294967296,4294967296]", "[0,8]"))),
        ("offset 2^64-1", header(entry("a", "[2]", "[0,18446744073709551615]"))),
        ("overlap", header(format!("{one},{}", entry("b", "[2]", "[4,12]")))),
        ("4000001 dimensions", header(entry("a", &shape, "[0,4]"))),
        ("8193 tensors", header(many.join(","))),
        ("8192 tensors, the last too long", header(full)),
        ("nesting", header(format!(r#""a":{}"#, "[".repeat(100_000)))),
        (
            "4096 metadata keys, one twice",
            header(format!(r#""__metadata__":{{{},"k0":"v"}},{one}"#, metadata.join(","))),
        ),
        ("long name", header(entry(&"x".repeat(1 << 20), "[2]", "[0,8]"))),
    ];
    cases.into_iter().map(|(name, bytes)| (name, Profile::Adapter, bytes)).collect()
}

/// The index of a sharded model whose tensors lie in a shard each, none of which is there.
fn shardless_index(folder: &Path) -> (PathBuf, usize) {
    let shards: Vec<String> = (0..8192).map(|at| format!(r#""{at:x}":"{at:x}""#)).collect();
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, shards.join(","));
    let path = folder.join("model.safetensors.index.json");
    std::fs::write(&path, &index).expect("written");
    (path, index.len())
}

/// Reads a file, which must be refused; what it allocated if that is too much.
fn excess(
    name: &str,
    file_bytes: usize,
    read: impl FnOnce() -> Result<WeightFile, WeightsError>,
) -> Option<String> {
    let (peak, result) = peak_of(read);
    assert!(result.is_err(), "{name} was accepted");
    (peak > bound(file_bytes)).then(|| format!("{name}: {peak} bytes for a file of {file_bytes}"))
}

#[test]
fn no_hostile_file_makes_its_reader_allocate_more_than_four_times_its_length_and_a_mebibyte() {
    let _alone = alone();
    let cases = [lying_gguf(), long_gguf(), lying_safetensors()].concat();
    let mut excesses: Vec<String> = cases
        .into_iter()
        .filter_map(|(name, profile, bytes)| {
            excess(name, bytes.len(), || WeightFile::from_bytes(bytes, profile))
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let (path, length) = shardless_index(folder.path());
    excesses.extend(excess("an index without shards", length, || WeightFile::open(&path)));
    assert!(excesses.is_empty(), "{}", excesses.join("\n"));
}
