//! Jobs of the kind `evaluate`: how good a model or adapter is on labelled examples, and its base beside
//! it on the same ones.
//!
//! Labels are chosen by the model under a grammar that allows nothing else, greedily; completions are
//! compared as texts. A step's answers are recorded as counts, so the measures are made of what each
//! example counted once.

use std::collections::BTreeSet;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::StatusCode;
use protocol::api::EvaluateSpec;
use protocol::openai::Completion;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::registry::{JobEnd, JobState, PageRequest};
use tokio::time::Instant;

use super::held::{Broken, Held};
use super::kinds::within;
use super::lines::{Line, Lines, input};
use super::progress::{Phase, Progress};
use super::request::{Answered, Request, line};
use super::score::{Side, Tally};
use crate::error::ApiError;
use crate::models;
use crate::valid::ModelSpec;

/// Most examples of one evaluation.
const EXAMPLES_MAX: u64 = 100_000;
/// Most labels.
const LABELS_MAX: usize = 256;
const LABEL_BYTES_MAX: usize = 128;
/// Longest wait for one example, should no node be there.
const PATIENCE: std::time::Duration = std::time::Duration::from_hours(24);

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Example {
    Labelled(Labelled),
    Completed(Completed),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    text: String,
    label: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Completed {
    prompt: String,
    completion: String,
}

/// The checkpoint: how far it has come, and what the input showed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Checkpoint {
    #[serde(flatten)]
    progress: Progress,
    /// The labels to choose from; none where examples have completions.
    labels: Option<Vec<String>>,
    /// The model that it is compared with, if it is with any.
    base: Option<String>,
}

/// Refuses numbers and texts that no evaluation can have.
///
/// # Errors
/// 400 that names the field.
pub fn check_spec(spec: &EvaluateSpec) -> Result<(), ApiError> {
    within("lines_per_step", spec.lines_per_step, (1, 1000))?;
    within("lines_at_once", spec.lines_at_once, (1, 64))?;
    within("max_tokens", spec.max_tokens, (1, 4096))?;
    if spec.template.as_ref().is_some_and(|template| !template.contains("{text}")) {
        return Err(ApiError::invalid("template", "the template has `{text}` in it"));
    }
    if let Some(labels) = &spec.labels {
        check_labels(labels).map_err(|message| ApiError::invalid("labels", message))?;
    }
    Ok(())
}

/// Does the job.
///
/// # Errors
/// [`Broken`].
pub async fn run(held: &Held, spec: &EvaluateSpec) -> Result<(), Broken> {
    let blob = input(held, &spec.input_file_id).await?.blob;
    let kept = held.job.checkpoint.clone().and_then(|kept| serde_json::from_value(kept).ok());
    let mut at: Checkpoint = kept.unwrap_or_default();
    if at.progress.phase == Phase::Validating {
        at = look(held, spec, Lines::of(held, &blob).await?).await?;
        at.base = base(held, spec).await?;
        held.checkpoint(&at).await?;
    }
    let mut lines = Lines::of(held, &blob).await?;
    lines.skip(at.progress.done).await?;
    while at.progress.done < at.progress.total {
        let some = lines.some(spec.lines_per_step).await?;
        if some.is_empty() {
            return Err(Broken::for_good("input_changed", "the input has fewer lines than before"));
        }
        let tally = step(held, spec, &at, &some).await?;
        let failed = tally.failed();
        let progress = at.progress.after(some.len() as u64 - failed, failed);
        let (step, output) = (at.progress.step(), json!(tally));
        at.progress = progress;
        held.record(&step, output, None, &at).await?;
    }
    let result =
        sum(held, &at).await?.report(&spec.model, at.base.as_deref(), at.labels.as_deref());
    held.finish(&JobEnd { state: JobState::Succeeded, result, files: Vec::new() }).await
}

