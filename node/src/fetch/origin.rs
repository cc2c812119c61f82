//! A place that holds a whole firmware: `firmware.toml` and its parts side by side.

use std::path::PathBuf;
use std::str::FromStr;

use engine::firmware::{MANIFEST_BYTES_MAX, MANIFEST_FILE};
use reqwest::Url;

use super::client::{Http, Patience, address};
use super::error::FetchError;

/// A folder, or a base address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A folder on this machine.
    Directory(PathBuf),
    /// An http or https address that file names are appended to.
    Address(Url),
}

impl FromStr for Origin {
    type Err = FetchError;

    fn from_str(text: &str) -> Result<Self, FetchError> {
        if !text.contains("://") {
            return Ok(Self::Directory(text.into()));
        }
        let mut url = address(text)?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self::Address(url))
    }
}

impl Origin {
    /// The text of the firmware's manifest.
    ///
    /// # Errors
    /// It is not there, too large, or not text.
    pub async fn manifest(&self, patience: Patience) -> Result<String, FetchError> {
        match self {
            Self::Directory(folder) => {
                let path = folder.join(MANIFEST_FILE);
                std::fs::read_to_string(&path).map_err(FetchError::io(&path))
            }
            Self::Address(base) => {
                let url = file_at(base, MANIFEST_FILE)?;
                let page = Http::new(patience)?.page(&url, "*/*", MANIFEST_BYTES_MAX).await?;
                String::from_utf8(page.body).map_err(|_| FetchError::Source {
                    name: MANIFEST_FILE.to_owned(),
                    problem: "it is not text".to_owned(),
                })
            }
        }
    }
}

/// The address of a file below a base.
pub(super) fn file_at(base: &Url, file: &str) -> Result<Url, FetchError> {
    base.join(file).map_err(|_| FetchError::Address { text: file.to_owned() })
}
