//! Files of rows: JSON lines and CSV, each row checked, each fault told with its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::Digest;

use super::rows::{Row, RowKind};

/// Largest file.
const BYTES_MAX: u64 = 1 << 30;
/// Most classes.
const LABELS_MAX: usize = 256;

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be read.
    #[error("`{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file as a whole cannot be used.
    #[error("`{path}` {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A row cannot be used.
    #[error("`{path}`, line {line} {reason}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Where the row begins, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// A file of rows of one form.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Where it lies.
    pub path: PathBuf,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Its rows, with the line where each begins.
    pub rows: Vec<(u64, Row)>,
}

impl Dataset {
    /// Reads `*.jsonl` or `*.csv` and checks every row.
    ///
    /// # Errors
    /// [`DataError`] with the line of the first row that cannot be used.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Unreadable { path: path.to_owned(), source };
        let refuse = |reason: String| DataError::File { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > BYTES_MAX {
            return Err(refuse(format!("has {size} bytes; at most {BYTES_MAX} are possible")));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            refuse(format!("is not UTF-8 in line {}", before.matches('\n').count() + 1))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let rows = match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson") => json_rows(path, text)?,
            Some("csv") => csv_rows(path, text)?,
            _ => return Err(refuse("is neither .jsonl nor .csv".to_owned())),
        };
        let dataset = Self { path: path.to_owned(), sha256: Digest::of(&bytes), rows };
        dataset.check()?;
        Ok(dataset)
    }

    fn check(&self) -> Result<(), DataError> {
        let path = self.path.clone();
        let Some((_, first)) = self.rows.first() else {
            return Err(DataError::File { path, reason: "has no rows".to_owned() });
        };
        let kind = first.kind();
        if let Some((line, _)) = self.rows.iter().find(|(_, row)| row.kind() != kind) {
            let reason = format!("has not {} like the rows before", kind.fields());
            return Err(DataError::Row { path, line: *line, reason });
        }
        let labels = self.labels().len();
        if kind == RowKind::Labelled && labels < 2 {
            let reason = "has one label only: there is nothing to tell apart".to_owned();
            return Err(DataError::File { path, reason });
        }
        if labels > LABELS_MAX {
            let reason = format!("has {labels} labels; at most {LABELS_MAX} are possible");
            return Err(DataError::File { path, reason });
        }
        Ok(())
    }

    /// Its form.
    pub fn kind(&self) -> RowKind {
        self.rows.first().map_or(RowKind::Chat, |(_, row)| row.kind())
    }

    /// How many rows each class has.
    pub fn labels(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for label in self.rows.iter().filter_map(|(_, row)| row.label()) {
            *counts.entry(label).or_default() += 1;
        }
        counts
    }

    /// Refuses rows of another form than `other` has, or with labels that it lacks.
    ///
    /// # Errors
    /// [`DataError`] with the line of the first such row.
    pub fn check_against(&self, other: &Self) -> Result<(), DataError> {
        let known = other.labels();
        for (line, row) in &self.rows {
            let reason = match row.label() {
                _ if row.kind() != other.kind() => {
                    format!("has not {} like {}", other.kind().fields(), other.path.display())
                }
                Some(label) if !known.contains_key(label) => {
                    format!("has the label `{label}`, which {} has not", other.path.display())
                }
                _ => continue,
            };
            return Err(DataError::Row { path: self.path.clone(), line: *line, reason });
        }
        Ok(())
    }
}

fn json_rows(path: &Path, text: &str) -> Result<Vec<(u64, Row)>, DataError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let row = |(line, text): (u64, &str)| match Row::from_json(text) {
        Ok(row) => Ok((line, row)),
        Err(reason) => Err(DataError::Row { path: path.to_owned(), line, reason }),
    };
    lines.map(row).collect()
}

/// The header names `text` and `label`, in any order; other columns are refused, so that none is
/// forgotten.
fn csv_rows(path: &Path, text: &str) -> Result<Vec<(u64, Row)>, DataError> {
    let refuse = |line: u64, reason: String| DataError::Row { path: path.to_owned(), line, reason };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| refuse(1, error.to_string()))?;
    let column = |name: &str| header.iter().position(|column| column.trim() == name);
    let (Some(text), Some(label), 2) = (column("text"), column("label"), header.len()) else {
        let found: Vec<&str> = header.iter().collect();
        return Err(refuse(1, format!("names the columns {found:?}, not `text` and `label`")));
    };
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            refuse(line, format!("cannot be read: {error}"))
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = Row::Labelled { text: record[text].to_owned(), label: record[label].to_owned() };
        rows.push((line, row.checked().map_err(|reason| refuse(line, reason))?));
    }
    Ok(rows)
}
