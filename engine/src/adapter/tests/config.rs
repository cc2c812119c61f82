use protocol::{Digest, ErrorCode, FirmwareId, FirmwareInfo};
use serde_json::{Value, json};

use super::build::config;
use crate::adapter::{AdapterError, PeftConfig, base_check};

/// The code of the refusal, and that its message names `what`.
fn refusal(bytes: &[u8], what: &str) -> ErrorCode {
    let error = PeftConfig::parse(bytes).expect_err(what);
    let message = error.to_string();
    assert!(message.contains(what), "`{message}` does not name `{what}`");
    error.code()
}

#[test]
fn a_field_that_changes_the_arithmetic_is_refused_by_name() {
    let table = [
        ("peft_type", json!("IA3")),
        ("task_type", json!("SEQ_CLS")),
        ("bias", json!("all")),
        ("bias", json!("lora_only")),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("use_qalora", json!(true)),
        ("target_parameters", json!(["mlp.up_proj.weight"])),
        ("trainable_token_indices", json!([1, 2])),
        ("layer_replication", json!([[0, 2], [1, 2]])),
        ("megatron_config", json!({"hidden_size": 8})),
        ("alora_invocation_tokens", json!([1])),
        ("arrow_config", json!({"top_k": 3})),
        ("use_bdlora", json!({"nblocks": 2})),
        ("kasa_config", json!({"beta": 1e-4})),
        ("monteclora_config", json!({"num_samples": 8})),
        ("velora_config", json!({"num_groups": 4})),
        ("ensure_weight_tying", json!(true)),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("OLoRA")),
        ("init_lora_weights", json!("corda")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("lora_ga")),
        ("init_lora_weights", json!({"gaussian": 1})),
        ("modules_to_save", json!(["lm_head", "embed_tokens"])),
        ("modules_to_save", json!(["score"])),
        ("target_modules", json!("(?=q_proj).*")),
        ("rank_pattern", json!({"(q_proj)\\1": 4})),
        ("layers_pattern", json!(["layers("])),
        ("auto_map", json!({"AutoModel": "code.Model"})),
        ("a_field_of_tomorrow", json!(1)),
        ("../../etc/passwd", json!("x")),
    ];
    for (field, value) in table {
        let layers = ("layers_to_transform", json!(0));
        let code = refusal(&config(&[layers.clone(), (field, value.clone())]), field);
        assert_eq!(code, ErrorCode::AdapterUnsupported, "{field}: {value}");
    }
}

#[test]
fn a_field_with_an_impossible_value_is_refused_by_name() {
    let huge: Value = (0..2000).map(|i| format!("m{i}")).collect();
    let table = [
        ("peft_type", json!(null)),
        ("peft_type", json!(1)),
        ("r", json!(0)),
        ("r", json!(-4)),
        ("r", json!(4.5)),
        ("r", json!("4")),
        ("r", json!(1u64 << 40)),
        ("lora_alpha", json!(0)),
        ("lora_alpha", json!(-8)),
        ("lora_alpha", json!(1e300)),
        ("lora_alpha", json!("8")),
        ("use_rslora", json!("yes")),
        ("rank_pattern", json!({"q_proj": 0})),
        ("rank_pattern", json!([4])),
        ("rank_pattern", json!({"q_proj{1000}{1000}": 4})),
        ("alpha_pattern", json!({"q_proj": null})),
        ("target_modules", json!(null)),
        ("target_modules", json!([])),
        ("target_modules", json!("")),
        ("target_modules", json!([1])),
        ("target_modules", json!({"q_proj": true})),
        ("target_modules", huge.clone()),
        ("target_modules", json!("x".repeat(2000))),
        ("target_modules", json!("(a{1000}){1000}")),
        ("exclude_modules", huge),
        ("modules_to_save", json!("lm_head")),
        ("layers_to_transform", json!([-1])),
        ("layers_to_transform", json!("all")),
        ("base_model_name_or_path", json!(["org/base"])),
        ("base_model_name_or_path", json!("x".repeat(600))),
        ("base_model_name_or_path", json!("org/\u{1b}[2J")),
        ("lora_dropout", json!("0.1")),
        ("auto_mapping", json!("os.system")),
        ("inference_mode", json!("true")),
    ];
    for (field, value) in table {
        let code = refusal(&config(&[(field, value.clone())]), field);
        assert_eq!(code, ErrorCode::InvalidLoraAdapter, "{field}: {value}");
    }
}

