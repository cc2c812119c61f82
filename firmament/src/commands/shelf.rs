//! The firmwares of this machine: those that the build knows and those that lie in the data directory.
//! Owns: finding one by name, which one is in use. Never: fetching, loading.

use std::path::PathBuf;

use engine::firmware::{Builtin, FirmwareDir, Manifest, QuickCheck, builtin};
use protocol::FirmwareId;

use crate::data::DataDir;
use crate::failure::Failure;

const NAMES_ADVICE: &str = "see `firmament firmware list`; of an id, 6 digits are enough";
/// Digits of an id that are enough to name a firmware.
const ID_DIGITS_MIN: usize = 6;

/// A firmware by its manifest, and its folder if it is here.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it is made of.
    pub manifest: Manifest,
    /// The manifest as text.
    pub text: String,
    /// The folder, once it is complete.
    pub folder: Option<PathBuf>,
}

/// How much of a firmware is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing, or an unfinished fetch.
    Absent,
    /// All parts, compared with their digests and unchanged since.
    Verified,
    /// All parts, changed or never compared.
    Unverified,
    /// Parts are missing or have the wrong size.
    Damaged,
}

impl State {
    /// The state as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Damaged => "damaged",
        }
    }
}

impl Known {
    /// Its id.
    pub fn id(&self) -> FirmwareId {
        self.manifest.id()
    }

    /// How much of it is here.
    pub fn state(&self) -> State {
        let Some(folder) = &self.folder else { return State::Absent };
        match FirmwareDir::open(folder).and_then(|firmware| firmware.quick_check()) {
            Ok(QuickCheck::Verified) => State::Verified,
            Ok(QuickCheck::Unverified) => State::Unverified,
            Err(_) => State::Damaged,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        let id = self.id().to_string();
        let (plain, version) = name.split_once('@').unwrap_or((name, &self.manifest.version));
        (self.manifest.name == plain && self.manifest.version == version)
            || (name.len() >= ID_DIGITS_MIN && id.starts_with(name))
    }

    fn of_build(known: &Builtin) -> Self {
        Self { manifest: known.manifest.clone(), text: known.text.to_owned(), folder: None }
    }
}

/// Everything that is known: the build's firmwares first, then others in the data directory.
pub fn all(data: &DataDir) -> Vec<Known> {
    let mut known: Vec<Known> = builtin().iter().map(Known::of_build).collect();
    for here in installed(data) {
        match known.iter_mut().find(|other| other.id() == here.id()) {
            Some(other) => other.folder = here.folder,
            None => known.push(here),
        }
    }
    known
}

/// The firmware that `name` means: a name, `name@version` or the first digits of an id.
pub fn find(data: &DataDir, name: &str) -> Result<Known, Failure> {
    let mut found: Vec<Known> =
        all(data).into_iter().filter(|known| known.is_called(name)).collect();
    // Of several versions under one name, what is here and newest in the listing wins.
    found.sort_by_key(|known| known.folder.is_none());
    let first = found.into_iter().next();
    first.ok_or_else(|| Failure::not_found(format!("the firmware `{name}`"), NAMES_ADVICE))
}

/// The firmware in use: the chosen one, or the build's default.
pub fn in_use(data: &DataDir) -> Result<Known, Failure> {
    match std::fs::read_to_string(data.chosen_firmware()) {
        Ok(id) => find(data, id.trim()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            find(data, &builtin()[0].manifest.id().to_string())
        }
        Err(error) => Err(Failure::new(error, "choose one with `firmament firmware use`")),
    }
}

/// Makes a firmware the one in use.
pub fn choose(data: &DataDir, id: FirmwareId) -> Result<(), Failure> {
    data.create()?;
    let (place, draft) = (data.chosen_firmware(), data.root().join("firmware.new"));
    let written =
        std::fs::write(&draft, format!("{id}\n")).and_then(|()| std::fs::rename(draft, place));
    written.map_err(|error| Failure::new(error, "check the rights of the data directory"))
}

/// Complete firmwares in the data directory, by name and version; what cannot be read is left out.
fn installed(data: &DataDir) -> Vec<Known> {
    let folders = |path: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let versions = folders(data.firmwares()).into_iter().flat_map(folders);
    versions.filter_map(read).collect()
}

fn read(folder: PathBuf) -> Option<Known> {
    let firmware = FirmwareDir::open(&folder).ok()?;
    let text = std::fs::read_to_string(folder.join(engine::firmware::MANIFEST_FILE)).ok()?;
    Some(Known { manifest: firmware.manifest().clone(), text, folder: Some(folder) })
}
