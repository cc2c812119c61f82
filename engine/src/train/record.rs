//! What is told about an adapter: `training.json` for programs, `README.md` for people.
//! Owns: their form. Never: what goes into them.

use std::fmt::Write as _;
use std::path::Path;

use protocol::{Digest, FirmwareId};
use serde::{Deserialize, Serialize};

use super::data::Prompting;
use super::evaluate::Evaluation;
use super::files::replace;
use super::{TrainError, TrainSettings};

/// The record's file name in an adapter's folder.
pub const RECORD_FILE: &str = "training.json";
const CARD_FILE: &str = "README.md";

/// Where an adapter comes from and what it can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Version of this form: 1.
    pub schema: u32,
    /// What the adapter is for, in a word.
    pub task: String,
    /// The base.
    pub base: BaseRecord,
    /// The files that it learned from and was measured on.
    pub data: Vec<DataRecord>,
    /// How rows are put to the model.
    pub prompting: Prompting,
    /// The classes, sorted; none where rows are not classified.
    pub labels: Vec<String>,
    /// Everything else that decides the result.
    pub settings: TrainSettings,
    /// Updates that were made.
    pub steps: u64,
    /// The update whose values were kept, and the held-out loss after it.
    pub best: Option<(u64, f64)>,
    /// Scores on held-out rows, through the serving engine.
    pub evaluation: Option<Evaluation>,
}

/// A firmware as the base of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// Its id.
    pub firmware: FirmwareId,
    /// Digest of its tokenizer.
    pub tokenizer: Digest,
    /// Its name and version.
    pub name: String,
    /// Its licence.
    pub licence: String,
    /// The name under which Python finds it.
    pub model: Option<String>,
}

/// A file of data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// What it was for: `train`, `valid` or `test`.
    pub part: String,
    /// Its plain name.
    pub file: String,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Rows that were used for this part.
    pub rows: usize,
}

impl TrainRecord {
    /// The current form.
    pub const SCHEMA: u32 = 1;

    /// Writes both files into an adapter's folder.
    ///
    /// # Errors
    /// [`TrainError::File`] if one cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_string_pretty(self).expect("plain fields") + "\n";
        replace(&folder.join(RECORD_FILE), json.as_bytes())?;
        replace(&folder.join(CARD_FILE), self.card().as_bytes())
    }

    /// Reads the record of an adapter; none if it has none.
    ///
    /// # Errors
    /// [`TrainError::File`] if there is one that cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>, TrainError> {
        let path = folder.join(RECORD_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainError::read(&path)(error)),
        };
        let record = serde_json::from_slice(&bytes);
        record.map(Some).map_err(|error| TrainError::read(&path)(error.into()))
    }

    /// The card, in the form of Hugging Face's hub.
    pub fn card(&self) -> String {
        let mut card = String::from("---\nlibrary_name: peft\n");
        if let Some(model) = &self.base.model {
            let _ = writeln!(card, "base_model: {model}");
        }
        let _ = writeln!(card, "tags:\n- lora\n- firmament\n---\n\n# {}\n", self.task);
        let BaseRecord { name, licence, firmware, tokenizer, .. } = &self.base;
        let _ = writeln!(
            card,
            "A LoRA adapter for {name} (licence of the base: {licence}), trained by Firmament."
        );
        let _ = writeln!(
            card,
            "Whoever shares it decides its own licence, within those of base and data.\n"
        );
        if !self.prompting.instruction.is_empty() {
            let instruction = &self.prompting.instruction;
            let _ = writeln!(card, "Say this as the system message:\n\n> {instruction}\n");
        }
        if let Some(evaluation) = &self.evaluation {
            let _ = writeln!(card, "## Scores\n\n{}", evaluation.table());
        }
        card += "## Data\n\n| part | file | rows | SHA-256 |\n| --- | --- | --- | --- |\n";
        for DataRecord { part, file, sha256, rows } in &self.data {
            let _ = writeln!(card, "| {part} | {file} | {rows} | `{sha256}` |");
        }
        let settings = serde_json::to_string_pretty(&self.settings).expect("plain fields");
        let _ = writeln!(card, "\n## Settings\n\n```json\n{settings}\n```\n");
        let _ = write!(card, "{} updates were made", self.steps);
        if let Some((step, loss)) = self.best {
            let _ = write!(
                card,
                "; the values after update {step} were kept (held-out loss {loss:.4})"
            );
        }
        let _ = writeln!(card, ".\n\nFirmware `{firmware}`, tokenizer `{tokenizer}`.");
        card
    }
}
