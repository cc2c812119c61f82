//! `firmament firmware`: fetch, list, check, choose and remove.

use std::path::Path;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use engine::firmware::{FirmwareDir, Manifest, Source};
use node::fetch::{FetchError, Origin, Progress, Sources, fetch};
use serde_json::{Value, json};

use super::shelf::{self, Known, State};
use crate::data::DataDir;
use crate::failure::{Exit, Failure};
use crate::output::{FetchBar, Output, bytes, note};

/// What to do with firmwares.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Fetch a firmware; an attempt that broke off goes on.
    Pull(Pull),
    /// List the firmwares that this build knows or that are here.
    List,
    /// Compare every byte with the pinned digests.
    Verify(Named),
    /// Make a firmware the one that `up` runs.
    Use(OneName),
    /// Show a firmware's manifest and state.
    Show(Named),
    /// Remove a firmware from the disk.
    Rm(OneName),
}

/// What `pull` needs.
#[derive(Debug, Args)]
pub struct Pull {
    /// A known name; the one in use if not said.
    name: Option<String>,
    /// A directory or address that holds firmware.toml and the parts, instead of the manifest's sources.
    #[arg(long, value_name = "DIR|URL")]
    from: Option<Origin>,
    /// Make it the firmware in use.
    #[arg(long = "use")]
    choose: bool,
    #[command(flatten)]
    sources: SourceArguments,
}

/// A firmware, or the one in use.
#[derive(Debug, Args)]
pub struct Named {
    /// A name, `name@version` or the first 6 or more digits of an id; the one in use if not said.
    name: Option<String>,
}

/// A firmware that must be said.
#[derive(Debug, Args)]
pub struct OneName {
    /// A name, `name@version` or the first 6 or more digits of an id.
    name: String,
}

/// Where packages and hub files come from.
#[derive(Debug, Clone, Args)]
pub struct SourceArguments {
    /// Python package index; pip's own, else the public one, if not said.
    #[arg(long, env = "PIP_INDEX_URL", hide_env_values = true, value_name = "URL")]
    index_url: Option<String>,
    /// Base address of the model hub.
    #[arg(long, env = "HF_ENDPOINT", default_value = "https://huggingface.co", value_name = "URL")]
    hub_url: String,
    /// Never ask pip.
    #[arg(long)]
    no_pip: bool,
}

impl SourceArguments {
    fn sources(&self, origin: Option<Origin>) -> Sources {
        Sources {
            index_url: self.index_url.clone(),
            pip: !self.no_pip,
            hub_url: self.hub_url.clone(),
            origin,
            ..Sources::default()
        }
    }
}

/// Does it.
pub async fn run(action: Action, data: &DataDir, output: Output) -> Result<(), Failure> {
    match action {
        Action::Pull(pull) => run_pull(pull, data, output).await,
        Action::List => list(data, output),
        Action::Verify(named) => verify(&named_or_used(data, named.name)?, output).await,
        Action::Use(named) => choose(&shelf::find(data, &named.name)?, data, output),
        Action::Show(named) => {
            let known = named_or_used(data, named.name)?;
            output.show(&facts(&known, data, true), || shown(&known));
            Ok(())
        }
        Action::Rm(named) => remove(&shelf::find(data, &named.name)?, data, output),
    }
}

fn named_or_used(data: &DataDir, name: Option<String>) -> Result<Known, Failure> {
    name.map_or_else(|| shelf::in_use(data), |name| shelf::find(data, &name))
}

async fn run_pull(pull: Pull, data: &DataDir, output: Output) -> Result<(), Failure> {
    let sources = pull.sources.sources(pull.from);
    let text = match (&pull.name, &sources.origin) {
        (None, Some(origin)) => origin.manifest(sources.patience).await?,
        (name, _) => named_or_used(data, name.clone())?.text,
    };
    let firmware = fetch_shown(data, &text, &sources).await?;
    if pull.choose {
        shelf::choose(data, firmware.manifest().id())?;
    }
    let known = Known {
        manifest: firmware.manifest().clone(),
        text,
        folder: Some(firmware.root().to_owned()),
    };
    output.show(&facts(&known, data, false), || {
        format!("{} is here and verified", title(&known.manifest))
    });
    Ok(())
}

/// The firmware in use, fetched if it is not here; for the roles that run one.
#[cfg(any(feature = "worker", feature = "device-agent"))]
pub async fn ensure(
    data: &DataDir,
    known: &Known,
    sources: &SourceArguments,
) -> Result<FirmwareDir, Failure> {
    data.create()?;
    fetch_shown(data, &known.text, &sources.sources(None)).await
}

/// Fetches with the licence and the source said first and a bar while it runs.
async fn fetch_shown(
    data: &DataDir,
    text: &str,
    sources: &Sources,
) -> Result<FirmwareDir, Failure> {
    let manifest = Manifest::parse(text)?;
    let here = node::fetch::folder_of(&data.firmwares(), &manifest);
    if !here.join(engine::firmware::MANIFEST_FILE).exists() {
        note(&format!("fetching {} ({})", title(&manifest), bytes(manifest.size_bytes())));
        note(&format!("licence: {}", manifest.licence));
        note(&format!("source: {}", source(&manifest, sources)));
    }
    let bar = FetchBar::new();
    let place = data.firmwares();
    let told = |progress: Progress<'_>| bar.report(progress);
    let firmware = tokio::select! {
        biased; // signals are heard before anything is asked for
        _ = telemetry::shutdown_signal() => {
            let advice = "run it again: it goes on where it stopped";
            return Err(Failure::interrupted(format!("fetching {}", title(&manifest)), advice));
        }
        firmware = fetch(&place, text, sources, &told) => firmware,
    };
    firmware.map_err(|error| match error {
        FetchError::Firmware(error) => error.into(),
        error => error.into(),
    })
}

