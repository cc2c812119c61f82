//! A firmware in memory: weights, tokenizer and chat template, ready for engines to share.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use protocol::{ErrorCode, FirmwareInfo, WorkError};

use crate::backbone::{Backbone, BackboneConfig, Names};
use crate::constrain::GrammarFactory;
use crate::error::EngineError;
use crate::firmware::{FirmwareDir, Manifest, PartRole, TemplateSource};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::weights::WeightFile;

/// A loaded firmware; immutable, shared by [`Arc`], paid for once.
pub struct LoadedFirmware {
    info: FirmwareInfo,
    pub(crate) backbone: Arc<Backbone>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Option<ChatTemplate>,
    /// Made by the first request that constrains its answer.
    grammars: OnceLock<Option<GrammarFactory>>,
}

/// The file with a firmware's weights, and what it says about them.
pub(crate) struct BackboneFile {
    pub(crate) file: WeightFile,
    pub(crate) config: BackboneConfig,
    pub(crate) names: Names,
}

impl BackboneFile {
    pub(crate) fn open(directory: &FirmwareDir) -> Result<Self, EngineError> {
        let manifest = directory.manifest();
        let part = manifest.parts_of(PartRole::Backbone).next().ok_or_else(no_backbone)?;
        let file = WeightFile::open(&directory.part_path(part))?;
        let gguf = file.metadata().keys().next().is_some();
        let config = manifest.parts_of(PartRole::Config).next();
        let config = match config.filter(|_| !gguf) {
            Some(config) => {
                BackboneConfig::from_hugging_face(&read(&directory.part_path(config))?)?
            }
            None => BackboneConfig::from_gguf(&file)?,
        };
        let names = if gguf { Names::Gguf } else { Names::HuggingFace };
        Ok(Self { file, config, names })
    }
}

/// Template that GGUF files carry.
const TEMPLATE_KEY: &str = "tokenizer.chat_template";

impl LoadedFirmware {
    /// Loads the parts of a directory whose digests were verified.
    ///
    /// # Errors
    /// [`EngineError`] naming the part that cannot be used.
    pub fn load(directory: &FirmwareDir) -> Result<Self, EngineError> {
        let manifest = directory.manifest();
        let BackboneFile { file, config, names } = BackboneFile::open(directory)?;
        let backbone = Backbone::load(&file, config, names)?;
        let tokenizer = load_tokenizer(directory, &file)?;
        let rows = backbone.shape().vocab;
        if tokenizer.vocab_size() > rows {
            return Err(EngineError::Vocabulary { tokens: tokenizer.vocab_size(), rows });
        }
        let template = load_template(manifest, &file, &tokenizer)?;
        let info = info(manifest, &backbone, &tokenizer);
        let (backbone, tokenizer) = (Arc::new(backbone), Arc::new(tokenizer));
        Ok(Self { info, backbone, tokenizer, template, grammars: OnceLock::new() })
    }

    /// What it is, for nodes and callers.
    pub fn info(&self) -> &FirmwareInfo {
        &self.info
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Sizes of its backbone.
    pub fn shape(&self) -> crate::BackboneShape {
        *self.backbone.shape()
    }

    /// Memory of its weights.
    pub fn weight_bytes(&self) -> u64 {
        self.backbone.bytes()
    }

    pub(crate) fn grammars(&self) -> Result<&GrammarFactory, WorkError> {
        let make = || GrammarFactory::from_tokenizer(&self.tokenizer).ok();
        self.grammars.get_or_init(make).as_ref().ok_or_else(|| {
            let message = "this firmware's tokenizer cannot constrain answers";
            WorkError::new(ErrorCode::InvalidConstraint, message)
        })
    }
}

fn info(manifest: &Manifest, backbone: &Backbone, tokenizer: &Tokenizer) -> FirmwareInfo {
    let stated = backbone.config.context_length as u32;
    FirmwareInfo {
        id: manifest.id(),
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        tokenizer: tokenizer.digest(),
        context_length: manifest.context_length.map_or(stated, |limit| limit.min(stated)),
        embedding_length: backbone.shape().hidden as u32,
        base_models: manifest.base_models.clone(),
    }
}

fn load_tokenizer(
    directory: &FirmwareDir,
    backbone: &WeightFile,
) -> Result<Tokenizer, EngineError> {
    let manifest = directory.manifest();
    let part = manifest.part(&manifest.tokenizer.part).ok_or_else(no_backbone)?;
    if part.role == PartRole::Backbone {
        return Ok(Tokenizer::from_gguf(backbone.metadata())?);
    }
    let tokenizer = Tokenizer::from_json(&read(&directory.part_path(part))?)?;
    let Some(config) = manifest.parts_of(PartRole::Config).next() else { return Ok(tokenizer) };
    let config = read(&directory.part_path(config))?;
    let ends: TokenEnds = serde_json::from_slice(&config).unwrap_or_default();
    Ok(tokenizer.with_ends(ends.bos_token_id, &ends.eos()))
}

/// Where text begins and ends, in transformers' `config.json`.
#[derive(Default, serde::Deserialize)]
struct TokenEnds {
    bos_token_id: Option<u32>,
    eos_token_id: Option<EosIds>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum EosIds {
    One(u32),
    Many(Vec<u32>),
}

impl TokenEnds {
    fn eos(&self) -> Vec<u32> {
        match &self.eos_token_id {
            None => Vec::new(),
            Some(EosIds::One(id)) => vec![*id],
            Some(EosIds::Many(ids)) => ids.clone(),
        }
    }
}

fn load_template(
    manifest: &Manifest,
    backbone: &WeightFile,
    tokenizer: &Tokenizer,
) -> Result<Option<ChatTemplate>, EngineError> {
    let source = match &manifest.template {
        None => return Ok(None),
        Some(TemplateSource::Text(text)) => text.as_str(),
        Some(TemplateSource::Part(_)) => match backbone.metadata().text(TEMPLATE_KEY)? {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    let spelling = |token: Option<u32>| {
        token.map_or(String::new(), |id| {
            String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned()
        })
    };
    let (bos, eos) = (spelling(tokenizer.bos()), spelling(tokenizer.eos()));
    Ok(Some(ChatTemplate::new(source, &bos, &eos)?))
}

fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::fs::read(path).map_err(|source| EngineError::File { file, source })
}

fn no_backbone() -> EngineError {
    EngineError::Firmware(crate::firmware::FirmwareError::Invalid {
        reason: "it names no backbone or no tokenizer".to_owned(),
    })
}
