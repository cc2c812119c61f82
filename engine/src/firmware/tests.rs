//! Manifests, ids and verification.

use std::fs;
use std::time::{Duration, SystemTime};

use protocol::Digest;

use super::*;

const PART: &[u8] = b"weights";

/// A manifest of one part, with `lines` replaced in it.
fn text(replace: &[(&str, &str)]) -> String {
    let mut text = format!(
        r#"
name = "tiny"
version = "1.0.0"
description = "a test"
licence = "MIT"
tokenizer = {{ part = "backbone" }}
template = {{ text = "x" }}

[[parts]]
role = "backbone"
architecture = "llama"
file = "tiny.gguf"
sha256 = "{}"
size_bytes = {}
licence = "MIT"
source = {{ kind = "http", url = "https://example.org/tiny.gguf" }}
"#,
        Digest::of(PART),
        PART.len()
    );
    for (from, to) in replace {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

fn refusal(replace: &[(&str, &str)]) -> FirmwareError {
    Manifest::parse(&text(replace)).expect_err("must be refused")
}

fn folder() -> (tempfile::TempDir, FirmwareDir) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(MANIFEST_FILE), text(&[])).expect("written");
    fs::write(folder.path().join("tiny.gguf"), PART).expect("written");
    let firmware = FirmwareDir::open(folder.path()).expect("opens");
    (folder, firmware)
}

#[test]
fn the_built_in_manifests_are_valid_and_the_default_comes_first() {
    let names: Vec<&str> = builtin().iter().map(|known| known.manifest.name.as_str()).collect();
    assert_eq!(names, ["smollm2-135m-instruct", "qwen2.5-coder-0.5b", "gemma-3-270m"]);
    for known in builtin() {
        assert!(known.manifest.parts_of(PartRole::Backbone).count() == 1);
        assert!(!known.manifest.licence.is_empty());
        if let Some(TemplateSource::Text(source)) = &known.manifest.template {
            crate::template::ChatTemplate::new(source, "", "").expect("parses");
        }
    }
}

#[test]
fn the_id_ignores_layout_and_comments_and_nothing_else() {
    let id = |replace: &[(&str, &str)]| Manifest::parse(&text(replace)).expect("valid").id();
    let plain = id(&[]);
    assert_eq!(plain, id(&[("name =", "# a comment\n  name   =")]));
    for change in [
        ("1.0.0", "1.0.1"),
        ("a test", "another test"),
        ("\"MIT\"", "\"Apache-2.0\""),
        ("\"x\"", "\"y\""),
        ("llama", "qwen2"),
        ("tiny.gguf\"\n", "other.gguf\"\n"),
        ("example.org", "example.com"),
        ("licence = \"MIT\"\ntok", "licence = \"MIT\"\ncontext_length = 64\ntok"),
    ] {
        assert_ne!(plain, id(&[change]), "{change:?}");
    }
}

#[test]
fn the_id_is_the_digest_of_sorted_json_without_spaces() {
    let digest = Digest::of(PART);
    let json = format!(
        r#"{{"description":"a test","licence":"MIT","name":"tiny","parts":[{{"architecture":"llama","file":"tiny.gguf","licence":"MIT","role":"backbone","sha256":"{digest}","size_bytes":7,"source":{{"kind":"http","url":"https://example.org/tiny.gguf"}}}}],"template":{{"text":"x"}},"tokenizer":{{"part":"backbone"}},"version":"1.0.0"}}"#
    );
    assert_eq!(Manifest::parse(&text(&[])).expect("valid").id().0, Digest::of(json.as_bytes()));
}

#[test]
fn file_names_that_lead_elsewhere_are_refused() {
    for file in [
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\\\b",
        "..",
        ".",
        "",
        ".verified.json",
        "a b",
        "é",
        "firmware.toml",
        "-rf",
        "a\\u0000b",
    ] {
        let error = refusal(&[("file = \"tiny.gguf\"", &format!("file = \"{file}\""))]);
        assert_eq!(error.code(), "firmware_manifest_invalid", "{file}");
    }
}

