//! The engine's queue, on a real engine.

use std::sync::Arc;

use engine::firmware::FirmwareDir;
use engine::{Engine, EngineConfig, LoadedFirmware};
use protocol::{EmbedWork, ErrorCode, Event, Prompt, TenantId, Work};

fn embed(inputs: usize) -> Work {
    let inputs = vec![Prompt::Text("hello".to_owned()); inputs];
    Work::Embed(EmbedWork { inputs, adapters: Vec::new(), tenant: TenantId::from("local") })
}

#[tokio::test]
async fn a_request_with_more_inputs_than_the_queue_has_places_runs_if_nothing_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    testkit::tiny_firmware(folder.path()).expect("written");
    let directory = FirmwareDir::open(folder.path()).expect("it opens");
    let firmware = Arc::new(LoadedFirmware::load(&directory).expect("it loads"));
    let config = EngineConfig { threads: 1, queue_max: 4, max_rows: 1, ..EngineConfig::default() };
    let engine = Engine::start(firmware, config).expect("it starts");
    let mut events = engine.submit(embed(500)).expect("nothing waits");
    let refused = engine.submit(embed(4)).expect_err("much waits");
    assert_eq!(refused.code, ErrorCode::Busy);
    let mut embedded = 0;
    while let Some(event) = events.next().await {
        embedded += usize::from(matches!(event.expect("it goes well"), Event::Embedding { .. }));
    }
    assert_eq!(embedded, 500);
}