/// Looks at every example.
async fn look(held: &Held, spec: &EvaluateSpec, mut lines: Lines) -> Result<Checkpoint, Broken> {
    let (mut count, mut labels, mut labelled) = (0, BTreeSet::new(), None);
    while let Some(read) = lines.next().await? {
        count += 1;
        let wrong =
            |why: &str| Broken::for_good("invalid_input", format!("line {}: {why}", read.number));
        let example = line::<Example>(&read.bytes).map_err(|_| {
            wrong("an example is `{\"text\", \"label\"}` or `{\"prompt\", \"completion\"}`")
        })?;
        if *labelled.get_or_insert(matches!(example, Example::Labelled(_)))
            != matches!(example, Example::Labelled(_))
        {
            return Err(wrong("examples have labels or completions, all the same"));
        }
        if let Example::Labelled(example) = example {
            if spec.labels.as_ref().is_some_and(|labels| !labels.contains(&example.label)) {
                return Err(wrong("its label is none of `labels`"));
            }
            labels.insert(example.label);
        }
        if count > EXAMPLES_MAX || labels.len() > LABELS_MAX {
            let message = format!("at most {EXAMPLES_MAX} examples and {LABELS_MAX} labels");
            return Err(Broken::for_good("too_many_lines", message));
        }
    }
    let Some(labelled) = labelled else {
        return Err(Broken::for_good("empty_file", "the input has no example"));
    };
    let labels = spec.labels.clone().unwrap_or_else(|| labels.into_iter().collect());
    if labelled {
        check_labels(&labels).map_err(|why| Broken::for_good("invalid_input", why))?;
    }
    let _ = held;
    Ok(Checkpoint {
        progress: Progress::begun(count),
        labels: labelled.then_some(labels),
        base: None,
    })
}

fn check_labels(labels: &[String]) -> Result<(), String> {
    let different: BTreeSet<&str> = labels.iter().map(|label| label.trim()).collect();
    let fits = |label: &&str| !label.is_empty() && label.len() <= LABEL_BYTES_MAX;
    if (2..=LABELS_MAX).contains(&labels.len())
        && different.len() == labels.len()
        && different.iter().all(fits)
    {
        return Ok(());
    }
    Err(format!("2 to {LABELS_MAX} different labels of 1 to {LABEL_BYTES_MAX} bytes"))
}

/// What the model is compared with: as asked, or an adapter's firmware.
async fn base(held: &Held, spec: &EvaluateSpec) -> Result<Option<String>, Broken> {
    if let Some(base) = &spec.base {
        return Ok(Some(base.clone()));
    }
    let (app, tenant) = (&held.app, &held.job.tenant);
    let resolved = async {
        let model = ModelSpec::named(&spec.model)?;
        let model = models::resolve(app, tenant, &model).await?;
        let known = models::firmwares(app, tenant).await?;
        let firmware = known.into_iter().find(|known| known.id == model.firmware);
        Ok::<_, ApiError>(firmware.filter(|_| !model.adapters.is_empty()).map(|known| known.name))
    };
    resolved.await.map_err(|error| {
        let (code, message) = (error.code(), error.public_body().error.message);
        if error.retryable() {
            Broken::for_now(code, message)
        } else {
            Broken::for_good(code, message)
        }
    })
}

/// Answers some examples on each side.
async fn step(
    held: &Held,
    spec: &EvaluateSpec,
    at: &Checkpoint,
    lines: &[Line],
) -> Result<Tally, Broken> {
    let answers: Vec<_> = lines.iter().map(|line| example(held, spec, at, line).boxed()).collect();
    let mut answers = stream::iter(answers).buffered(spec.lines_at_once as usize);
    let mut tally = Tally::new(at.labels.as_ref().map_or(0, Vec::len), at.base.is_some());
    while let Some(answer) = answers.next().await {
        let (wanted, model, base) = answer?;
        tally.count(at.labels.as_deref(), &wanted, &model, base.as_ref());
    }
    Ok(tally)
}

