//! One run: rows, updates, checkpoints, the adapter's files, its scores.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use engine::LoadedFirmware;
use engine::firmware::FirmwareDir;
use engine::train::{BaseRecord, CHECKPOINT_FILE, Lineage, TrainError, TrainRecord, Trainer};

use super::bar::TrainBar;
use super::data::Rows;
use super::score::{Subject, compare};
use super::{Arguments, load};
use crate::failure::Failure;
use crate::output::note;

/// Trains until it is done or `stop` is set, and measures what came out.
pub(super) fn train(
    arguments: &Arguments,
    directory: &FirmwareDir,
    stop: &AtomicBool,
) -> Result<TrainRecord, Failure> {
    let firmware = load(directory)?;
    let rows = Rows::read(arguments, &firmware)?;
    let out = &arguments.out;
    std::fs::create_dir_all(out).map_err(|error| {
        Failure::new(
            anyhow!(error).context(format!("`{}` cannot be made", out.display())),
            "choose another --out",
        )
    })?;
    let lineage = Lineage::new(&firmware, &rows.examples);
    let (settings, limits) = (arguments.settings(), arguments.limits());
    let mut trainer = Trainer::new(directory, settings, rows.examples.clone(), limits)?;
    if arguments.resume {
        trainer.resume(out, &lineage)?;
    }
    note(&introduction(&trainer, &rows));
    go(&mut trainer, arguments, &lineage, stop)?;
    trainer.finish()?;
    // Frozen means frozen: whatever happened, the base is the one that was pinned.
    directory.verify(|_, _| ())?;
    let mut record = record(arguments, directory, &firmware, &rows, &trainer);
    trainer.export(out, record.base.model.as_deref())?;
    drop(trainer);
    let subject = Subject { folder: out, prompting: &rows.prompting, labels: &rows.labels };
    record.evaluation = Some(compare(&firmware, &subject, &rows.scored())?);
    record.write(out)?;
    remove_checkpoint(out)?;
    Ok(record)
}

fn introduction(trainer: &Trainer, rows: &Rows) -> String {
    let tokens: usize = rows.examples.train.iter().map(|example| example.tokens.len()).sum();
    let (examples, valid) = (rows.train.len(), rows.valid.len());
    let (step, steps) = (trainer.step(), trainer.steps());
    format!("{examples} examples ({tokens} tokens), {valid} held out; updates {step} to {steps}")
}

/// Update after update, with a checkpoint now and then and at the end.
fn go(
    trainer: &mut Trainer,
    arguments: &Arguments,
    lineage: &Lineage,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let out = &arguments.out;
    let mut bar = TrainBar::new(trainer.step(), trainer.steps());
    while let Some(report) = trainer.advance()? {
        bar.report(&report);
        let stopped = stop.load(Ordering::Relaxed);
        if stopped || report.step.is_multiple_of(arguments.checkpoint_every) {
            trainer.save(out, lineage)?;
        }
        if stopped {
            let what = format!("training, after update {} of {},", report.step, trainer.steps());
            return Err(Failure::interrupted(what, "go on with the same command and --resume"));
        }
    }
    trainer.save(out, lineage)?; // so that a failed evaluation costs no training
    note(&format!("trained at {:.0} tokens/s", bar.speed()));
    Ok(())
}

fn record(
    arguments: &Arguments,
    directory: &FirmwareDir,
    firmware: &LoadedFirmware,
    rows: &Rows,
    trainer: &Trainer,
) -> TrainRecord {
    let (manifest, info) = (directory.manifest(), firmware.info());
    TrainRecord {
        schema: TrainRecord::SCHEMA,
        task: arguments.task.as_str().to_owned(),
        base: BaseRecord {
            firmware: info.id,
            tokenizer: info.tokenizer,
            name: format!("{} {}", manifest.name, manifest.version),
            licence: manifest.licence.clone(),
            model: manifest.base_models.first().cloned(),
        },
        data: rows.records.clone(),
        prompting: rows.prompting.clone(),
        labels: rows.labels.clone(),
        settings: trainer.settings().clone(),
        steps: trainer.step(),
        best: trainer.best(),
        evaluation: None,
    }
}

fn remove_checkpoint(folder: &Path) -> Result<(), TrainError> {
    let path = folder.join(CHECKPOINT_FILE);
    std::fs::remove_file(&path).map_err(|source| TrainError::File { path, verb: "removed", source })
}
