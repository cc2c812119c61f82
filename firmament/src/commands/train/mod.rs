//! `firmament train`: from a file of rows to an adapter's folder, in this process.
//! Owns: the order of the steps, and what the user sees. Never: arithmetic.

mod arguments;
mod bar;
mod data;
mod run;
mod score;

pub use arguments::Arguments;
pub use score::Arguments as ScoreArguments;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::LoadedFirmware;
use engine::firmware::FirmwareDir;
use engine::train::data::DataError;
use engine::train::{Evaluation, TrainError, TrainRecord};
use protocol::WorkError;
use serde_json::json;

use super::shelf;
use crate::data::DataDir;
use crate::failure::{Exit, Failure};
use crate::output::{Output, table};

/// Trains, measures and prints.
pub async fn run(arguments: Arguments, data: &DataDir, output: Output) -> Result<(), Failure> {
    arguments.check_folder()?;
    let firmware = open_firmware(data, arguments.firmware.as_deref())?;
    let stop = Arc::new(AtomicBool::new(false));
    let (out, asked) = (arguments.out.clone(), Arc::clone(&stop));
    let mut work = tokio::task::spawn_blocking(move || run::train(&arguments, &firmware, &asked));
    let record = tokio::select! {
        record = &mut work => record??,
        _ = telemetry::shutdown_signal() => {
            stop.store(true, Ordering::Relaxed);
            work.await?? // it saves and says so, or had just finished
        }
    };
    show(&record, &out, output);
    Ok(())
}

/// Measures an adapter and prints.
pub async fn score(
    arguments: ScoreArguments,
    data: &DataDir,
    output: Output,
) -> Result<(), Failure> {
    let firmware = open_firmware(data, arguments.firmware.as_deref())?;
    let work = tokio::task::spawn_blocking(move || score::run(&arguments, &firmware));
    let evaluation = tokio::select! {
        evaluation = work => evaluation??,
        _ = telemetry::shutdown_signal() => {
            return Err(Failure::interrupted("the evaluation", "run it again"));
        }
    };
    output.show(&evaluation, || scores(&evaluation));
    Ok(())
}

/// A firmware that is here.
fn open_firmware(data: &DataDir, name: Option<&str>) -> Result<FirmwareDir, Failure> {
    let known = name.map_or_else(|| shelf::in_use(data), |name| shelf::find(data, name))?;
    let folder = known.folder.ok_or_else(|| {
        let what = format!("the parts of `{}`", known.manifest.name);
        Failure::not_found(what, "fetch them with `firmament firmware pull`")
    })?;
    Ok(FirmwareDir::open(&folder)?)
}

fn load(directory: &FirmwareDir) -> Result<Arc<LoadedFirmware>, Failure> {
    directory.ensure_verified(|_, _| ())?;
    let advice = "check it with `firmament firmware verify`; see `firmament doctor`";
    let loaded = LoadedFirmware::load(directory).map_err(|error| Failure::new(error, advice))?;
    Ok(Arc::new(loaded))
}

fn show(record: &TrainRecord, out: &Path, output: Output) {
    let folder = json!({ "folder": out, "record": record });
    output.show(&folder, || {
        let scores = record.evaluation.as_ref().map(scores).unwrap_or_default();
        let (folder, task) = (out.display(), &record.task);
        format!(
            "{scores}\n\nthe adapter is in {folder}\nserve it: firmament adapter add {folder} --name {task}"
        )
    });
}

/// The scores for people.
fn scores(evaluation: &Evaluation) -> String {
    let head = match evaluation.base {
        engine::train::Scores::Labels { .. } => ["ACCURACY", "MACRO F1"],
        engine::train::Scores::Loss(_) => ["LOSS", "PERPLEXITY"],
    };
    let rows = evaluation.named().map(|(name, scores)| {
        let [first, second] = scores.cells();
        vec![name.to_owned(), first, second]
    });
    let title = format!("{} ROWS", evaluation.rows);
    table(&[&title, head[0], head[1]], rows)
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let (exit, advice) = match &error {
            TrainError::Setting(_) => (Exit::Usage, "see `firmament train --help`"),
            TrainError::Data(_) => (Exit::Failed, "mend the data; see docs/training.md"),
            TrainError::NotFinite { .. } => {
                (Exit::Failed, "the last checkpoint is kept; lower --learning-rate in a new folder")
            }
            TrainError::OtherRun { .. } => {
                (Exit::Usage, "repeat the first command as it was, with --resume")
            }
            TrainError::Checkpoint { .. } => {
                (Exit::Failed, "remove it and train again without --resume")
            }
            TrainError::File { .. } => {
                (Exit::Failed, "check rights and free space; then go on with --resume")
            }
            TrainError::Engine(_) => (Exit::Failed, "check it with `firmament firmware verify`"),
            TrainError::Tensor(_) | TrainError::Threads(_) => {
                (Exit::Failed, "free memory or threads; then go on with --resume")
            }
        };
        Self::with(exit, error, advice)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::new(error, "mend the row and run it again; docs/training.md shows each form")
    }
}

/// An adapter that the serving engine refuses.
fn refused(error: WorkError) -> Failure {
    Failure::new(anyhow::anyhow!(error.message), "train it again, or with a higher learning rate")
}

/// A row that it cannot answer.
fn unanswered(error: WorkError) -> Failure {
    Failure::new(anyhow::anyhow!(error.message), "mend the rows, or raise --max-tokens")
}
