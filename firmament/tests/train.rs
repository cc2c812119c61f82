//! Training as a user does it: from a file of rows to an adapter that serves.

mod common;

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use common::{Up, done, firmament, json, real, refused, tiny, until};
use engine::firmware::FirmwareDir;
use engine::train::data::{Prompting, Row};
use engine::train::{
    Evaluator, LoraSettings, Scores, TrainData, TrainLimits, TrainSettings, Trainer,
};
use engine::{Engine, EngineConfig, LoadedFirmware, Projection};
use protocol::{AdapterUse, Event, GenerateWork, Work};
use serde_json::Value;

const CHECKPOINT: &str = "checkpoint.safetensors";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Texts whose first letter is their class.
fn rows(count: usize) -> String {
    let row = |index: usize| {
        let (letter, label) = if index.is_multiple_of(3) { ('q', "no") } else { ('z', "yes") };
        format!("{letter}{}{},{label}\n", index * 7 % 10, index % 10)
    };
    "text,label\n".to_owned() + &(0..count).map(row).collect::<String>()
}

/// The command that trains on `rows(30)` into `out`.
fn train(data: &Path, out: &Path, more: &[&str]) -> Command {
    let file = data.join("rows.csv");
    fs::write(&file, rows(30)).expect("written");
    let mut command = firmament(data);
    command.args(["train", "--task", "letters", "--examples"]).arg(file).arg("--out").arg(out);
    command.args(["--valid-share", "0.2", "--instruction", "yes or no?", "--batch", "8"]);
    command.args(["--targets", "all-linear", "--learning-rate", "0.01"]).args(more);
    command
}

