//! Streams that survive: their events are kept in the live state for a while, so that a caller goes on
//! where it was, at any gateway, also when the one that it had is gone.
//! Owns: the log of a stream, who writes it, who reads it, the ids of its events. Never: what an event
//! means, where work runs.
//!
//! One gateway writes a stream. It does so as long as what it writes is the next entry of the log; who
//! goes on in its place writes there first, and that it finds its place taken ends the one before. A
//! reader who lost its connection tells the last event that it has; the events before it are told again
//! to nobody, and their hash proves that they were the same.

mod entry;
mod follower;
mod hub;
mod id;
mod metrics;
mod owner;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use protocol::{Digest, TenantId};
use store::live::StreamRead;

use self::entry::{Entry, Opened, Written};
use self::follower::Follower;
pub use self::hub::Hubs;
pub use self::id::{EventId, StreamId};
use self::metrics::Resumed;
pub use self::metrics::StreamMetrics;
pub use self::wish::ResumeWish;
use crate::app::App;
use crate::error::ApiError;
use crate::reply::{Form, Head, respond, respond_numbered};
use crate::routes::inference;
use crate::routes::prompts::{Numbered, Prompts};

/// Answers a streamed request: from its beginning, or from where the caller was.
pub async fn answer(
    prompts: Prompts,
    head: Head,
    form: Form,
    wish: ResumeWish,
) -> Result<Response, ApiError> {
    if let Some(last) = wish.last {
        return resume(prompts, &form, &last).await;
    }
    let prompts = Arc::new(prompts);
    let (placement, events) = prompts.begin().await?;
    let response = if wish.resumable {
        begin(&prompts, head, form, events).await
    } else {
        plain(head, form, events)
    };
    Ok(inference::reply(response, Some(&placement), &prompts.model, &prompts.permit))
}

fn plain(head: Head, form: Form, events: Numbered) -> Response {
    let mut teller = form.teller(head);
    respond(events.map(move |event| event.map(|(prompt, event)| teller.push(prompt, event))))
}

/// A stream that can be resumed; without the live state one that cannot, whose events have no ids.
async fn begin(prompts: &Arc<Prompts>, head: Head, form: Form, events: Numbered) -> Response {
    let (app, tenant) = (&prompts.app, &prompts.tenant);
    let id = StreamId::new(tenant, rand::random());
    let key = id.key(tenant);
    let opened = Opened {
        request: digest(prompts, &form),
        seed: prompts.seed,
        firmware: prompts.model.firmware,
        adapters: prompts.model.adapters.clone(),
        head: head.clone(),
        form: form.clone(),
    };
    let first = Entry::Opened(Box::new(opened.clone()));
    if entry::write(app, &key, 0, &first).await != Written::Here {
        return plain(head, form, events);
    }
    let reader = owner::own(app, &key, 1, events);
    follow(Follower::new(app, id, key, opened).at_its_beginning(reader))
}

/// The caller repeats the request that began a stream, at this gateway or another.
async fn resume(prompts: Prompts, form: &Form, last: &EventId) -> Result<Response, ApiError> {
    let app = prompts.app.clone();
    let (tenant, model) = (prompts.tenant.clone(), Arc::clone(&prompts.model));
    let permit = Arc::clone(&prompts.permit);
    let found = async {
        let Found { key, opened, rest } = find(&app, &tenant, &last.stream).await?;
        if opened.request != digest(&prompts, form) {
            let message = "the stream of this event began with another request";
            let message = message.to_owned();
            return Err(ApiError::Conflict { code: "stream_mismatch", message });
        }
        if opened.firmware != model.firmware || opened.adapters != model.adapters {
            return Err(lost());
        }
        let prompts = Arc::new(Prompts { seed: opened.seed, ..prompts });
        let reader = app.hubs.find(&key).map(|hub| hub.read());
        let follower = Follower::new(&app, last.stream.clone(), key, *opened);
        let mut follower = follower.beside(reader).having(rest).or_restart(prompts);
        follower.seek(last).await?;
        Ok(follower)
    };
    let follower = counted(&app, found.await)?;
    Ok(inference::reply(follow(follower), None, &model, &permit))
}

/// Reads a stream without being able to go on with it.
pub async fn read(
    app: &App,
    tenant: &TenantId,
    id: &StreamId,
    last: Option<&EventId>,
) -> Result<Response, ApiError> {
    let found = async {
        if last.is_some_and(|last| last.stream != *id) {
            let message = "`last-event-id` is of another stream";
            return Err(ApiError::invalid("last-event-id", message));
        }
        let Found { key, opened, rest } = find(app, tenant, id).await?;
        let reader = app.hubs.find(&key).map(|hub| hub.read());
        let follower = Follower::new(app, id.clone(), key, *opened);
        let mut follower = follower.beside(reader).having(rest);
        if let Some(last) = last {
            follower.seek(last).await?;
        }
        Ok(follower)
    };
    Ok(follow(counted(app, found.await)?))
}

fn counted(app: &App, found: Result<Follower, ApiError>) -> Result<Follower, ApiError> {
    let result = match &found {
        Ok(_) => Resumed::Followed,
        Err(error) => match error.code() {
            "stream_mismatch" => Resumed::Mismatch,
            "stream_diverged" => Resumed::Diverged,
            "stream_lost" => Resumed::Lost,
            "stream_not_found" => Resumed::Unknown,
            _ => Resumed::Failed,
        },
    };
    app.metrics.streams.resumed(result);
    found
}

/// A stream's log.
struct Found {
    key: String,
    opened: Box<Opened>,
    /// What follows.
    rest: Vec<Bytes>,
}

/// A tenant's stream.
async fn find(app: &App, tenant: &TenantId, id: &StreamId) -> Result<Found, ApiError> {
    if !id.belongs_to(tenant) {
        let message = "there is no such stream, or you have no access to it".to_owned();
        return Err(ApiError::NotFound { param: None, code: "stream_not_found", message });
    }
    let key = id.key(tenant);
    let read = app.live.read(&key, 0, Duration::ZERO, app.now()).await?;
    let StreamRead::Events { events, .. } = read else { return Err(lost()) };
    let mut events = events.into_iter();
    match events.next().and_then(|first| Entry::read(&first)) {
        Some(Entry::Opened(opened)) => Ok(Found { key, opened, rest: events.collect() }),
        _ => Err(lost()),
    }
}

/// What a request asks for: two that would be answered alike, but for the choice of a seed, have the
/// same.
fn digest(prompts: &Prompts, form: &Form) -> Digest {
    let works: Vec<_> = (0..prompts.all.len()).map(|index| prompts.asked(index)).collect();
    let asked = serde_json::to_vec(&(&prompts.model.written, works, form));
    Digest::of(&asked.expect("requests are plain data"))
}

fn follow(follower: Follower) -> Response {
    respond_numbered(stream::unfold(follower, |mut follower| async {
        let step = follower.step().await?;
        Some((step, follower))
    }))
}

fn lost() -> ApiError {
    let message = "this stream is not kept any more and nobody goes on with it; send the request again \
                   from its beginning";
    ApiError::Gone { code: "stream_lost", message: message.to_owned() }
}
