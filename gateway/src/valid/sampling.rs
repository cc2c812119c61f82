//! How tokens are drawn: every range of OpenAI's and vLLM's fields.

use std::collections::BTreeMap;

use protocol::Sampling;

use crate::error::{ApiError, cut};

/// Most entries of `logit_bias`.
const BIASES_MAX: usize = 1024;
/// Largest token id in `logit_bias`; the engine knows its own vocabulary.
const TOKEN_MAX: u32 = 1 << 24;

/// The fields, as they came; chat and text completions have the same ones.
#[derive(Debug, Default)]
pub(super) struct SamplingFields {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i64>,
    pub min_p: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub logit_bias: Option<BTreeMap<String, f64>>,
}

impl SamplingFields {
    /// The result's seed is set later: see [`super::Generate::work`].
    pub(super) fn check(self) -> Result<Sampling, ApiError> {
        // The likeliest token is always kept: a share of 0 keeps that one alone.
        let top_p = number("top_p", self.top_p, 1.0, 0.0..=1.0)?.max(f32::MIN_POSITIVE);
        let repetition_penalty =
            number("repetition_penalty", self.repetition_penalty, 1.0, 0.0..=2.0)?;
        if repetition_penalty == 0.0 {
            return Err(ApiError::invalid(
                "repetition_penalty",
                "`repetition_penalty` is above 0 and up to 2",
            ));
        }
        Ok(Sampling {
            temperature: number("temperature", self.temperature, 1.0, 0.0..=2.0)?,
            top_p,
            top_k: top_k(self.top_k)?,
            min_p: number("min_p", self.min_p, 0.0, 0.0..=1.0)?,
            presence_penalty: number("presence_penalty", self.presence_penalty, 0.0, -2.0..=2.0)?,
            frequency_penalty: number(
                "frequency_penalty",
                self.frequency_penalty,
                0.0,
                -2.0..=2.0,
            )?,
            repetition_penalty,
            logit_bias: logit_bias(self.logit_bias)?,
            seed: 0,
        })
    }
}

/// A number within `range`, as the engine's 32-bit float; a tiny one does not become 0 by rounding.
fn number(
    param: &str,
    value: Option<f64>,
    default: f32,
    range: std::ops::RangeInclusive<f64>,
) -> Result<f32, ApiError> {
    let Some(value) = value else { return Ok(default) };
    if !range.contains(&value) {
        let message = format!("`{param}` is a number from {} to {}", range.start(), range.end());
        return Err(ApiError::invalid(param, message));
    }
    let rounded = value as f32;
    Ok(if value > 0.0 { rounded.max(f32::MIN_POSITIVE) } else { rounded })
}

fn top_k(value: Option<i64>) -> Result<u32, ApiError> {
    match value {
        None | Some(-1) => Ok(0),
        Some(value) => {
            u32::try_from(value).ok().filter(|&top_k| top_k <= TOKEN_MAX).ok_or_else(|| {
                ApiError::invalid("top_k", "`top_k` is a whole number from 0, or -1 to keep all")
            })
        }
    }
}

fn logit_bias(biases: Option<BTreeMap<String, f64>>) -> Result<BTreeMap<u32, f32>, ApiError> {
    let biases = biases.unwrap_or_default();
    if biases.len() > BIASES_MAX {
        let message = format!("`logit_bias` has at most {BIASES_MAX} entries");
        return Err(ApiError::invalid("logit_bias", message));
    }
    biases.into_iter().map(|(token, bias)| bias_of(&token, bias)).collect()
}

fn bias_of(token: &str, bias: f64) -> Result<(u32, f32), ApiError> {
    let digits = !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit());
    let id = token.parse().ok().filter(|&id: &u32| digits && id <= TOKEN_MAX);
    let wrong = |message: String| ApiError::invalid("logit_bias", message);
    let id =
        id.ok_or_else(|| wrong(format!("`{}` in `logit_bias` is no token's id", cut(token))))?;
    if !(-100.0..=100.0).contains(&bias) {
        return Err(wrong("`logit_bias` maps token ids to numbers from -100 to 100".to_owned()));
    }
    Ok((id, bias as f32))
}
