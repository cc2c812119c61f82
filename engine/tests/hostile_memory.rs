//! What a hostile weight file can make its reader allocate, measured by the allocator itself.
//!
//! One test in a process of its own: the measure is of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::weights::{Profile, WeightFile, WeightsError};

#[allow(dead_code, reason = "the readers' own tests use the rest")]
#[path = "../src/weights/tests/build.rs"]
mod build;

use build::{Gguf, safetensors, text};

/// The system's allocator, counting. Growing counts as new memory beside the old, which is the worst that
/// it can be.
struct Measure;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Measure = Measure;

// SAFETY: every call goes to `System` as it came; the counting touches two atomics and no memory.
unsafe impl GlobalAlloc for Measure {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most that was allocated at once beside what was there before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (PEAK.load(Ordering::Relaxed) - before, result)
}

/// What reading a file of this length may allocate beside the file itself. Most need far less; the worst
/// are names of one or two bytes, each of which becomes an entry of a table.
const fn bound(file_bytes: usize) -> usize {
    16 * file_bytes + (4 << 10)
}

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
        ("tensor count 65536", with(|file| file.tensor_count = Some(65_536))),
        ("key count 2^64-1", with(|file| file.key_count = Some(u64::MAX))),
        ("key count 65536", with(|file| file.key_count = Some(65_536))),
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
    for index in 0..20_000 {
        table = table.tensor(&format!("t{index}"), &[1, 1, 1, 1], 0, 32 * index);
    }
    for index in 0..65_535_u32 {
        keys = keys.pair(&format!("{index:x}"), 0, &[1]);
    }
    let texts = vec![text(b""); 100_000].concat();
    let texts = [&8_u32.to_le_bytes()[..], &100_000_u64.to_le_bytes(), &texts].concat();
    let long = vec![text(&vec![b'x'; 1 << 20]); 4].concat();
    let long = [&8_u32.to_le_bytes()[..], &4_u64.to_le_bytes(), &long].concat();
    vec![
        ("20000 tensors without bytes", Profile::Model, table.bytes()),
        ("65536 keys, one twice", Profile::Model, keys.pair("0", 0, &[1]).bytes()),
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
    let many: Vec<String> = (0..20_001)
        .map(|at| entry(&format!("t{at}"), "[1]", &format!("[{},{}]", 4 * at, 4 * at + 4)))
        .collect();
    let shape = format!("[{}1]", "1,".repeat(50_000));
    let header = |text: String| safetensors(&format!("{{{text}}}"), &[0; 8]);
    let metadata: Vec<String> = (0..20_000).map(|at| format!(r#""k{at}":"v""#)).collect();
    let cases = [
        ("header length 2^64-1", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("header length 2^62", [&(1_u64 << 62).to_le_bytes()[..], b"{}"].concat()),
        ("9 MiB header", header(one.clone() + &" ".repeat(9 << 20))),
        ("duplicate tensor", header(format!("{one},{one}"))),
        ("shape overflow", header(entry("a", "[4294967296,4294967296]", "[0,8]"))),
        ("offset 2^64-1", header(entry("a", "[2]", "[0,18446744073709551615]"))),
        ("overlap", header(format!("{one},{}", entry("b", "[2]", "[4,12]")))),
        ("50001 dimensions", header(entry("a", &shape, "[0,4]"))),
        ("20001 tensors", header(many.join(","))),
        ("nesting", header(format!(r#""a":{}"#, "[".repeat(100_000)))),
        (
            "20000 metadata keys, one twice",
            header(format!(r#""__metadata__":{{{},"k0":"v"}},{one}"#, metadata.join(","))),
        ),
        ("long name", header(entry(&"x".repeat(1 << 20), "[2]", "[0,8]"))),
    ];
    cases.into_iter().map(|(name, bytes)| (name, Profile::Adapter, bytes)).collect()
}

/// The index of a sharded model that names a shard many times which is not there.
fn shardless_index(folder: &Path) -> (PathBuf, usize) {
    let shards: Vec<String> =
        (0..10_000).map(|at| format!(r#""t{at}":"one.safetensors""#)).collect();
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
fn no_hostile_file_makes_its_reader_allocate_more_than_sixteen_times_its_length() {
    let (peak, held) = peak_of(|| vec![0_u8; 1 << 20]);
    assert!(peak >= held.len(), "the measure measures");
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