#[test]
fn unknown_roles_sources_and_fields_are_refused_by_name() {
    for (from, to, named) in [
        ("role = \"backbone\"", "role = \"oracle\"", "oracle"),
        ("kind = \"http\"", "kind = \"torrent\"", "torrent"),
        ("description =", "colour = 1\ndescription =", "colour"),
        ("licence = \"MIT\"\nsource", "licence = \"MIT\"\nrun = \"x\"\nsource", "run"),
        ("url =", "post = 1, url =", "post"),
    ] {
        let error = refusal(&[(from, to)]);
        assert_eq!(error.code(), "firmware_manifest_malformed", "{to}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn impossible_values_are_refused() {
    for (from, to) in [
        ("\"tiny\"", "\"Tiny\""),
        ("\"tiny\"", "\"../tiny\""),
        ("\"1.0.0\"", "\"\""),
        ("size_bytes = 7", "size_bytes = 0"),
        ("part = \"backbone\"", "part = \"tokenizer\""),
        ("template = { text = \"x\" }", "template = { part = \"head\" }"),
        ("https://example.org/tiny.gguf", "file:///etc/passwd"),
        (
            "kind = \"http\", url = \"https://example.org/tiny.gguf\"",
            "kind = \"python-package\", pieces = []",
        ),
        (
            "kind = \"http\", url = \"https://example.org/tiny.gguf\"",
            "kind = \"python-package\", pieces = [{ package = \"--index-url\", version = \"1\", member = \"a\" }]",
        ),
        (
            "kind = \"http\", url = \"https://example.org/tiny.gguf\"",
            "kind = \"python-package\", pieces = [{ package = \"a\", version = \"1\", member = \"../a\" }]",
        ),
        (
            "kind = \"http\", url = \"https://example.org/tiny.gguf\"",
            "kind = \"huggingface\", repo = \"a/b/c\", revision = \"main\", file = \"x\"",
        ),
    ] {
        assert_eq!(refusal(&[(from, to)]).code(), "firmware_manifest_invalid", "{to}");
    }
    assert_eq!(
        refusal(&[("size_bytes = 7", "size_bytes = -1")]).code(),
        "firmware_manifest_malformed"
    );
    let two =
        format!("{}\n[[parts]]{}", text(&[]), text(&[]).split_once("[[parts]]").expect("a part").1);
    assert_eq!(Manifest::parse(&two).unwrap_err().code(), "firmware_manifest_invalid");
}

#[test]
fn a_manifest_above_the_size_cap_is_refused_unread() {
    let long = "#".repeat(MANIFEST_BYTES_MAX as usize + 1);
    assert_eq!(Manifest::parse(&long).unwrap_err().code(), "firmware_manifest_too_large");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(MANIFEST_FILE), long).expect("written");
    assert_eq!(FirmwareDir::open(folder.path()).unwrap_err().code(), "firmware_manifest_too_large");
}

#[test]
fn a_verified_firmware_is_not_read_again_until_a_part_changes() {
    let (folder, firmware) = folder();
    assert_eq!(firmware.quick_check().expect("complete"), QuickCheck::Unverified);
    let mut seen = Vec::new();
    firmware.verify(|done, total| seen.push((done, total))).expect("genuine");
    assert_eq!(seen, [(7, 7)]);
    assert_eq!(firmware.quick_check().expect("complete"), QuickCheck::Verified);
    firmware.ensure_verified(|_, _| panic!("read again")).expect("nothing changed");

    let part =
        fs::File::options().write(true).open(folder.path().join("tiny.gguf")).expect("opens");
    part.set_modified(SystemTime::now() + Duration::from_mins(1)).expect("set");
    assert_eq!(firmware.quick_check().expect("complete"), QuickCheck::Unverified);
}

#[test]
fn a_flipped_bit_is_found_and_never_remembered_as_verified() {
    let (folder, firmware) = folder();
    fs::write(folder.path().join("tiny.gguf"), b"weightt").expect("written");
    assert_eq!(firmware.verify(|_, _| ()).unwrap_err().code(), "firmware_part_digest");
    assert_eq!(firmware.quick_check().expect("complete"), QuickCheck::Unverified);
}

#[test]
fn a_cut_or_missing_part_is_found_without_reading() {
    let (folder, firmware) = folder();
    let part = folder.path().join("tiny.gguf");
    fs::write(&part, b"weight").expect("written");
    assert_eq!(firmware.quick_check().unwrap_err().code(), "firmware_part_size");
    fs::remove_file(&part).expect("removed");
    assert_eq!(firmware.quick_check().unwrap_err().code(), "firmware_part_missing");
    fs::create_dir(&part).expect("created");
    assert_eq!(firmware.quick_check().unwrap_err().code(), "firmware_part_missing");
    assert_eq!(FirmwareDir::open(&part).unwrap_err().code(), "firmware_io");
}

#[test]
fn a_stamp_of_another_manifest_does_not_count() {
    let (folder, firmware) = folder();
    firmware.verify(|_, _| ()).expect("genuine");
    fs::write(folder.path().join(MANIFEST_FILE), text(&[("a test", "other")])).expect("written");
    let other = FirmwareDir::open(folder.path()).expect("opens");
    assert_eq!(other.quick_check().expect("complete"), QuickCheck::Unverified);
}
