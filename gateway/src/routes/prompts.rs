//! The prompts of one request, some at once, as one stream of numbered events. A chat has one.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use protocol::{ErrorCode, Event, NodeKind, Placement, Prompt, TenantId, Work, WorkError};

use crate::access::Permit;
use crate::app::App;
use crate::dispatch::{self, Run, Task, Told};
use crate::error::ApiError;
use crate::http::RequestContext;
use crate::models::ResolvedModel;
use crate::valid::Generate;

/// How many prompts of one request run at once.
const PROMPTS_AT_ONCE: usize = 4;

/// Events with the number of their prompt.
pub(crate) type Numbered = BoxStream<'static, Result<(usize, Event), WorkError>>;

/// What the prompts of one request share, and they themselves.
pub(crate) struct Prompts {
    pub(crate) app: App,
    pub(crate) tenant: TenantId,
    pub(crate) context: RequestContext,
    pub(crate) wants: Option<NodeKind>,
    pub(crate) model: Arc<ResolvedModel>,
    pub(crate) permit: Arc<Permit>,
    pub(crate) generate: Generate,
    /// Used where the caller gave none.
    pub(crate) seed: u64,
    pub(crate) all: Vec<Prompt>,
}

/// How far one prompt has come elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) told: Option<Told>,
    pub(crate) over: bool,
}

impl Prompts {
    /// Begins the first prompt, so that what is wrong with all is said before the reply begins; the
    /// others follow as the stream is read.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<(Placement, Numbered), ApiError> {
        let Run { placement, events } = self.run(0, None).await?;
        let first = events.map_ok(|event| (0, event)).boxed();
        let rest = (1..self.all.len()).map(|index| self.later(index, None));
        Ok((placement, merge(std::iter::once(first).chain(rest))))
    }

    /// Goes on with what broke off at another gateway; `progress` is by prompt.
    pub(crate) fn go_on(self: &Arc<Self>, progress: Vec<Progress>) -> Numbered {
        let left = progress.into_iter().enumerate().filter(|(_, progress)| !progress.over);
        let told = |progress: Progress| progress.told.filter(Told::has_begun);
        merge(left.map(|(index, progress)| self.later(index, told(progress))))
    }

    /// The work of one prompt.
    pub(crate) fn work(&self, index: usize) -> Work {
        // Choice `i` of a prompt draws from `seed + i`: prompts must not share these.
        let seed = self.seed.wrapping_add((index as u64) << 32);
        let (prompt, tenant) = (self.all[index].clone(), self.tenant.clone());
        self.generate.work(prompt, self.model.adapters.clone(), tenant, seed)
    }

    /// What the caller asked for of it, whatever the model's name stands for now.
    pub(crate) fn asked(&self, index: usize) -> Work {
        let (prompt, tenant) = (self.all[index].clone(), self.tenant.clone());
        self.generate.work(prompt, Vec::new(), tenant, 0)
    }

    fn later(self: &Arc<Self>, index: usize, told: Option<Told>) -> Numbered {
        let prompts = Arc::clone(self);
        let begun = async move { prompts.run(index, told).await.map_err(as_work_error) };
        let events = begun.map_ok(|run| run.events).try_flatten_stream();
        events.map_ok(move |event| (index, event)).boxed()
    }

    async fn run(&self, index: usize, told: Option<Told>) -> Result<Run, ApiError> {
        let task = Task {
            tenant: self.tenant.clone(),
            model: Arc::clone(&self.model),
            work: self.work(index),
            cost: self.generate.cost(&self.all[index]),
            context: self.context.clone(),
            wants: self.wants,
            permit: Some(Arc::clone(&self.permit)),
            told,
        };
        dispatch::run(&self.app, task).await
    }
}

fn merge(all: impl Iterator<Item = Numbered>) -> Numbered {
    let all: Vec<Numbered> = all.collect();
    stream::iter(all).flatten_unordered(PROMPTS_AT_ONCE).boxed()
}

/// An error of a later prompt travels in the stream of all.
fn as_work_error(error: ApiError) -> WorkError {
    match error {
        ApiError::Work(error) => error,
        ApiError::Place(error) => WorkError::new(error.code(), error.to_string()),
        other => WorkError::new(ErrorCode::Internal, other.public_body().error.message),
    }
}
