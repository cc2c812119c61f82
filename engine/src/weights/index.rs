//! Sharded safetensors: `model.safetensors.index.json` and the files it names.
//! Owns: that the index and the shards tell the same story. Never: the shards' own format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::tensor::{TENSORS_MAX, TensorRef, present};
use super::unique::UniqueMap;
use super::{Profile, SharedBytes, WeightsError, safetensors};

const INDEX_BYTES_MAX: u64 = 8 << 20;
const SHARDS_MAX: usize = 1024;

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "metadata", default)]
    _metadata: IgnoredAny,
    weight_map: UniqueMap<String, TENSORS_MAX>,
}

/// Opens every shard that the index at `path` names; they lie beside it.
pub(super) fn open(path: &Path) -> Result<BTreeMap<String, TensorRef>, WeightsError> {
    let failed = |source| WeightsError::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > INDEX_BYTES_MAX {
        let what = "the shard index's size";
        return Err(WeightsError::OverLimit { what, found: size, limit: INDEX_BYTES_MAX });
    }
    let text = std::fs::read(path).map_err(failed)?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|error| WeightsError::Json { what: "shard index", reason: error.to_string() })?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    join(&index.weight_map.0, |file| {
        safetensors::parse(&SharedBytes::map(&folder.join(file))?, Profile::Model)
    })
}

fn join(
    weight_map: &BTreeMap<String, String>,
    open: impl Fn(&str) -> Result<BTreeMap<String, Option<TensorRef>>, WeightsError>,
) -> Result<BTreeMap<String, TensorRef>, WeightsError> {
    let files: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    if files.len() > SHARDS_MAX {
        let (found, limit) = (files.len() as u64, SHARDS_MAX as u64);
        return Err(WeightsError::OverLimit { what: "the number of shards", found, limit });
    }
    let wrong = |reason| Err(WeightsError::Index { reason });
    let mut tensors = BTreeMap::new();
    for file in files {
        if !is_file_name(file) {
            return wrong(format!("{file:?} is not a plain file name"));
        }
        for (name, tensor) in open(file)? {
            if weight_map.get(&name).map(String::as_str) != Some(file) {
                return wrong(format!("`{file}` holds `{name}`, which the index puts elsewhere"));
            }
            tensors.insert(name, tensor);
        }
    }
    if let Some((name, file)) = weight_map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        return wrong(format!("`{file}` lacks `{name}`"));
    }
    Ok(present(tensors))
}

/// Whether `name` names a file in the same folder and nothing else.
fn is_file_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=255).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_outside_of_the_folder_is_refused_before_it_is_opened() {
        for file in ["../a", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "", "a\0b", "é"] {
            let map = BTreeMap::from([("w".to_owned(), file.to_owned())]);
            let error = join(&map, |_| panic!("opened {file}")).unwrap_err();
            assert_eq!(error.code(), "weights_index", "{file}");
        }
    }
}
