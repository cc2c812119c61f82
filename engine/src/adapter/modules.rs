//! How PEFT picks modules by name: lists of suffixes, regular expressions, layer indices.
//! Source: `check_target_module_exists` (`peft/tuners/tuners_utils.py`) and `get_pattern_key`
//! (`peft/utils/other.py`). Module names have no prefix here: `model.layers.0.self_attn.q_proj`.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::AdapterError;
use super::fields::{bad, unsupported};

/// Longest text of one name or expression.
const TEXT_BYTES_MAX: usize = 1024;
/// Largest compiled expression.
const REGEX_BYTES_MAX: usize = 256 << 10;
/// Largest compiled expressions of one map; a full name for each of 1024 modules takes about half.
const ALL_BYTES_MAX: usize = 16 << 20;

/// A choice of modules, as in `target_modules` and `exclude_modules`.
#[derive(Debug)]
pub(super) enum Modules {
    /// Every linear layer but the output head.
    AllLinear,
    /// Those whose whole name matches.
    Matching(Regex),
    /// Those with these names, or with names that end in a dot and one of these.
    Named(Vec<String>),
}

/// The layers that `layers_to_transform` leaves.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) indices: Vec<u64>,
    /// Each with a group `idx`; a list of layers is found by the first that matches.
    pub(super) patterns: Vec<Regex>,
}

/// Values by name pattern; the first pattern that matches counts.
#[derive(Debug)]
pub(super) struct Overrides<T> {
    /// Together, so that one bound holds for all of them.
    patterns: RegexSet,
    values: Vec<T>,
}

impl Modules {
    /// Whether the list, or the expression, holds the module.
    pub(super) fn hold(&self, module: &str) -> bool {
        match self {
            Self::AllLinear => module.ends_with("_proj"),
            Self::Matching(regex) => regex.is_match(module),
            Self::Named(names) => names.iter().any(|name| ends_in(module, name)),
        }
    }

    /// Whether the module is listed with its whole name, which no choice of layers narrows.
    pub(super) fn hold_exactly(&self, module: &str) -> bool {
        matches!(self, Self::Named(names) if names.iter().any(|name| name == module))
    }
}

impl Layers {
    /// Whether the module is in one of the layers.
    pub(super) fn hold(&self, module: &str) -> bool {
        let mut found = self.patterns.iter().filter_map(|pattern| pattern.captures(module));
        let index = found.next().and_then(|groups| groups.name("idx")?.as_str().parse().ok());
        index.is_some_and(|index: u64| self.indices.contains(&index))
    }
}

impl<T: Copy> Overrides<T> {
    /// For each key as in `re.match(rf"(.*\.)?({key})$", module)` its value.
    pub(super) fn new(field: &'static str, entries: &[(&str, T)]) -> Result<Self, AdapterError> {
        for (key, _) in entries {
            check_length(field, key)?;
        }
        let keys = entries.iter().map(|(key, _)| format!(r"\A(?:(?:.*\.)?(?:{key}))\z"));
        let patterns = RegexSetBuilder::new(keys).size_limit(ALL_BYTES_MAX).nest_limit(32).build();
        let patterns = patterns.map_err(|error| refusal(field, &error))?;
        Ok(Self { patterns, values: entries.iter().map(|(_, value)| *value).collect() })
    }

    /// The value for this module, if a pattern matches it.
    pub(super) fn get(&self, module: &str) -> Option<T> {
        self.patterns.matches(module).iter().next().map(|first| self.values[first])
    }

    pub(super) fn values(&self) -> impl Iterator<Item = T> {
        self.values.iter().copied()
    }
}

/// `re.fullmatch(text, module)`.
pub(super) fn full_match(field: &'static str, text: &str) -> Result<Regex, AdapterError> {
    compile(field, text, &format!(r"\A(?:{text})\z"))
}

/// `re.match(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", module)`; without a pattern any list of
/// layers will do.
pub(super) fn layer_pattern(pattern: Option<&str>) -> Result<Regex, AdapterError> {
    let text = pattern.unwrap_or_default();
    let regex = match pattern {
        Some(pattern) => format!(r"\A(?:(?:^|.*?\.){pattern}\.(?P<idx>[0-9]+)\.)"),
        None => r"\A.*?\.[^.]*\.(?P<idx>[0-9]+)\.".to_owned(),
    };
    compile("layers_pattern", text, &regex)
}

/// Compiles `regex`, made of the file's `text`; time and memory are linear in what it matches.
fn compile(field: &'static str, text: &str, regex: &str) -> Result<Regex, AdapterError> {
    check_length(field, text)?;
    let compiled = RegexBuilder::new(regex).size_limit(REGEX_BYTES_MAX).nest_limit(32).build();
    compiled.map_err(|error| refusal(field, &error))
}

fn check_length(field: &'static str, text: &str) -> Result<(), AdapterError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(bad(field, format!("has a text of {} bytes", text.len())));
    }
    Ok(())
}

fn refusal(field: &'static str, error: &regex::Error) -> AdapterError {
    match error {
        regex::Error::CompiledTooBig(_) => bad(field, "has an expression that is too large"),
        _ => unsupported(field, "a regular expression of a kind that can backtrack, or a bad one"),
    }
}

fn ends_in(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
