//! One pinned file out of a wheel, which is a zip archive.
//! Owns: finding the entry and refusing what it should not be. Never: any other entry.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;

use super::error::FetchError;
use super::files::Draft;

/// Appends `member` of the wheel to `draft`; nothing else of the wheel is read.
pub(super) fn take(
    wheel: &Path,
    package: &str,
    member: &str,
    draft: &mut Draft,
) -> Result<(), FetchError> {
    let problem = |problem: String| FetchError::Wheel {
        package: package.to_owned(),
        member: member.to_owned(),
        problem,
    };
    let file = File::open(wheel).map_err(FetchError::io(wheel))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| problem(error.to_string()))?;
    let entry = archive.by_name(member).map_err(|error| problem(error.to_string()))?;
    let missing = draft.missing_bytes();
    if !entry.is_file() || entry.size() > missing {
        return Err(problem(format!("it has {} bytes where {missing} are pinned", entry.size())));
    }
    match draft.append(entry) {
        // Deflated bytes that do not inflate are the wheel's fault, not the disk's.
        Err(FetchError::Io { source, .. }) if source.raw_os_error().is_none() => {
            Err(problem(source.to_string()))
        }
        outcome => outcome,
    }
}
