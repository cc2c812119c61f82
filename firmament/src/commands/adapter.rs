//! `firmament adapter`: bring a PEFT directory, see what serves, move names, pin, delete.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::AdapterName;
use protocol::api::{AdapterInfo, AdapterUploaded, Deleted, GenerationInfo};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::alias;
use super::api::Api;
use crate::cli::Server;
use crate::failure::Failure;
use crate::output::{Output, bytes, table};

const FILES: [(&str, bool); 3] =
    [("adapter_config.json", true), ("adapter_model.safetensors", true), ("README.md", false)];

/// What to do with adapters.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Upload a PEFT directory; it serves once a node has proved that it changes the output.
    Add(Add),
    /// List the adapters.
    List(Server),
    /// Show an adapter with its generations, their proofs and its aliases.
    Show(Named),
    /// Point a name at one of an adapter's generations.
    Alias(alias::Point),
    /// Take a name away; the adapter stays.
    Unalias(alias::Remove),
    /// Keep an adapter in the memory of every node, whatever else is loaded.
    Pin(Named),
    /// Let an adapter be evicted again.
    Unpin(Named),
    /// Delete an adapter with all its generations.
    Rm(Named),
}

/// What `add` needs.
#[derive(Debug, Args)]
pub struct Add {
    /// Directory with adapter_config.json and adapter_model.safetensors.
    directory: PathBuf,
    /// The adapter's name; callers write it as the model.
    #[arg(long)]
    name: AdapterName,
    /// The firmware that it was trained on; the default one if not said.
    #[arg(long)]
    firmware: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// An adapter by name.
#[derive(Debug, Args)]
pub struct Named {
    /// The adapter's name; `show` takes an alias too.
    name: AdapterName,
    #[command(flatten)]
    server: Server,
}

/// Does it.
pub async fn run(action: Action, output: Output) -> Result<(), Failure> {
    match action {
        Action::Add(add) => upload(add, output).await,
        Action::List(server) => {
            let adapters: Vec<AdapterInfo> = Api::new(&server)?.list(&["v1", "adapters"]).await?;
            let head =
                ["NAME", "STATE", "GENERATION", "ALIASES", "OWNER", "SHARED", "PINNED", "WHY"];
            output.list(
                &adapters,
                &head,
                row,
                "no adapters yet: add one with `firmament adapter add`",
            );
            Ok(())
        }
        Action::Show(named) => {
            let api = Api::new(&named.server)?;
            let alias = alias::find(&api, &named.name).await?;
            let name = alias.as_ref().map_or(named.name.as_str(), |alias| &alias.adapter);
            let info = show(&api, name).await?;
            output.show(&info, || describe(&info));
            Ok(())
        }
        Action::Alias(point) => alias::point(point, output).await,
        Action::Unalias(remove) => alias::remove(remove, output).await,
        Action::Pin(named) => pin(named, Method::PUT, output).await,
        Action::Unpin(named) => pin(named, Method::DELETE, output).await,
        Action::Rm(named) => {
            let api = Api::new(&named.server)?;
            alias::refuse(&api, &named.name).await?;
            let segments = ["v1", "adapters", named.name.as_str()];
            let deleted: Deleted = api.answer(api.request(Method::DELETE, &segments)).await?;
            output.show(&deleted, || format!("deleted {}", deleted.id));
            Ok(())
        }
    }
}

async fn upload(add: Add, output: Output) -> Result<(), Failure> {
    let api = Api::new(&add.server)?;
    let mut form = Form::new().text("name", add.name.as_str().to_owned());
    if let Some(firmware) = add.firmware {
        form = form.text("firmware", firmware);
    }
    for (file, needed) in FILES {
        if let Some(part) = file_part(&add.directory.join(file), needed).await? {
            form = form.part("files", part);
        }
    }
    let request = api.request(Method::POST, &["v1", "adapters"]).multipart(form);
    let uploaded: AdapterUploaded = api.answer(request).await?;
    output.show(&uploaded, || {
        let effect =
            uploaded.generation.proof.as_ref().and_then(|proof| proof["effect_ratio"].as_f64());
        let effect =
            effect.map(|ratio| format!(", changes the probe's logits by {:.2} %", ratio * 100.0));
        let (name, id) = (&uploaded.alias.name, short(&uploaded.generation.id));
        format!("{name} serves generation {id}{}", effect.unwrap_or_default())
    });
    Ok(())
}

/// One file of the directory as part of the upload; none if it is absent and not needed.
async fn file_part(path: &Path, needed: bool) -> Result<Option<Part>, Failure> {
    match Part::file(path).await {
        Ok(part) => Ok(Some(part)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = format!("`{}`", path.display());
            Err(Failure::not_found(what, "name a directory that PEFT's `save_pretrained` wrote"))
        }
        Err(error) => {
            let error =
                anyhow::Error::new(error).context(format!("`{}` cannot be read", path.display()));
            Err(Failure::new(error, "check the file's rights"))
        }
    }
}

/// One adapter, with its generations and aliases.
pub async fn show(api: &Api, name: &str) -> Result<AdapterInfo, Failure> {
    api.answer(api.request(Method::GET, &["v1", "adapters", name])).await
}

async fn pin(named: Named, method: Method, output: Output) -> Result<(), Failure> {
    let api = Api::new(&named.server)?;
    let segments = ["v1", "adapters", named.name.as_str(), "pin"];
    let info: AdapterInfo = api.answer(api.request(method, &segments)).await?;
    output.show(&info, || format!("{} is {}", info.id, pinned(&info)));
    Ok(())
}

const fn pinned(adapter: &AdapterInfo) -> &'static str {
    if adapter.pinned { "pinned" } else { "not pinned" }
}