/// What was wanted, and what each side answered; none where it failed.
async fn example(
    held: &Held,
    spec: &EvaluateSpec,
    at: &Checkpoint,
    read: &Line,
) -> Result<(String, Side, Option<Side>), Broken> {
    let example: Example = line(&read.bytes).map_err(|error| {
        Broken::for_good("invalid_input", format!("line {}: {error}", read.number))
    })?;
    let id = format!("{}-{}", held.job.id, read.number);
    let (wanted, body) = question(spec, at, &example);
    let model = ask(held, &spec.model, &id, &body).await?;
    let base = match &at.base {
        Some(base) => Some(ask(held, base, &id, &body).await?),
        None => None,
    };
    Ok((wanted.trim().to_owned(), model, base))
}

/// What is wanted, and the request that asks for it, without its model.
fn question(spec: &EvaluateSpec, at: &Checkpoint, example: &Example) -> (String, Value) {
    match (example, &at.labels) {
        (Example::Labelled(example), Some(labels)) => {
            let template = spec.template.as_deref().unwrap_or("{text}");
            let prompt = template.replace("{text}", &example.text);
            let space = if prompt.ends_with(char::is_whitespace) { "" } else { " " };
            let labels: Vec<String> = labels.iter().map(|label| escaped(label.trim())).collect();
            let definition = format!("{space}({})", labels.join("|"));
            let body = json!({
                "prompt": prompt,
                // A token has at least a byte.
                "max_tokens": LABEL_BYTES_MAX + 2,
                "temperature": 0,
                "response_format": {
                    "type": "grammar",
                    "grammar": { "syntax": "regex", "definition": definition }
                },
            });
            (example.label.clone(), body)
        }
        (Example::Labelled(Labelled { text: prompt, label: wanted }), None)
        | (Example::Completed(Completed { prompt, completion: wanted }), _) => {
            let mut body =
                json!({ "prompt": prompt, "max_tokens": spec.max_tokens, "temperature": 0 });
            // What goes on in a further line was not asked for.
            if !wanted.trim().contains('\n') {
                body["stop"] = json!(["\n"]);
            }
            (wanted.clone(), body)
        }
    }
}

fn escaped(label: &str) -> String {
    label.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii_punctuation() {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

async fn ask(held: &Held, model: &str, id: &str, body: &Value) -> Result<Side, Broken> {
    let mut body = body.clone();
    body["model"] = json!(model);
    let request = Request::read("/v1/completions", &body)
        .map_err(|error| Broken::for_good(error.code(), error.to_string()))?;
    let answered = request.answer(held, id, Instant::now() + PATIENCE).await;
    match answered {
        Answered::Reply { status: StatusCode::OK, body, .. } => {
            let reply: Option<Completion> = serde_json::from_value(body).ok();
            let choice = reply.and_then(|reply| reply.choices.into_iter().next());
            Ok(choice.map(|choice| choice.text.trim().to_owned()))
        }
        // A model that is not there is not there for any example.
        Answered::Reply { status: StatusCode::NOT_FOUND | StatusCode::CONFLICT, body, .. } => {
            Err(Broken::ForGood(body["error"].clone()))
        }
        Answered::Reply { .. } => Ok(None),
        Answered::TooLate => Err(Broken::for_now("unavailable", "no node answered in a day")),
    }
}

/// All that was counted.
async fn sum(held: &Held, at: &Checkpoint) -> Result<Tally, Broken> {
    let mut all = Tally::new(at.labels.as_ref().map_or(0, Vec::len), at.base.is_some());
    let mut next = Some(PageRequest::longest());
    while let Some(request) = next {
        let page = held.app.registry.effects(&held.job.id, &request).await?;
        for effect in &page.items {
            let tally = serde_json::from_value(effect.output.clone());
            let unreadable = |_| Broken::for_good("unreadable_step", "a step cannot be read");
            all.add(&tally.map_err(unreadable)?);
        }
        next = request.following(&page);
    }
    Ok(all)
}
