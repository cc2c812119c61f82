//! An adapter's weights that are not those of its manifest.

use engine::EngineConfig;
use protocol::ErrorCode;
use testkit::{lora_files, tiny_engine, tiny_lora, write_lora};

#[test]
fn weights_with_one_flipped_bit_are_refused_and_the_right_ones_load_after_all() {
    let engine = tiny_engine(EngineConfig::default());
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(7)).expect("written");
    let (manifest, files) = lora_files(folder.path(), engine.firmware()).expect("just written");
    let right = std::fs::read(&files.weights).expect("just written");
    let mut rotten = right.clone();
    *rotten.last_mut().expect("weights") ^= 1; // still a finite number
    std::fs::write(&files.weights, rotten).expect("written");
    let refused = engine.load_adapter(&manifest, &files).expect_err("not these");
    assert_eq!(refused.code, ErrorCode::AdapterUnavailable);
    assert!(!engine.is_resident(manifest.id()));
    std::fs::write(&files.weights, right).expect("written");
    engine.load_adapter(&manifest, &files).expect("these");
    assert!(engine.is_resident(manifest.id()));
}
