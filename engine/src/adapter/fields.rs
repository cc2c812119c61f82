//! The fields of `adapter_config.json`: which are known, which must be off, which say nothing.
//! Source: `LoraConfig` of PEFT 0.10 to 0.21 (`peft/tuners/lora/config.py`).

use serde_json::{Map, Value};

use super::{AdapterError, json};

/// Fields that change the arithmetic in ways the engine does not do, unless they are off.
const MUST_BE_OFF: &[(&str, &str)] = &[
    ("use_dora", "DoRA"),
    ("lora_bias", "a bias on B"),
    ("fan_in_fan_out", "transposed weights"),
    ("target_parameters", "LoRA on bare parameters"),
    ("trainable_token_indices", "trained token embeddings"),
    ("layer_replication", "repeated layers"),
    ("use_qalora", "QA-LoRA"),
    ("megatron_config", "Megatron's parallel layers"),
    ("alora_invocation_tokens", "activated LoRA"),
    ("arrow_config", "Arrow routing"),
    ("use_bdlora", "block-diagonal LoRA"),
    ("kasa_config", "KaSA"),
    ("monteclora_config", "MonteCLoRA"),
    ("velora_config", "VeLoRA"),
    ("ensure_weight_tying", "embeddings tied to a trained head"),
];

type IsType = fn(&Value) -> bool;

/// Fields about training and book-keeping; the trained weights do not depend on them any more.
const WITHOUT_MEANING: &[(&str, IsType)] = &[
    ("auto_mapping", Value::is_object),
    ("corda_config", Value::is_object),
    ("eva_config", Value::is_object),
    ("inference_mode", Value::is_boolean),
    ("loftq_config", Value::is_object),
    ("lora_dropout", Value::is_number),
    ("lora_ga_config", Value::is_object),
    ("megatron_core", Value::is_string),
    ("peft_version", Value::is_string),
    ("qalora_group_size", Value::is_number),
    ("revision", Value::is_string),
    ("runtime_config", Value::is_object),
];

/// Ways to start training that leave the base as it is. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA
/// move a part of the base into the adapter, so the adapter is wrong on the base as published.
const INITS: &[&str] = &["gaussian", "eva", "orthogonal", "mica"];

/// The fields that are still to be read.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the object and settles every field that carries no setting of ours.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, AdapterError> {
        let mut fields = Self(json::parse_object(bytes)?);
        fields.check_kind()?;
        for &(field, what) in MUST_BE_OFF {
            if fields.take(field).is_some_and(|value| !is_off(&value)) {
                return Err(unsupported(field, what));
            }
        }
        for &(field, is_right) in WITHOUT_MEANING {
            if fields.take(field).is_some_and(|value| !is_right(&value)) {
                return Err(bad(field, "has the wrong type"));
            }
        }
        Ok(fields)
    }

    /// Takes a field out; `None` if it is absent or null.
    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        self.0.shift_remove(field).filter(|value| !value.is_null())
    }

    /// Refuses what is left, unless it is off.
    pub(super) fn finish(self) -> Result<(), AdapterError> {
        match self.0.into_iter().find(|(_, value)| !is_off(value)) {
            Some((field, _)) => Err(AdapterError::UnknownField { field: clip(&field) }),
            None => Ok(()),
        }
    }

    /// LoRA for a causal language model, without biases, started on an unchanged base.
    fn check_kind(&mut self) -> Result<(), AdapterError> {
        match self.take("peft_type") {
            Some(Value::String(kind)) if kind == "LORA" => {}
            Some(Value::String(kind)) => return Err(unsupported("peft_type", &clip(&kind))),
            _ => return Err(bad("peft_type", "is missing or not text")),
        }
        match self.take("task_type") {
            None => {}
            Some(Value::String(task)) if task == "CAUSAL_LM" => {}
            Some(task) => return Err(unsupported("task_type", &clip(&task.to_string()))),
        }
        match self.take("bias") {
            None => {}
            Some(Value::String(bias)) if bias == "none" => {}
            Some(_) => return Err(unsupported("bias", "trained biases")),
        }
        match self.take("init_lora_weights") {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(Value::String(init)) if INITS.contains(&init.to_lowercase().as_str()) => Ok(()),
            Some(init) => {
                let init = format!("{}, which may rewrite the base", clip(&init.to_string()));
                Err(unsupported("init_lora_weights", &init))
            }
        }
    }
}

pub(super) fn bad(field: &'static str, reason: impl Into<String>) -> AdapterError {
    AdapterError::BadField { field, reason: reason.into() }
}

pub(super) fn unsupported(field: &'static str, what: &str) -> AdapterError {
    AdapterError::Unsupported { field, what: what.to_owned() }
}

/// At most 64 characters of `text`, none of them a control character.
pub(super) fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Whether a value is what an option has when it is not used.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
