//! Expected values here were taken from PEFT 0.21.2 (`check_target_module_exists`,
//! `get_pattern_key`) on the same configurations.

use serde_json::{Value, json};

use super::build::config;
use crate::adapter::PeftConfig;

fn parse(changes: &[(&str, Value)]) -> PeftConfig {
    PeftConfig::parse(&config(changes)).unwrap()
}

fn targeted(config: &PeftConfig) -> Vec<&'static str> {
    let modules = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.11.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
        "lm_head",
        "model.embed_tokens",
    ];
    modules.into_iter().filter(|module| config.targets(module)).collect()
}

#[test]
fn a_list_names_modules_by_whole_name_or_by_what_follows_a_dot() {
    let names = |names: Value| targeted(&parse(&[("target_modules", names)])).len();
    assert_eq!(names(json!(["q_proj"])), 3);
    assert_eq!(names(json!(["self_attn.q_proj", "up_proj"])), 4);
    assert_eq!(names(json!(["1.self_attn.q_proj"])), 1);
    assert_eq!(names(json!(["_proj"])), 0);
    assert_eq!(names(json!(["lm_head", "embed_tokens"])), 2);
    assert_eq!(names(json!(["model.layers.0.self_attn.q_proj"])), 1);
    assert_eq!(names(json!("all-linear")), 4);
    assert_eq!(names(json!("All-Linear")), 4);
}

#[test]
fn an_expression_must_match_the_whole_name() {
    let names = |text: &str| targeted(&parse(&[("target_modules", json!(text))])).len();
    assert_eq!(names(r".*\.q_proj"), 3);
    assert_eq!(names("q_proj"), 0);
    assert_eq!(names(r".*layers\.1\..*(q_proj|up_proj)"), 2);
    assert_eq!(names(r".*\.1\.self_attn\.q_proj|lm_head"), 2);
}

#[test]
fn excluded_and_saved_modules_have_no_pair() {
    let exclude = |value: Value| {
        let targets = ("target_modules", json!(["q_proj", "up_proj", "lm_head"]));
        targeted(&parse(&[targets, ("exclude_modules", value)])).len()
    };
    assert_eq!(exclude(json!(null)), 5);
    assert_eq!(exclude(json!(["q_proj"])), 2);
    assert_eq!(exclude(json!(r".*\.1\..*")), 3);
    let saved = ("modules_to_save", json!(["lm_head"]));
    let saved = parse(&[("target_modules", json!(["q_proj", "lm_head"])), saved]);
    assert!(saved.saves_head() && !saved.targets("lm_head"));
}

#[test]
fn layers_narrow_a_list_but_not_a_whole_name() {
    let layers = |indices: Value, pattern: Value, names: Value| {
        let indices = ("layers_to_transform", indices);
        let config = [indices, ("layers_pattern", pattern), ("target_modules", names)];
        targeted(&parse(&config))
    };
    let q1 = "model.layers.1.self_attn.q_proj";
    assert_eq!(layers(json!(1), json!(null), json!(["q_proj"])), [q1]);
    assert_eq!(layers(json!([1, 30]), json!("layers"), json!(["q_proj"])), [q1]);
    assert_eq!(layers(json!([1]), json!(["h", "layers"]), json!(["q_proj"])), [q1]);
    assert!(layers(json!([1]), json!("h"), json!(["q_proj"])).is_empty());
    assert_eq!(layers(json!([]), json!(null), json!(["q_proj"])).len(), 3);
    assert!(layers(json!([1]), json!("layers|x"), json!(["q_proj"])).is_empty());
    let whole = json!(["model.layers.0.self_attn.q_proj"]);
    assert_eq!(layers(json!([1]), json!(null), whole), ["model.layers.0.self_attn.q_proj"]);
}

#[test]
fn the_first_pattern_that_ends_a_name_sets_rank_and_alpha() {
    let config = parse(&[
        ("rank_pattern", json!({"layers.1.self_attn.q_proj": 6, "q_proj": 2, "^up_proj": 3})),
        ("alpha_pattern", json!({"q_proj": 12, "layers.1.self_attn.q_proj": 1, ".*up_proj": 1})),
    ]);
    assert_eq!(config.rank("model.layers.1.self_attn.q_proj"), 6);
    assert_eq!(config.rank("model.layers.11.self_attn.q_proj"), 2);
    assert_eq!(config.rank("model.layers.1.mlp.up_proj"), 4, "`^` holds at the start only");
    assert_eq!(config.rank("model.layers.1.mlp.down_proj"), 4);
    assert_eq!(config.rank_max(), 6);
    let bits = |module: &str| config.scale(&format!("model.layers.1.{module}")).to_bits();
    assert_eq!(bits("self_attn.q_proj"), (12.0_f32 / 6.0).to_bits());
    assert_eq!(bits("mlp.up_proj"), (1.0_f32 / 4.0).to_bits());
    assert_eq!(bits("mlp.down_proj"), (8.0_f32 / 4.0).to_bits());
}

#[test]
fn rank_stabilised_lora_divides_by_the_root_of_the_rank() {
    let config = parse(&[("use_rslora", json!(true)), ("rank_pattern", json!({"v_proj": 16}))]);
    assert_eq!(config.scale("model.layers.0.self_attn.q_proj").to_bits(), 4.0_f32.to_bits());
    assert_eq!(config.scale("model.layers.0.self_attn.v_proj").to_bits(), 2.0_f32.to_bits());
}
