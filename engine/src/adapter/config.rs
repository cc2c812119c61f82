//! `adapter_config.json`, parsed once into settings that can be trusted.
//! Owns: types, ranges and PEFT's rules. Never: tensors, the backbone's shape.

use serde_json::{Map, Value};

use super::AdapterError;
use super::fields::{Fields, bad, clip, unsupported};
use super::modules::{Layers, Modules, Overrides, full_match, layer_pattern};

/// Most entries of a list or pattern; a pattern by full name has 7 per layer.
const ENTRIES_MAX: usize = 1024;
/// Most expressions for where layers are; PEFT's own models have one each.
const LAYER_PATTERNS_MAX: usize = 16;
const RANK_MAX: u64 = 1 << 16;
const ALPHA_MAX: f64 = 1e6;

/// The settings of a PEFT LoRA adapter.
#[derive(Debug)]
pub struct PeftConfig {
    base_model: Option<String>,
    rank: u32,
    alpha: f64,
    rank_stabilised: bool,
    ranks: Overrides<u32>,
    alphas: Overrides<f64>,
    targets: Modules,
    excluded: Option<Modules>,
    layers: Option<Layers>,
    saves_head: bool,
}

impl PeftConfig {
    /// Reads the bytes of an `adapter_config.json`. What the engine does not support is refused
    /// with the field's name, and so is every field that is not known, unless it is off.
    pub fn parse(bytes: &[u8]) -> Result<Self, AdapterError> {
        let mut fields = Fields::parse(bytes)?;
        let targets = modules("target_modules", fields.take("target_modules"))?;
        let config = Self {
            base_model: base_model(fields.take("base_model_name_or_path"))?,
            rank: fields.take("r").map_or(Ok(8), |value| rank("r", &value))?,
            alpha: fields
                .take("lora_alpha")
                .map_or(Ok(8.0), |value| alpha("lora_alpha", &value))?,
            rank_stabilised: flag("use_rslora", fields.take("use_rslora"))?,
            ranks: overrides("rank_pattern", fields.take("rank_pattern"), rank)?,
            alphas: overrides("alpha_pattern", fields.take("alpha_pattern"), alpha)?,
            layers: layers(fields.take("layers_to_transform"), fields.take("layers_pattern"))?,
            excluded: modules("exclude_modules", fields.take("exclude_modules"))?,
            saves_head: saves_head(fields.take("modules_to_save"))?,
            targets: targets.ok_or_else(|| bad("target_modules", "names no module"))?,
        };
        fields.finish()?;
        if config.layers.is_some() && !matches!(config.targets, Modules::Named(_)) {
            return Err(bad("layers_to_transform", "needs `target_modules` to be a list"));
        }
        Ok(config)
    }

    /// The base model that the adapter says it was trained on: a hub id or a path.
    pub fn base_model(&self) -> Option<&str> {
        self.base_model.as_deref()
    }

    /// The largest rank that is stated anywhere.
    pub fn rank_max(&self) -> u32 {
        self.ranks.values().fold(self.rank, u32::max)
    }

    /// Whether the output head is replaced (`modules_to_save: ["lm_head"]`).
    pub fn saves_head(&self) -> bool {
        self.saves_head
    }

    /// Whether a module, such as `model.layers.0.self_attn.q_proj`, has a low-rank pair.
    pub fn targets(&self, module: &str) -> bool {
        let excluded = self.excluded.as_ref().is_some_and(|excluded| excluded.hold(module));
        let saved = self.saves_head && module == "lm_head";
        if excluded || saved || !self.targets.hold(module) {
            return false;
        }
        let in_layer = self.layers.as_ref().is_none_or(|layers| layers.hold(module));
        in_layer || self.targets.hold_exactly(module)
    }

    /// The rank of a module's pair, at least 1.
    pub fn rank(&self, module: &str) -> u32 {
        self.ranks.get(module).unwrap_or(self.rank)
    }

    /// What a module's pair is multiplied with: alpha over rank, or over its root for rsLoRA.
    pub fn scale(&self, module: &str) -> f32 {
        let rank = f64::from(self.rank(module));
        let divisor = if self.rank_stabilised { rank.sqrt() } else { rank };
        (self.alphas.get(module).unwrap_or(self.alpha) / divisor) as f32
    }
}

