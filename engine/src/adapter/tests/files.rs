use protocol::ErrorCode;
use safetensors::Dtype;
use serde_json::json;

use super::build::{HEAD, LIMITS, Q0_A, Q0_B, Tensors, config, generation, load, load_within};
use crate::adapter::{Adapter, AdapterError, AdapterLimits};
use crate::backbone::Projection;

/// A file with this header, followed by `data`.
fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn a_whole_adapter_is_bound_to_its_projections() {
    let adapter = load(&config(&[]), Tensors::whole().to_file()).unwrap();
    assert_eq!((adapter.generation, adapter.sites), (generation("adapter"), 4));
    assert_eq!((adapter.rank_max, adapter.layers.len()), (4, 2));
    let per_layer = (4 * 8 + 8 * 4) + (4 * 8 + 4 * 4);
    assert_eq!(adapter.parameters, 2 * per_layer);
    assert!(adapter.resident_bytes >= adapter.parameters);
    let pair = adapter.layers[1][Projection::V as usize].as_ref().unwrap();
    assert_eq!((pair.weights.rank(), pair.weights.parameters()), (4, 4 * 8 + 4 * 4));
    assert_eq!(pair.scale.to_bits(), 2.0_f32.to_bits());
    assert!(adapter.layers[1][Projection::K as usize].is_none() && adapter.head.is_none());
}

#[test]
fn ranks_and_layers_follow_the_configuration() {
    let rank = |layer, projection| match (layer, projection) {
        (1, Projection::Q) => 6,
        (_, Projection::Down) => 2,
        _ => 4,
    };
    let config = config(&[
        ("target_modules", json!("all-linear")),
        ("rank_pattern", json!({"down_proj": 2, "layers.1.self_attn.q_proj": 6})),
    ]);
    let adapter = load(&config, Tensors::of_rank(&Projection::ALL, rank).to_file()).unwrap();
    assert_eq!((adapter.sites, adapter.rank_max), (14, 6));
    let flat = Tensors::of_rank(&Projection::ALL, |_, _| 4).to_file();
    let error = load(&config, flat).unwrap_err();
    assert!(matches!(&error, AdapterError::Shape { name, .. } if name.contains("down_proj")));
}

#[test]
fn a_saved_head_is_loaded_under_both_of_its_names() {
    let config = config(&[("modules_to_save", json!(["lm_head"]))]);
    for name in [HEAD, "base_model.model.lm_head.modules_to_save.weight"] {
        let mut tensors = Tensors::whole();
        tensors.put(name, &[10, 8], 1.0);
        tensors.fill("lora_B", 0.0);
        let adapter = load(&config, tensors.to_file()).expect("a head alone has an effect");
        assert_eq!((adapter.head.map(|head| head.d_out()), adapter.sites), (Some(10), 5));
    }
    let missing = load(&config, Tensors::whole().to_file()).unwrap_err();
    assert!(matches!(missing, AdapterError::MissingTensor { name } if name == HEAD));
}

#[test]
fn the_cache_is_shaped_by_all_but_the_end_of_the_last_layer() {
    let load = |projections: &[Projection], layers: &[usize]| {
        let targets: Vec<_> = projections.iter().map(|projection| projection.module()).collect();
        let config =
            config(&[("target_modules", json!(targets)), ("layers_to_transform", json!(layers))]);
        let mut tensors = Tensors::of_rank(projections, |_, _| 4);
        for layer in (0..2).filter(|layer| !layers.contains(layer)) {
            for projection in projections {
                let module = format!("base_model.model.{}", projection.peft_path(layer));
                tensors.remove(&format!("{module}.lora_A.weight"));
                tensors.remove(&format!("{module}.lora_B.weight"));
            }
        }
        super::build::load(&config, tensors.to_file()).unwrap().shapes_cache
    };
    let after = [Projection::Q, Projection::O, Projection::Gate, Projection::Up, Projection::Down];
    assert!(!load(&after, &[1]));
    assert!(load(&after, &[0]) && load(&after, &[0, 1]));
    assert!(load(&[Projection::K], &[1]) && load(&[Projection::V], &[1]));
}

