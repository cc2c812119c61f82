//! Which rows are learned from, which are held out, and what is asked for them.

use std::path::Path;

use engine::LoadedFirmware;
use engine::train::data::{DataError, Dataset, Prompting, Row, RowKind, split};
use engine::train::{DataRecord, Example, TrainData};

use super::Arguments;
use crate::failure::Failure;

/// The rows of a run.
pub(super) struct Rows {
    pub(super) train: Vec<Row>,
    pub(super) valid: Vec<Row>,
    /// For the scores, where they are others than the held-out ones.
    test: Option<Vec<Row>>,
    pub(super) prompting: Prompting,
    /// Sorted; none where rows are not classified.
    pub(super) labels: Vec<String>,
    pub(super) records: Vec<DataRecord>,
    pub(super) examples: TrainData,
}

impl Rows {
    /// Reads, checks and splits.
    pub(super) fn read(arguments: &Arguments, firmware: &LoadedFirmware) -> Result<Self, Failure> {
        let data = Dataset::read(&arguments.examples)?;
        let labels: Vec<String> = data.labels().into_keys().map(str::to_owned).collect();
        let other = |path: &Path| -> Result<Dataset, DataError> {
            let other = Dataset::read(path)?;
            other.check_against(&data)?;
            Ok(other)
        };
        let valid = arguments.valid.as_deref().map(other).transpose()?;
        let test = arguments.test.as_deref().map(other).transpose()?;
        let prompting = Prompting {
            instruction: instruction(arguments.instruction.as_deref(), &data),
            tokens_max: arguments.max_tokens,
        };
        let mut records = Vec::new();
        let mut record = |part: &str, data: &Dataset, rows: usize| {
            let file = data.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            records.push(DataRecord { part: part.to_owned(), file, sha256: data.sha256, rows });
        };
        let (train, held) = match &valid {
            Some(valid) => (data.rows.clone(), valid.rows.clone()),
            None => split(data.rows.clone(), arguments.valid_share, arguments.settings().seed),
        };
        record("train", &data, train.len());
        record("valid", valid.as_ref().unwrap_or(&data), held.len());
        if let Some(test) = &test {
            record("test", test, test.rows.len());
        }
        let examples =
            |rows: &[(u64, Row)], path: &Path| examples(firmware, &prompting, rows, path);
        let valid_path = arguments.valid.as_deref().unwrap_or(&arguments.examples);
        let examples = TrainData {
            train: examples(&train, &arguments.examples)?,
            valid: examples(&held, valid_path)?,
        };
        let rows = |rows: Vec<(u64, Row)>| rows.into_iter().map(|(_, row)| row).collect();
        let (train, valid, test) = (rows(train), rows(held), test.map(|test| rows(test.rows)));
        Ok(Self { train, valid, test, prompting, labels, records, examples })
    }

    /// The rows for the scores.
    pub(super) fn scored(&self) -> Vec<&Row> {
        self.test.as_ref().unwrap_or(&self.valid).iter().collect()
    }
}

/// What was said, or the names of the labels; nothing where rows say everything themselves.
pub(super) fn instruction(said: Option<&str>, data: &Dataset) -> String {
    match data.kind() {
        RowKind::Labelled => {
            said.map_or_else(|| Prompting::naming(data.labels().into_keys()), str::to_owned)
        }
        RowKind::Chat | RowKind::Completion => String::new(),
    }
}

fn examples(
    firmware: &LoadedFirmware,
    prompting: &Prompting,
    rows: &[(u64, Row)],
    path: &Path,
) -> Result<Vec<Example>, DataError> {
    let example = |(line, row): &(u64, Row)| {
        prompting.example(firmware, row).map_err(|reason| DataError::Row {
            path: path.to_owned(),
            line: *line,
            reason,
        })
    };
    rows.iter().map(example).collect()
}