fn base_model(value: Option<Value>) -> Result<Option<String>, AdapterError> {
    match value {
        None => Ok(None),
        Some(Value::String(name)) if name.len() <= 512 && !name.contains(char::is_control) => {
            Ok(Some(name))
        }
        Some(_) => Err(bad("base_model_name_or_path", "is not a short text")),
    }
}

fn rank(field: &'static str, value: &Value) -> Result<u32, AdapterError> {
    let rank = value.as_u64().filter(|rank| (1..=RANK_MAX).contains(rank));
    rank.map(|rank| rank as u32).ok_or_else(|| bad(field, "has a rank that is no positive integer"))
}

fn alpha(field: &'static str, value: &Value) -> Result<f64, AdapterError> {
    let alpha = value.as_f64().filter(|&alpha| alpha > 1e-6 && alpha <= ALPHA_MAX);
    alpha.ok_or_else(|| bad(field, "has an alpha outside 0.000001 to 1000000"))
}

fn flag(field: &'static str, value: Option<Value>) -> Result<bool, AdapterError> {
    let value = value.unwrap_or(Value::Bool(false));
    value.as_bool().ok_or_else(|| bad(field, "is neither true nor false"))
}

fn overrides<T: Copy>(
    field: &'static str,
    value: Option<Value>,
    read: impl Fn(&'static str, &Value) -> Result<T, AdapterError>,
) -> Result<Overrides<T>, AdapterError> {
    let map = match value.unwrap_or_else(|| Value::Object(Map::new())) {
        Value::Object(map) if map.len() <= ENTRIES_MAX => map,
        _ => return Err(bad(field, "is not a map of at most 1024 entries")),
    };
    let mut entries = Vec::with_capacity(map.len());
    for (key, value) in &map {
        entries.push((key.as_str(), read(field, value)?));
    }
    Overrides::new(field, &entries)
}

/// A list of names, or one expression; `None` if it is absent or empty.
fn modules(field: &'static str, value: Option<Value>) -> Result<Option<Modules>, AdapterError> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("all-linear") => {
            Ok(Some(Modules::AllLinear))
        }
        Some(Value::String(text)) => Ok(Some(Modules::Matching(full_match(field, &text)?))),
        Some(value) => {
            let names = texts(field, value)?;
            Ok((!names.is_empty()).then_some(Modules::Named(names)))
        }
    }
}

fn layers(indices: Option<Value>, pattern: Option<Value>) -> Result<Option<Layers>, AdapterError> {
    const FIELD: &str = "layers_to_transform";
    let indices = match indices {
        Some(Value::Array(values)) => values,
        Some(value) => vec![value],
        None => Vec::new(),
    };
    let names = match pattern {
        Some(Value::String(name)) => vec![name],
        Some(value) => texts("layers_pattern", value)?,
        None => Vec::new(),
    };
    if names.len() > LAYER_PATTERNS_MAX {
        return Err(bad("layers_pattern", format!("has more than {LAYER_PATTERNS_MAX} entries")));
    }
    if indices.is_empty() {
        return Ok(None);
    }
    let index = |value: &Value| value.as_u64().ok_or_else(|| bad(FIELD, "is no list of indices"));
    let indices = indices.iter().map(index).collect::<Result<_, _>>()?;
    let names = names.iter().filter(|name| !name.is_empty());
    let mut patterns: Vec<_> =
        names.map(|name| layer_pattern(Some(name))).collect::<Result<_, _>>()?;
    if patterns.is_empty() {
        patterns.push(layer_pattern(None)?);
    }
    Ok(Some(Layers { indices, patterns }))
}

fn saves_head(value: Option<Value>) -> Result<bool, AdapterError> {
    const FIELD: &str = "modules_to_save";
    let names = value.map_or(Ok(Vec::new()), |value| texts(FIELD, value))?;
    match names.iter().find(|&name| name != "lm_head") {
        Some(other) => Err(unsupported(FIELD, &format!("a trained copy of `{}`", clip(other)))),
        None => Ok(!names.is_empty()),
    }
}

fn texts(field: &'static str, value: Value) -> Result<Vec<String>, AdapterError> {
    let Value::Array(values) = value else { return Err(bad(field, "is not a list")) };
    if values.len() > ENTRIES_MAX {
        return Err(bad(field, "has more than 1024 entries"));
    }
    let text = |value| match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        _ => Err(bad(field, "has an entry that is not text")),
    };
    values.into_iter().map(text).collect()
}