#[test]
fn half_precision_is_widened_before_it_is_packed() {
    let mut tensors = Tensors::whole();
    tensors.recode(Q0_A, Dtype::F16, half::f16::ONE.to_le_bytes());
    tensors.recode(Q0_B, Dtype::BF16, half::bf16::ONE.to_le_bytes());
    let halves = load(&config(&[]), tensors.to_file()).unwrap();
    tensors.recode(Q0_A, Dtype::F32, 1.0_f32.to_le_bytes());
    tensors.recode(Q0_B, Dtype::F32, 1.0_f32.to_le_bytes());
    let floats = load(&config(&[]), tensors.to_file()).unwrap();
    let of = |adapter: &Adapter| {
        let pair = adapter.layers[0][Projection::Q as usize].as_ref().unwrap();
        let out = pair.weights.delta(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(of(&halves), of(&floats));
}

#[test]
fn a_broken_set_of_tensors_is_refused_and_the_tensor_named() {
    type Break = fn(&mut Tensors);
    use ErrorCode::{AdapterBaseMismatch, AdapterUnsupported, InvalidLoraAdapter};
    const EXTRA: &str = "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight";
    const EMBED: &str = "base_model.model.model.embed_tokens.weight";
    let table: [(Break, &str, ErrorCode); 16] = [
        (|t| t.remove(Q0_A), Q0_A, InvalidLoraAdapter),
        (|t| t.remove(Q0_B), Q0_B, InvalidLoraAdapter),
        (|t| t.put(Q0_A, &[5, 8], 1.0), Q0_A, InvalidLoraAdapter),
        (|t| t.put(Q0_A, &[32], 1.0), Q0_A, InvalidLoraAdapter),
        (|t| t.put(Q0_A, &[4, 8, 1], 1.0), Q0_A, InvalidLoraAdapter),
        (|t| t.put(Q0_A, &[4, 16], 1.0), Q0_A, AdapterBaseMismatch),
        (|t| t.put(Q0_B, &[16, 4], 1.0), Q0_B, AdapterBaseMismatch),
        (|t| t.poke(Q0_A, 31, f32::NAN), Q0_A, InvalidLoraAdapter),
        (|t| t.poke(Q0_B, 0, f32::INFINITY), Q0_B, InvalidLoraAdapter),
        (|t| t.retype(Q0_A, Dtype::I8, 1), Q0_A, InvalidLoraAdapter),
        (|t| t.retype(Q0_A, Dtype::F64, 8), Q0_A, InvalidLoraAdapter),
        (|t| t.put(EXTRA, &[4, 8], 1.0), EXTRA, InvalidLoraAdapter),
        (|t| t.put(HEAD, &[10, 8], 1.0), HEAD, InvalidLoraAdapter),
        (|t| t.put(EMBED, &[10, 8], 1.0), EMBED, AdapterUnsupported),
        (|t| t.put("x.lora_magnitude_vector", &[8], 1.0), "magnitude", AdapterUnsupported),
        (|t| t.put("x.lora_B.bias", &[8], 1.0), "lora_B.bias", AdapterUnsupported),
    ];
    for (row, (damage, name, code)) in table.into_iter().enumerate() {
        let mut tensors = Tensors::whole();
        damage(&mut tensors);
        let error = load(&config(&[]), tensors.to_file()).expect_err(name);
        assert!(error.to_string().contains(name), "row {row}: {error}");
        assert_eq!(error.code(), code, "row {row}: {error}");
    }
}

#[test]
fn a_file_that_lies_about_itself_is_refused() {
    let good = Tensors::whole().to_file();
    let one = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let files = [
        Vec::new(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0; 4]].concat(),
        b"GGUF\x03\0\0\0".to_vec(),
        raw(&format!("{{{one},{one}}}"), &[0; 4]),
        raw(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#, &[0; 8]),
        raw(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4096,4100]}}"#, &[0; 4]),
        raw(r#"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#, &[0; 4]),
        raw(r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#, &[]),
        raw(r#"{"a/../b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]),
        [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
    ];
    for (row, file) in files.into_iter().enumerate() {
        let error = load(&config(&[]), file).expect_err("a file that lies");
        assert!(matches!(error, AdapterError::Weights(_)), "row {row}: {error}");
        assert_eq!(error.code(), ErrorCode::InvalidLoraAdapter);
    }
}

#[test]
fn rank_and_bytes_above_their_limits_have_codes_of_their_own() {
    let file = Tensors::whole().to_file();
    let rank = load_within(&config(&[]), file.clone(), AdapterLimits { rank_max: 3, ..LIMITS });
    assert_eq!(rank.unwrap_err().code(), ErrorCode::LoraRankLimitExceeded);
    let pattern = load(&config(&[("rank_pattern", json!({"x": 60000}))]), file.clone());
    assert_eq!(pattern.unwrap_err().code(), ErrorCode::LoraRankLimitExceeded);
    let bytes = load_within(&config(&[]), file, AdapterLimits { bytes_max: 100, ..LIMITS });
    assert_eq!(bytes.unwrap_err().code(), ErrorCode::LoraByteLimitExceeded);
}

#[test]
fn pairs_that_all_multiply_to_zero_are_refused() {
    for part in ["lora_A", "lora_B"] {
        let mut tensors = Tensors::whole();
        tensors.fill(part, 0.0);
        let error = load(&config(&[]), tensors.to_file()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::AdapterNoEffect);
    }
    let mut one = Tensors::whole();
    one.fill("lora_B", 0.0);
    one.poke(Q0_B, 3, 1e-3);
    load(&config(&[]), one.to_file()).expect("one pair that is not zero is enough");
}

#[test]
fn targets_that_are_no_projection_are_refused() {
    let load = |targets| {
        load(&config(&[("target_modules", targets)]), Tensors::whole().to_file()).unwrap_err()
    };
    assert_eq!(load(json!(["c_attn"])).code(), ErrorCode::AdapterBaseMismatch);
    for module in ["lm_head", "embed_tokens"] {
        let error = load(json!(["q_proj", "v_proj", module]));
        assert_eq!(error.code(), ErrorCode::AdapterUnsupported);
        assert!(error.to_string().contains(module), "{error}");
    }
}
