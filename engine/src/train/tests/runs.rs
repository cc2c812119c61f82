//! Whole runs: the same again, cut off and resumed, ended early.

use super::super::trainer::shuffled;
use super::super::{Lineage, StepReport, TrainData, TrainError, TrainSettings, Trainer};
use super::{examples, golden_path, model, on_everything};
use crate::weights::{Profile, WeightFile};
use protocol::{Digest, FirmwareId};

fn lineage() -> Lineage {
    let digest = Digest::of(b"tiny");
    Lineage { firmware: FirmwareId(digest), tokenizer: digest, examples: digest }
}

fn settings() -> TrainSettings {
    TrainSettings {
        lora: on_everything(2),
        epochs: 3,
        batch: 2,
        part_tokens: 40,
        seed: 11,
        validate_every: Some(2),
        ..TrainSettings::default()
    }
}

fn trainer(settings: TrainSettings, threads: usize) -> Trainer {
    let mut all = examples(9);
    let valid = all.split_off(7);
    Trainer::begin(model("llama"), settings, TrainData { train: all, valid }, threads).unwrap()
}

fn run(trainer: &mut Trainer) -> Vec<StepReport> {
    std::iter::from_fn(|| trainer.advance().unwrap()).collect()
}

fn exported(trainer: &Trainer) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    trainer.export(folder.path(), None).unwrap();
    std::fs::read(folder.path().join("adapter_model.safetensors")).unwrap()
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_bits() {
    let mut whole = trainer(settings(), 2);
    let reports = run(&mut whole);
    whole.finish().unwrap();
    assert_eq!(reports.len(), 12);
    for cut in [1, 5, 11] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = trainer(settings(), 3);
        for _ in 0..cut {
            first.advance().unwrap();
        }
        first.save(folder.path(), &lineage()).unwrap();
        let mut second = trainer(settings(), 1);
        second.resume(folder.path(), &lineage()).unwrap();
        assert_eq!(run(&mut second), reports[cut..]);
        second.finish().unwrap();
        assert_eq!(exported(&second), exported(&whole));
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    trainer(settings(), 1).save(folder.path(), &lineage()).unwrap();
    let data = Lineage { examples: Digest::of(b"other"), ..lineage() };
    let firmware = Lineage { firmware: FirmwareId(Digest::of(b"other")), ..lineage() };
    for (lineage, differs) in [(data, "data"), (firmware, "firmware")] {
        let error = trainer(settings(), 1).resume(folder.path(), &lineage).unwrap_err();
        assert!(matches!(error, TrainError::OtherRun { what } if what == differs), "{error}");
    }
    let other = TrainSettings { seed: 12, ..settings() };
    let error = trainer(other, 1).resume(folder.path(), &lineage()).unwrap_err();
    assert!(error.to_string().contains("settings"), "{error}");
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    trainer(settings(), 1).save(folder.path(), &lineage()).unwrap();
    let path = folder.path().join(super::super::CHECKPOINT_FILE);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = trainer(settings(), 1).resume(folder.path(), &lineage()).unwrap_err();
        assert_eq!(error.code(), "invalid_checkpoint", "{length} bytes");
    }
}

#[test]
fn training_ends_early_and_keeps_the_best() {
    let mut settings = settings();
    settings.optimizer.learning_rate = 0.3; // so much that it soon gets worse
    (settings.epochs, settings.patience) = (50, 2);
    let mut trainer = trainer(settings, 2);
    let reports = run(&mut trainer);
    assert!((reports.len() as u64) < trainer.steps());
    let looks: Vec<_> =
        reports.iter().filter_map(|report| Some((report.step, report.valid_loss?))).collect();
    let least = looks.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap();
    assert_eq!(trainer.best(), Some(least));
    assert_eq!(
        looks.last().unwrap().0 - least.0,
        4,
        "two looks, two updates apart, were no better"
    );
}

#[test]
fn training_lowers_the_loss() {
    let mut settings = settings();
    settings.epochs = 20;
    settings.optimizer.learning_rate = 1e-2;
    let mut trainer = trainer(settings, 2);
    let reports = run(&mut trainer);
    let mean = |reports: &[StepReport]| reports.iter().map(|one| one.loss).sum::<f64>() / 4.0;
    let (first, last) = (mean(&reports[..4]), mean(&reports[reports.len() - 4..]));
    assert!(last < 0.5 * first, "{first} {last}");
}

#[test]
fn every_epoch_sees_every_example_once_in_an_order_of_its_own() {
    let mut orders: Vec<Vec<usize>> = (0..3).map(|epoch| shuffled(50, 9, epoch)).collect();
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
    for order in &mut orders {
        order.sort_unstable();
        assert_eq!(*order, (0..50).collect::<Vec<_>>());
    }
}

/// `tests/golden/exported` holds what this wrote once, and what PEFT computed with it; another
/// processor's sums may differ in the last bits, so values are not compared.
#[test]
fn an_export_has_the_form_that_peft_loaded() {
    let mut settings = settings();
    settings.epochs = 6;
    settings.optimizer.learning_rate = 1e-2;
    let mut trainer = trainer(settings, 2);
    run(&mut trainer);
    let folder = tempfile::tempdir().unwrap();
    trainer.export(folder.path(), None).unwrap();
    let golden = golden_path("exported");
    if std::env::var_os("UPDATE_EXPORTED").is_some() {
        trainer.export(&golden, None).unwrap();
    }
    let config = |folder: &std::path::Path| {
        std::fs::read_to_string(folder.join("adapter_config.json")).unwrap()
    };
    assert_eq!(config(folder.path()), config(&golden));
    let tensors = |folder: &std::path::Path| -> Vec<_> {
        let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
        let file = WeightFile::from_bytes(bytes, Profile::Adapter).unwrap();
        let names = file.names().map(str::to_owned);
        names.map(|name| (file.tensor(&name).unwrap().shape.clone(), name)).collect()
    };
    assert_eq!(tensors(folder.path()), tensors(&golden));
}