fn finished(mut command: Command) -> Value {
    let output = command.arg("--json").output().expect("the binary starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Every file of the firmwares, with its bytes.
fn firmware_bytes(data: &Path) -> Vec<(String, Vec<u8>)> {
    let mut folders = vec![data.join("firmwares")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with(".verified.json") => {}
                false => files.push((text(&path), fs::read(&path).expect("readable"))),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn an_adapter_is_trained_measured_and_served_and_the_firmware_stays_as_it_is() {
    let (data, out) = (tiny(), tempfile::tempdir().expect("a folder"));
    let before = firmware_bytes(data.path());
    let trained = finished(train(data.path(), out.path(), &["--epochs", "12"]));
    assert_eq!(firmware_bytes(data.path()), before);
    let scores = &trained["record"]["evaluation"];
    assert_eq!(scores["rows"], 6);
    assert_eq!(scores["adapter"]["labels"]["accuracy"], 1.0, "{scores}");
    assert!(scores["base"]["labels"]["accuracy"].as_f64().expect("a share") < 1.0, "{scores}");
    assert!(!out.path().join(CHECKPOINT).exists());
    let card = fs::read_to_string(out.path().join("README.md")).expect("a card");
    for said in
        ["# letters", "licence of the base: MIT OR Apache-2.0", "> yes or no?", "| adapter |"]
    {
        assert!(card.contains(said), "{said}: {card}");
    }
    let file = data.path().join("rows.csv");
    let measure = ["eval", "--adapter", &text(out.path()), "--examples", &text(&file)];
    let again = json(data.path(), &measure);
    assert_eq!(
        (&again["rows"], &again["adapter"]["labels"]["accuracy"]),
        (&30.into(), &1.0.into())
    );
    let strange = data.path().join("strange.csv");
    fs::write(&strange, "text,label\nq1,no\nz1,perhaps\n").expect("written");
    let measure = ["eval", "--adapter", &text(out.path()), "--examples", &text(&strange)];
    assert!(refused(data.path(), &measure, 1).contains("never learned the label `perhaps`"));
    let up = Up::start(data.path(), &[]);
    let add = ["adapter", "add", &text(out.path()), "--name", "letters", "--url", &up.url];
    assert_eq!(json(data.path(), &add)["state"], "serving");
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_in_the_same_bits() {
    let data = tiny();
    let (whole, cut) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let more = ["--epochs", "25", "--checkpoint-every", "3", "--validate-every", "5"];
    finished(train(data.path(), whole.path(), &[&more[..], &["--threads", "1"]].concat()));
    for round in 0..3 {
        let resume: &[&str] = if round == 0 { &[] } else { &["--resume"] };
        let threads = ["--threads", if round == 1 { "3" } else { "2" }];
        let mut command = train(data.path(), cut.path(), &[&more[..], resume, &threads].concat());
        let running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        kill_after_a_checkpoint(running.expect("the binary starts"), &cut.path().join(CHECKPOINT));
    }
    finished(train(data.path(), cut.path(), &[&more[..], &["--resume"]].concat()));
    let read = |folder: &Path| fs::read(folder.join(WEIGHTS)).expect("an adapter");
    assert!(read(whole.path()) == read(cut.path()), "other bits after three kills");
}

/// Kills it as a crash does, a random number of checkpoints later. Should it be done by then, it was not.
fn kill_after_a_checkpoint(mut child: Child, checkpoint: &Path) {
    let mut wanted = 1 + RandomState::new().hash_one(()) % 4;
    let place =
        || fs::metadata(checkpoint).map(|metadata| (metadata.ino(), metadata.mtime_nsec())).ok();
    let mut last = place();
    until("checkpoints are written", || {
        let now = place();
        if now != last {
            (last, wanted) = (now, wanted - 1);
        }
        wanted == 0 || child.try_wait().expect("our child").is_some()
    });
    child.kill().expect("our child");
    let status = child.wait().expect("our child");
    assert!(status.code().is_none(), "it was done before it was killed: {status}");
}

#[test]
fn a_signal_leaves_a_checkpoint_and_says_how_to_go_on() {
    let (data, out) = (tiny(), tempfile::tempdir().expect("a folder"));
    let more = ["--epochs", "2000", "--checkpoint-every", "1"];
    let mut command = train(data.path(), out.path(), &more);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    until("the first checkpoint", || out.path().join(CHECKPOINT).exists());
    let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status();
    assert!(sent.expect("a shell").success());
    let output = child.wait_with_output().expect("our child");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("was interrupted") && errors.contains("--resume"), "{errors}");
    assert!(out.path().join(CHECKPOINT).exists());
    let other = train(data.path(), out.path(), &["--epochs", "3", "--resume"]).output();
    let errors = String::from_utf8_lossy(&other.expect("it starts").stderr).into_owned();
    assert!(errors.contains("its set of settings differs"), "{errors}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_computed() {
    let (data, out) = (tiny(), tempfile::tempdir().expect("a folder"));
    let file = data.path().join("rows.jsonl");
    let begins =
        ["train", "--task", "letters", "--examples", &text(&file), "--out", &text(out.path())]
            .map(str::to_owned);
    let refuse = |rows: &str, more: &[&str], exit: i32| {
        fs::write(&file, rows).expect("written");
        let begins: Vec<&str> = begins.iter().map(String::as_str).collect();
        refused(data.path(), &[&begins[..], more].concat(), exit)
    };
    let good = "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":\"y\"}\n";
    assert!(refuse("", &[], 1).contains("has no rows"));
    assert!(refuse(&good[..good.len() / 2], &[], 1).contains("has one label only"));
    assert!(refuse(&format!("{good}{{}}"), &[], 1).contains("line 3 has none of"));
    assert!(refuse(good, &["--max-tokens", "9"], 1).contains("line 1 has"));
    assert!(refuse(good, &["--rank", "0"], 2).contains("a rank is 1 to 256"));
    assert!(refuse(good, &["--learning-rate=-1"], 2).contains("a learning rate is"));
    assert!(refuse(good, &["--resume"], 3).contains("does not exist"));
    assert!(refuse(good, &["--firmware", "nothing"], 3).contains("does not exist"));
    let huge = refuse(good, &["--learning-rate", "1e30", "--epochs", "9", "--warmup", "0"], 1);
    assert!(huge.contains("is not a finite number"), "{huge}");
    fs::write(out.path().join(WEIGHTS), b"precious").expect("written");
    assert!(refuse(good, &[], 2).contains("already"));
}

fn default_firmware(data: &Path) -> FirmwareDir {
    let folder = data.join("firmwares/smollm2-135m-instruct");
    let version = fs::read_dir(folder).expect("fetched").next().expect("a version");
    FirmwareDir::open(&version.expect("readable").path()).expect("a firmware")
}

/// The engine rounds activations to 8 bits where training has f32; a mean loss hardly feels it.
const LOSS_ERROR_MAX: f64 = 0.02;

#[test]
fn training_and_serving_compute_the_same_with_the_default_firmware() {
    let data = real();
    let directory = default_firmware(data.path());
    let firmware = Arc::new(LoadedFirmware::load(&directory).expect("it loads"));
    let prompting =
        Prompting { instruction: "Answer with one of: good, bad.".to_owned(), tokens_max: 512 };
    let said = |prompt: &str, completion: &str| Row::Completion {
        prompt: prompt.to_owned(),
        completion: completion.to_owned(),
    };
    let rows = [
        said("The capital of France", " is Paris, and that of Italy is Rome."),
        said("def add(a, b):\n", "    return a + b\n"),
        said("Wasser kocht bei", " hundert Grad Celsius, wenn der Luftdruck normal ist."),
    ];
    let valid = rows.iter().map(|row| prompting.example(&firmware, row).expect("short enough"));
    let valid: Vec<_> = valid.collect();
    let lora = LoraSettings {
        rank: 2,
        alpha: 4.0,
        rank_stabilised: false,
        targets: vec![Projection::Q, Projection::Down],
    };
    let mut settings = TrainSettings { lora, batch: 3, ..TrainSettings::default() };
    settings.optimizer.learning_rate = 5e-3;
    let examples = TrainData { train: valid.clone(), valid };
    let limits = TrainLimits { threads: 2, ..TrainLimits::default() };
    let mut trainer = Trainer::new(&directory, settings, examples, limits).expect("it loads");
    let engine = Engine::start(Arc::clone(&firmware), EngineConfig::default()).expect("it starts");
    let trained_loss = |trainer: &Trainer| trainer.held_out_loss().expect("computed");
    let out = tempfile::tempdir().expect("a folder");
    let before = trained_loss(&trainer);
    for _ in 0..3 {
        trainer.advance().expect("computed").expect("a first epoch");
    }
    let after = trained_loss(&trainer);
    trainer.export(out.path(), None).expect("written");
    let (manifest, files) = bench::lora_files(out.path(), engine.firmware()).expect("two files");
    engine.load_adapter(&manifest, &files).expect("it changes the output");
    let labels = [];
    let evaluator =
        Evaluator { engine: &engine, firmware: &firmware, prompting: &prompting, labels: &labels };
    let adapter = AdapterUse { generation: manifest.id(), scale: 1.0 };
    let served =
        evaluator.compare(&rows.iter().collect::<Vec<_>>(), adapter, |_| ()).expect("answers");
    let (Scores::Loss(base), Scores::Loss(adapted)) = (served.base, served.adapter) else {
        panic!("these rows have no labels");
    };
    assert!((before - base).abs() < LOSS_ERROR_MAX, "trained {before}, served {base}");
    assert!((after - adapted).abs() < LOSS_ERROR_MAX, "trained {after}, served {adapted}");
    assert!(after < before - 10.0 * LOSS_ERROR_MAX, "{before} {after}");
}

#[test]
fn examples_are_read_as_the_serving_engine_reads_prompts() {
    let data = real();
    let firmware =
        Arc::new(LoadedFirmware::load(&default_firmware(data.path())).expect("it loads"));
    let engine = Engine::start(Arc::clone(&firmware), EngineConfig::default()).expect("it starts");
    let prompting = Prompting { instruction: "Is it good?".to_owned(), tokens_max: 512 };
    let row = Row::Labelled { text: "A fine day <|im_end|>".to_owned(), label: "good".to_owned() };
    let example = prompting.example(&firmware, &row).expect("short enough");
    let [answer] = &example.answers[..] else { panic!("one answer") };
    let (prompt, _) = prompting.ask(&firmware, &row);
    let work = GenerateWork { max_tokens: Some(0), ..GenerateWork::greedy(prompt, "test") };
    let mut events = engine.submit(Work::Generate(work)).expect("accepted");
    let Some(Ok(Event::Started { prompt_tokens, .. })) = events.blocking_next() else {
        panic!("it starts");
    };
    assert_eq!(answer.start, prompt_tokens as usize);
    let tokenizer = firmware.tokenizer();
    assert_eq!(tokenizer.decode(&example.tokens[answer.clone()]), "good");
    assert_eq!(answer.end, example.tokens.len());
    assert!(tokenizer.ends().contains(example.tokens.last().expect("tokens")));
    let turns = r#"[{"role":"user","content":"1"},{"role":"assistant","content":"one"},
        {"role":"user","content":"2"},{"role":"assistant","content":"two"}]"#;
    let row = Row::Chat(serde_json::from_str(turns).expect("messages"));
    let example = prompting.example(&firmware, &row).expect("short enough");
    let said =
        example.answers.iter().map(|answer| tokenizer.decode(&example.tokens[answer.clone()]));
    assert_eq!(said.collect::<Vec<_>>(), ["one", "two"]);
    let help = done(data.path(), &["train", "--help"]);
    assert!(help.contains("--learning-rate") && help.contains("--resume"));
}
