//! Readiness is earned: a node has to generate one token for this gateway first.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use protocol::{
    ChatMessage, ChatRole, Event, GenerateWork, Prompt, RequestId, TenantId, ToolChoice, Work,
};
use scheduler::core::PlaceRequest;
use telemetry::Scope;

use crate::access::LOCAL_TENANT;
use crate::app::App;
use crate::dispatch::ExecuteContext;
use crate::models;

const RETRY_EVERY: Duration = Duration::from_millis(250);
const PROBE_MAX: Duration = Duration::from_mins(1);

/// Probes until a token came, then ends.
pub async fn run(app: App, scope: Scope) {
    loop {
        tokio::select! {
            biased;
            () = scope.cancelled() => return,
            proved = probe(&app) => if proved {
                app.proved.store(true, Ordering::Release);
                tracing::info!("a node has generated a token: ready");
                return;
            },
        }
        tokio::select! {
            () = scope.cancelled() => return,
            () = tokio::time::sleep(RETRY_EVERY) => {}
        }
    }
}

async fn probe(app: &App) -> bool {
    let tenant = TenantId::from(LOCAL_TENANT);
    let Ok(firmwares) = models::firmwares(app, &tenant).await else { return false };
    let Some(firmware) = models::default_firmware(app, &firmwares) else { return false };
    let request = PlaceRequest {
        tenant,
        firmware,
        adapters: Vec::new(),
        prompt_tokens: 8,
        wants: None,
        exclude: Vec::new(),
        spread: 0,
    };
    let Ok(lease) = app.placements.lease(&request, 9, Duration::ZERO).await else { return false };
    let context = ExecuteContext {
        request_id: RequestId::from("probe"),
        deadline: PROBE_MAX,
        traceparent: None,
        tracestate: None,
    };
    let ran = tokio::time::timeout(PROBE_MAX, async {
        let node = &lease.decision.placement.node;
        let mut events = app.nodes.execute(node, work(), context).await.ok()?;
        while let Some(event) = events.next().await {
            if let Event::Done(usage) = event.ok()? {
                return Some(usage.completion_tokens > 0);
            }
        }
        None
    });
    matches!(ran.await, Ok(Some(true)))
}

fn work() -> Work {
    let message = ChatMessage {
        role: ChatRole::User,
        content: "Say yes.".to_owned(),
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let (tools, tool_choice) = (Vec::new(), ToolChoice::None);
    let prompt = Prompt::Chat { messages: vec![message], tools, tool_choice, calls_max: 0 };
    let work = GenerateWork::greedy(prompt, LOCAL_TENANT);
    Work::Generate(GenerateWork { max_tokens: Some(1), ignore_eos: true, ..work })
}
