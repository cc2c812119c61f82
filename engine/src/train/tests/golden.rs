//! The same data and steps as PyTorch and PEFT took (`tests/golden/train.py`).

use serde_json::Value;

use super::super::batch::Batch;
use super::super::ops::Elements;
use super::super::trainer::{TrainData, Trainer};
use super::super::{Example, LoraSettings, OptimizerSettings, TrainSettings};
use super::{golden_path, model};
use crate::weights::{Profile, WeightFile};

/// Largest difference of a loss, nats, after which the two runs are not the same.
const LOSS_ERROR_MAX: f64 = 1e-3;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn example(value: &Value) -> Example {
    let integers = |value: &Value| numbers(value).into_iter().map(|number| number as usize);
    let answers = value["answers"].as_array().unwrap().iter().map(|answer| {
        let ends: Vec<usize> = integers(answer).collect();
        ends[0]..ends[1]
    });
    Example {
        tokens: integers(&value["tokens"]).map(|token| token as u32).collect(),
        answers: answers.collect(),
    }
}

/// A run that stands where PEFT's stood at its first step.
fn trainer(name: &str, golden: &Value) -> Trainer {
    let lora: LoraSettings = serde_json::from_value(golden["lora"].clone()).unwrap();
    let optimizer: OptimizerSettings = serde_json::from_value(golden["optimizer"].clone()).unwrap();
    let batch = golden["batch"].as_u64().unwrap() as u32;
    let settings = TrainSettings { lora, optimizer, batch, ..TrainSettings::default() };
    let train = golden["examples"].as_array().unwrap().iter().map(example).collect();
    let data = TrainData { train, valid: Vec::new() };
    let base = model(golden["base"].as_str().unwrap());
    let trainer = Trainer::begin(base, settings, data, 2).unwrap();
    let path = golden_path(&format!("train/{name}/adapter_model.safetensors"));
    let file = WeightFile::from_bytes(std::fs::read(path).unwrap(), Profile::Adapter).unwrap();
    assert_eq!(file.len(), trainer.state.lora.vars().count());
    for (name, var) in trainer.state.lora.matrices() {
        let bytes = file.tensor(&name).unwrap().bytes().as_chunks::<4>().0;
        let values: Vec<f32> = bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let value = candle_core::Tensor::from_vec(values, var.shape(), var.device()).unwrap();
        var.set(&value).unwrap();
    }
    trainer
}

#[test]
fn losses_are_those_of_pytorch_and_peft() {
    for name in ["llama", "qwen2", "gemma3"] {
        let golden = std::fs::read(golden_path(&format!("train/{name}/golden.json"))).unwrap();
        let golden: Value = serde_json::from_slice(&golden).unwrap();
        let mut trainer = trainer(name, &golden);
        let (losses, norms) = (numbers(&golden["losses"]), numbers(&golden["norms"]));
        assert!(losses.len() >= 20);
        let (batch, count) = (golden["batch"].as_u64().unwrap() as usize, trainer.examples());
        for (step, (loss, norm)) in losses.iter().zip(norms).enumerate() {
            let examples: Vec<usize> =
                (0..batch).map(|place| (step * batch + place) % count).collect();
            let rate = trainer.settings.optimizer.rate(step as u64, losses.len() as u64);
            let ours = trainer.learn(&examples, rate).unwrap();
            assert!((ours.0 - loss).abs() < LOSS_ERROR_MAX, "{name} {step}: {} {loss}", ours.0);
            assert!((ours.1 - norm).abs() < 1e-3 * norm, "{name} {step}: {} {norm}", ours.1);
        }
        let mut prompt = example(&serde_json::json!({ "tokens": golden["prompt"], "answers": [] }));
        let end = prompt.tokens.len();
        prompt.tokens.push(0);
        prompt.answers.push(end..end + 1);
        let batch = Batch::new([&prompt]);
        let logits = trainer.model.logits(&batch, Some(&trainer.state.lora)).unwrap();
        for (ours, theirs) in logits.iter().zip(numbers(&golden["logits"])) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-2, "{name}: {ours} {theirs}");
        }
        let trained = trainer
            .state
            .lora
            .vars()
            .any(|var| Elements::of(var).unwrap().iter().any(|value| *value != 0.0));
        assert!(trained);
    }
}