fn row(adapter: &AdapterInfo) -> Vec<String> {
    let generation = adapter.generation.as_deref().map_or("-", short);
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let others = adapter.aliases.iter().map(|alias| alias.name.as_str());
    let aliases: Vec<&str> = others.filter(|name| *name != adapter.id).collect();
    vec![
        adapter.id.clone(),
        adapter.state.clone().unwrap_or_else(|| "-".to_owned()),
        generation.to_owned(),
        if aliases.is_empty() { "-".to_owned() } else { aliases.join(",") },
        adapter.owned_by.clone(),
        yes(adapter.shared),
        yes(adapter.pinned),
        adapter.failure.clone().unwrap_or_default(),
    ]
}

fn describe(adapter: &AdapterInfo) -> String {
    let serving = adapter.generation.as_deref().map_or("no generation", short);
    let generations = table(
        &["GENERATION", "STATE", "FIRMWARE", "SIZE", "PROOF", "WHY"],
        adapter.generations.iter().map(generation_row),
    );
    let aliases = adapter.aliases.iter();
    let aliases = aliases.map(|alias| format!("{} -> {}", alias.name, short(&alias.generation)));
    let aliases = aliases.collect::<Vec<_>>().join("\n");
    let pinned = pinned(adapter);
    format!("{} serves {serving}, {pinned}\n\n{generations}\n\n{aliases}", adapter.id)
}

fn generation_row(generation: &GenerationInfo) -> Vec<String> {
    vec![
        short(&generation.id).to_owned(),
        generation.state.clone(),
        short(&generation.firmware).to_owned(),
        bytes(generation.size_bytes),
        generation.proof.as_ref().map_or_else(|| "-".to_owned(), proof),
        generation.failure.clone().unwrap_or_default(),
    ]
}

/// What loading and probing a generation showed, for people.
fn proof(proof: &Value) -> String {
    let change = proof["effect_ratio"].as_f64().unwrap_or_default() * 100.0;
    let (rank, sites) = (&proof["rank"], &proof["sites"]);
    format!("rank {rank} on {sites} projections changes the probe's logits by {change:.2} %")
}

/// The first digits of a digest, for people.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
