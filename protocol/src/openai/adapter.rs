//! The ways in which callers of other servers name an adapter beside `model`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `adapter`: one adapter or several, whose scaled deltas are added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected an adapter's name, an object with `name` or `generation`, or a list of these"
)]
pub enum AdapterSelector {
    /// One.
    One(AdapterItem),
    /// Several, in this order.
    Many(Vec<AdapterItem>),
}

/// One adapter: its name, or an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected an adapter's name or an object")]
pub enum AdapterItem {
    /// `name`, `base::name` or `base::name@generation`.
    Name(String),
    /// By name, by generation, or by both.
    Object(AdapterObject),
}

/// One adapter as an object; at least one of `name` and `generation` is there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdapterObject {
    /// The adapter's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Exactly this generation, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Multiplies the adapter's own scale; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
}

/// One entry of `lora`, as llama.cpp's callers write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraItem {
    /// The adapter's name, or its number in `GET /lora-adapters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<LoraKey>,
    /// The same as `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Multiplies the adapter's own scale; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
}

/// llama.cpp numbers its adapters; here they have names and, of the caller's own, numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected an adapter's name or number")]
pub enum LoraKey {
    /// A name.
    Name(String),
    /// A number that `GET /lora-adapters` told.
    Number(i64),
}