fn title(manifest: &Manifest) -> String {
    format!("{} {}", manifest.name, manifest.version)
}

fn source(manifest: &Manifest, sources: &Sources) -> String {
    match &sources.origin {
        Some(Origin::Directory(path)) => return path.display().to_string(),
        Some(Origin::Address(url)) => return url.host_str().unwrap_or_default().to_owned(),
        None => {}
    }
    let mut names: Vec<String> =
        manifest.parts.iter().map(|part| source_of(&part.source)).collect();
    names.dedup();
    names.join("; ")
}

fn source_of(source: &Source) -> String {
    match source {
        Source::PythonPackage { pieces } => {
            let names: Vec<_> =
                pieces.iter().map(|p| format!("{} {}", p.package, p.version)).collect();
            format!("Python package {}", names.join(", "))
        }
        Source::Http { url } => url.clone(),
        Source::Directory { path } => path.clone(),
        Source::HuggingFace { repo, revision, .. } => format!("Hugging Face {repo} at {revision}"),
    }
}

fn list(data: &DataDir, output: Output) -> Result<(), Failure> {
    let used = shelf::in_use(data)?.id();
    let all = shelf::all(data);
    if output.is_json() {
        let items: Vec<Value> = all.iter().map(|known| facts(known, data, false)).collect();
        output.list(&items, &[], |_| Vec::new(), "");
        return Ok(());
    }
    let row = |known: &Known| {
        vec![
            known.manifest.name.clone(),
            known.manifest.version.clone(),
            known.id().0.short(),
            bytes(known.manifest.size_bytes()),
            known.state().as_str().to_owned(),
            if known.id() == used { "yes" } else { "" }.to_owned(),
            known.manifest.licence.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let head = ["NAME", "VERSION", "ID", "SIZE", "STATE", "IN USE", "LICENCE"];
    output.list(&rows, &head, Clone::clone, "this build knows no firmware");
    Ok(())
}

async fn verify(known: &Known, output: Output) -> Result<(), Failure> {
    let folder = present(known)?.to_owned();
    let verified =
        tokio::task::spawn_blocking(move || FirmwareDir::open(&folder)?.verify(|_, _| ()));
    verified.await??;
    let (name, id) = (title(&known.manifest), known.id().to_string());
    output.show(&json!({ "id": id, "name": known.manifest.name, "verified": true }), || {
        format!("{name} is what its manifest pins ({id})")
    });
    Ok(())
}

fn choose(known: &Known, data: &DataDir, output: Output) -> Result<(), Failure> {
    present(known)?;
    shelf::choose(data, known.id())?;
    output.show(&facts(known, data, false), || {
        format!("{} is in use from the next start on", title(&known.manifest))
    });
    Ok(())
}

fn remove(known: &Known, data: &DataDir, output: Output) -> Result<(), Failure> {
    let name = &known.manifest.name;
    let absent = || {
        let what = anyhow!("the firmware `{name}` is not on this machine");
        Failure::with(Exit::NotFound, what, "there is nothing to remove")
    };
    let folder = known.folder.as_deref().ok_or_else(absent)?;
    let used = shelf::in_use(data)?.id() == known.id();
    // A running server has its firmware open: it is not taken from under it.
    let _held = if used { Some(data.lock()?) } else { None };
    std::fs::remove_dir_all(folder)
        .map_err(|error| Failure::new(error, "check the rights of the data directory"))?;
    if used {
        let _ = std::fs::remove_file(data.chosen_firmware()); // absent if it was the default
    }
    let removed = json!({ "id": known.id().to_string(), "object": "firmware", "deleted": true });
    output.show(&removed, || format!("removed {}", title(&known.manifest)));
    Ok(())
}

fn present(known: &Known) -> Result<&Path, Failure> {
    known.folder.as_deref().ok_or_else(|| {
        let name = &known.manifest.name;
        let what = anyhow!("the firmware `{name}` is not on this machine");
        let advice = format!("fetch it with `firmament firmware pull {name}`");
        Failure::with(Exit::NotFound, what, advice)
    })
}

/// A firmware for programs.
fn facts(known: &Known, data: &DataDir, whole: bool) -> Value {
    let used = shelf::in_use(data).is_ok_and(|used| used.id() == known.id());
    let mut facts = json!({
        "id": known.id().to_string(),
        "object": "firmware",
        "name": known.manifest.name,
        "version": known.manifest.version,
        "description": known.manifest.description,
        "licence": known.manifest.licence,
        "size_bytes": known.manifest.size_bytes(),
        "state": known.state(),
        "in_use": used,
        "path": known.folder,
    });
    if whole {
        facts["manifest"] =
            serde_json::to_value(&known.manifest).expect("a manifest is plain fields");
    }
    facts
}

fn shown(known: &Known) -> String {
    let place = match known.state() {
        State::Absent => "not on this machine".to_owned(),
        state => {
            let folder = known.folder.as_deref().unwrap_or(Path::new("")).display();
            format!("{} in {folder}", state.as_str())
        }
    };
    format!("# {}\n# {place}\n{}", known.id(), known.text)
}
