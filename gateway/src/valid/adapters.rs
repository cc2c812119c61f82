//! Which adapters a request names, in whichever of five spellings.

use protocol::openai::{AdapterItem, AdapterSelector, LoraItem, LoraKey};

use crate::core::{AdapterPick, ModelName};
use crate::error::{ApiError, cut};

/// Most adapters in one request.
const ADAPTERS_MAX: usize = 8;
/// Largest scale, either sign.
const SCALE_MAX: f64 = 100.0;

/// A model and the adapters named beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// As the caller wrote it; replies repeat it.
    pub written: String,
    /// What it means so far.
    pub name: ModelName,
    /// Adapters from `adapter`, `adapter_id` or `lora`; at most one of these is used.
    pub adapters: Vec<AdapterPick>,
}

/// The fields that name adapters, as they came.
#[derive(Debug, Default)]
pub(super) struct AdapterFields {
    pub adapter: Option<AdapterSelector>,
    pub adapter_id: Option<String>,
    pub adapter_source: Option<String>,
    pub lora: Option<Vec<LoraItem>>,
}

impl ModelSpec {
    pub(super) fn read(model: String, fields: AdapterFields) -> Result<Self, ApiError> {
        let name = ModelName::parse(&model)?;
        let AdapterFields { adapter, adapter_id, adapter_source, lora } = fields;
        if adapter_source.as_deref().is_some_and(|source| source != "local") {
            return Err(ApiError::unsupported("adapter_source", "only `local` is supported"));
        }
        let named = [adapter.is_some(), adapter_id.is_some(), lora.is_some()];
        if named.iter().filter(|&&there| there).count() > 1 {
            let message = "name adapters in one of `adapter`, `adapter_id` and `lora`";
            return Err(ApiError::invalid("adapter", message));
        }
        let adapters = match (adapter, adapter_id, lora) {
            (Some(AdapterSelector::One(item)), ..) => vec![item_pick(item)?],
            (Some(AdapterSelector::Many(items)), ..) => {
                items.into_iter().map(item_pick).collect::<Result<_, _>>()?
            }
            (_, Some(id), _) => vec![name_pick("adapter_id", &id)?],
            (_, _, Some(items)) => items.into_iter().map(lora_pick).collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        if adapters.len() > ADAPTERS_MAX {
            let message = format!("at most {ADAPTERS_MAX} adapters in one request");
            return Err(ApiError::invalid("adapter", message));
        }
        if matches!(name, ModelName::Adapter { .. }) && !adapters.is_empty() {
            return Err(Self::twice());
        }
        Ok(Self { written: model, name, adapters })
    }

    /// Just a model's name.
    pub fn named(model: &str) -> Result<Self, ApiError> {
        Self::read(model.to_owned(), AdapterFields::default())
    }

    /// `model` is an adapter and another field names one too.
    pub fn twice() -> ApiError {
        ApiError::invalid("adapter", "`model` already names an adapter: leave one of the two out")
    }
}

fn item_pick(item: AdapterItem) -> Result<AdapterPick, ApiError> {
    let object = match item {
        AdapterItem::Name(text) => return name_pick("adapter", &text),
        AdapterItem::Object(object) => object,
    };
    let mut pick = match &object.name {
        Some(name) => name_pick("adapter", name)?,
        None => AdapterPick { name: None, number: None, generation: None, scale: 1.0 },
    };
    if let Some(text) = &object.generation {
        let generation = text
            .parse()
            .map_err(|_| ApiError::invalid("adapter", "`generation` is 64 hexadecimal digits"))?;
        if pick.generation.is_some_and(|named| named != generation) {
            return Err(ApiError::invalid("adapter", "two different generations are named"));
        }
        pick.generation = Some(generation);
    }
    if pick.name.is_none() && pick.generation.is_none() {
        return Err(ApiError::invalid("adapter", "an adapter has a `name` or a `generation`"));
    }
    pick.scale = scale("adapter", object.scale)?;
    Ok(pick)
}

fn lora_pick(item: LoraItem) -> Result<AdapterPick, ApiError> {
    let scale = scale("lora", item.scale)?;
    let name = match (item.id, item.name) {
        (Some(LoraKey::Number(_)), Some(_)) => {
            return Err(ApiError::invalid("lora", "an adapter has a number or a `name`"));
        }
        (Some(LoraKey::Number(number)), None) => {
            let wrong =
                |_| ApiError::invalid("lora", "numbers of adapters are those of `/lora-adapters`");
            let number = Some(u32::try_from(number).map_err(wrong)?);
            return Ok(AdapterPick { name: None, number, generation: None, scale });
        }
        (Some(LoraKey::Name(id)), Some(name)) if id != name => {
            return Err(ApiError::invalid("lora", "`id` and `name` differ"));
        }
        (Some(LoraKey::Name(name)), _) | (None, Some(name)) => name,
        (None, None) => return Err(ApiError::invalid("lora", "an adapter has a `name`")),
    };
    Ok(AdapterPick { scale, ..name_pick("lora", &name)? })
}

fn name_pick(param: &str, text: &str) -> Result<AdapterPick, ApiError> {
    match AdapterPick::parse(text) {
        Err(ApiError::NotFound { .. }) => {
            let message = format!("`{}` cannot be an adapter's name", cut(text));
            Err(ApiError::invalid(param, message))
        }
        Err(ApiError::Invalid { message, .. }) => Err(ApiError::invalid(param, message)),
        other => other,
    }
}

fn scale(param: &str, scale: Option<f64>) -> Result<f32, ApiError> {
    let scale = scale.unwrap_or(1.0);
    if scale.is_finite() && scale.abs() <= SCALE_MAX {
        return Ok(scale as f32);
    }
    Err(ApiError::invalid(param, format!("`scale` is a number from -{SCALE_MAX} to {SCALE_MAX}")))
}