#[test]
fn text_that_is_not_one_small_object_without_repeated_keys_is_refused() {
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let wide = format!("{{\"a\": \"{}\"}}", "x".repeat(65 << 10));
    let twice = r#"{"r": 8, "r": 4}"#;
    let deeply_twice = r#"{"rank_pattern": {"q": 1, "q": 2}}"#;
    let texts = [
        "",
        "[]",
        "null",
        "{",
        r#"{"r": NaN}"#,
        "{} {}",
        "\u{0}",
        &deep,
        &wide,
        twice,
        deeply_twice,
    ];
    for text in texts {
        let error = PeftConfig::parse(text.as_bytes()).expect_err(text);
        assert!(matches!(error, AdapterError::Json { .. }), "{error}");
    }
    assert!(PeftConfig::parse(b"{\"r\": \"\xff\"}").is_err(), "text that is not UTF-8");
}

#[test]
fn options_that_are_off_or_only_tell_of_the_training_are_accepted() {
    let off = [
        ("use_dora", json!(false)),
        ("layer_replication", json!(null)),
        ("trainable_token_indices", json!([])),
        ("a_field_of_tomorrow", json!(false)),
        ("another_one", json!(null)),
        ("init_lora_weights", json!("gaussian")),
        ("eva_config", json!({"rho": 2.0})),
        ("corda_config", json!({"cache_file": "x"})),
        ("runtime_config", json!({"ephemeral_gpu_offload": false})),
        ("auto_mapping", json!({"base_model_class": "LlamaForCausalLM"})),
        ("qalora_group_size", json!(16)),
        ("peft_version", json!("0.21.2")),
        ("task_type", json!(null)),
    ];
    let config = PeftConfig::parse(&config(&off)).unwrap();
    assert_eq!(config.base_model(), Some("org/base"));
    assert_eq!(config.rank_max(), 4);
}

#[test]
fn a_hub_id_must_be_one_of_the_firmwares_bases_and_a_path_says_nothing() {
    let info = |bases: &[&str]| FirmwareInfo {
        id: FirmwareId(Digest::of(b"firmware")),
        name: "smollm2".to_owned(),
        version: "1".to_owned(),
        tokenizer: Digest::of(b"tokenizer"),
        context_length: 64,
        embedding_length: 8,
        base_models: bases.iter().map(|&base| base.to_owned()).collect(),
    };
    let check = |named: Value, bases: &[&str]| {
        let config = PeftConfig::parse(&config(&[("base_model_name_or_path", named)])).unwrap();
        base_check(&config, &info(bases))
    };
    let ours = ["HuggingFaceTB/SmolLM2-135M"];
    let error = check(json!("meta-llama/Llama-3.2-1B"), &ours).unwrap_err();
    assert_eq!(error.code(), ErrorCode::AdapterBaseMismatch);
    let message = error.to_string();
    assert!(message.contains("meta-llama/Llama-3.2-1B") && message.contains(ours[0]), "{message}");
    for named in ["huggingfacetb/smollm2-135m", "/data/base", "./out/base", "../base", "a/b/c", "x"]
    {
        check(json!(named), &ours).expect(named);
    }
    check(json!(null), &ours).expect("no name");
    check(json!("meta-llama/Llama-3.2-1B"), &[]).expect("a firmware that names no base");
}
