//! Whether gradients are slopes, and whether it matters how they are computed.

use candle_core::{Device, Tensor};

use super::super::batch::Batch;
use super::super::lora::Lora;
use super::super::model::Model;
use super::super::ops::Elements;
use super::{BASES, examples, golden_path, model, on_everything};

/// An adapter whose B is not zero, so that A has a gradient too.
fn adapter(model: &Model) -> Lora {
    let shape = &model.backbone.config.shape;
    let lora = Lora::new(shape, on_everything(3), 5, &Device::Cpu).unwrap();
    for (index, var) in lora.vars().enumerate().filter(|(index, _)| index % 2 == 1) {
        let value = |place: usize| ((index * 17 + place * 29) % 23) as f32 / 115.0 - 0.1;
        let values: Vec<f32> = (0..var.elem_count()).map(value).collect();
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
    lora
}

fn bits(gradients: &[Tensor]) -> Vec<u32> {
    let of = |tensor: &Tensor| Elements::of(tensor).unwrap().to_vec();
    gradients.iter().flat_map(of).map(f32::to_bits).collect()
}

#[test]
fn the_forward_pass_computes_what_transformers_computes() {
    for name in BASES {
        let golden = std::fs::read(golden_path(&format!("bases/{name}/golden.json"))).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
        let numbers = |key: &str| golden[key].as_array().unwrap().iter();
        let mut tokens: Vec<u32> =
            numbers("prompt").map(|id| id.as_u64().unwrap() as u32).collect();
        tokens.push(0); // what follows the last row does not matter
        let rows = numbers("logits_positions").map(|at| at.as_u64().unwrap() as usize + 1);
        let answers = rows.map(|at| at..at + 1).collect();
        let example = super::Example { tokens, answers };
        let logits = model(name).logits(&Batch::new([&example]), None).unwrap();
        let expected = numbers("logits").flat_map(|row| row.as_array().unwrap());
        for (logit, expected) in logits.iter().zip(expected) {
            let error = (f64::from(*logit) - expected.as_f64().unwrap()).abs();
            assert!(error < 1e-4, "{name}: off by {error}");
        }
    }
}

/// Along a random direction the loss must rise by what the gradient says.
#[test]
fn gradients_are_the_slopes_of_finite_differences() {
    for name in BASES {
        let model = model(name);
        let lora = adapter(&model);
        let all = examples(3);
        let batch = Batch::new(&all);
        let (_, gradients) = model.gradients(&batch, &lora, 1.0).unwrap();
        for (index, (var, gradient)) in lora.vars().zip(&gradients).enumerate() {
            let sign =
                |place: usize| if (place * 7 + index).is_multiple_of(3) { 1.0f32 } else { -1.0 };
            let direction: Vec<f32> = (0..var.elem_count()).map(sign).collect();
            let slope: f64 = Elements::of(gradient)
                .unwrap()
                .iter()
                .zip(&direction)
                .map(|(gradient, direction)| f64::from(gradient * direction))
                .sum();
            let direction = Tensor::from_vec(direction, var.shape(), &Device::Cpu).unwrap();
            let before = var.as_tensor().copy().unwrap();
            let loss_at = |step: f64| {
                let moved = (&before + (&direction * step).unwrap()).unwrap();
                var.set(&moved).unwrap();
                model.loss(&batch, &lora).unwrap()
            };
            let step = 1e-3;
            let measured = (loss_at(step) - loss_at(-step)) / (2.0 * step);
            var.set(&before).unwrap();
            let error = (measured - slope).abs() / slope.abs().max(1.0);
            assert!(error < 0.01, "{name}, matrix {index}: {slope} but {measured}");
        }
    }
}

#[test]
fn what_is_computed_twice_comes_out_the_same() {
    let mut model = model("gemma3");
    let lora = adapter(&model);
    let all = examples(4);
    let batch = Batch::new(&all);
    let (loss, kept) = model.gradients(&batch, &lora, 0.5).unwrap();
    model.memory_bytes = 0;
    let (again, computed) = model.gradients(&batch, &lora, 0.5).unwrap();
    assert_eq!(loss.to_bits(), again.to_bits());
    assert_eq!(bits(&kept), bits(&computed));
}

#[test]
fn the_number_of_threads_changes_no_bit_of_a_gradient() {
    let model = model("qwen3");
    let lora = adapter(&model);
    let all = examples(5);
    let batch = Batch::new(&all);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (loss, gradients) = pool.install(|| model.gradients(&batch, &lora, 1.0)).unwrap();
        (loss.to_bits(), bits(&gradients))
    };
    let alone = on(1);
    assert_eq!(on(2), alone);
    assert_eq!(on(7), alone);
}

#[test]
fn a_batch_in_parts_has_the_gradient_of_the_whole() {
    let model = model("llama");
    let lora = adapter(&model);
    let all = examples(6);
    let whole: Vec<&super::Example> = all.iter().collect();
    let (_, together) = model.gradients(&Batch::new(&all), &lora, 1.0).unwrap();
    let parts = Batch::cut(&whole, 30);
    assert!(parts.len() > 2);
    let mut sums: Vec<Vec<f32>> = Vec::new();
    for part in parts {
        let (_, gradients) = model.gradients(&Batch::new(part), &lora, 1.0).unwrap();
        let of = gradients.iter().map(|of| Elements::of(of).unwrap().to_vec());
        if sums.is_empty() {
            sums = of.collect();
        } else {
            for (sum, of) in sums.iter_mut().zip(of) {
                crate::kernels::add(sum, &of);
            }
        }
    }
    for (sum, whole) in sums.iter().zip(&together) {
        for (sum, whole) in sum.iter().zip(Elements::of(whole).unwrap().iter()) {
            assert!((sum - whole).abs() <= 1e-4 * whole.abs().max(1.0), "{sum} {whole}");
        }
    }
}
