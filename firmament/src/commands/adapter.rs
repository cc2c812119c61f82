//! `firmament adapter`: bring a PEFT directory, see what serves, move names, pin, delete.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::AdapterName;
use protocol::api::{
    AdapterInfo, AdapterUploaded, AliasInfo, AliasRequest, Deleted, GenerationInfo,
};
use reqwest::Method;
use reqwest::multipart::{Form, Part};

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
    /// Show an adapter with its generations and aliases.
    Show(Named),
    /// Point a name at one of an adapter's generations.
    Alias(Alias),
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
    /// The adapter's name.
    name: AdapterName,
    #[command(flatten)]
    server: Server,
}

/// What `alias` needs.
#[derive(Debug, Args)]
pub struct Alias {
    /// The adapter.
    adapter: AdapterName,
    /// The name that shall point to it.
    name: AdapterName,
    /// The generation; the one that the adapter's own name leads to if not said.
    #[arg(long)]
    generation: Option<String>,
    /// Where the name points now; without it the name is looked up first.
    #[arg(long)]
    expected: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Does it.
pub async fn run(action: Action, output: Output) -> Result<(), Failure> {
    match action {
        Action::Add(add) => upload(add, output).await,
        Action::List(server) => {
            let adapters: Vec<AdapterInfo> = Api::new(&server)?.list(&["v1", "adapters"]).await?;
            let head = ["NAME", "GENERATION", "OWNER", "SHARED", "PINNED"];
            output.list(
                &adapters,
                &head,
                row,
                "no adapters yet: add one with `firmament adapter add`",
            );
            Ok(())
        }
        Action::Show(named) => {
            let info = show(&Api::new(&named.server)?, &named.name).await?;
            output.show(&info, || describe(&info));
            Ok(())
        }
        Action::Alias(alias) => point(alias, output).await,
        Action::Pin(named) => pin(named, Method::PUT, output).await,
        Action::Unpin(named) => pin(named, Method::DELETE, output).await,
        Action::Rm(named) => {
            let api = Api::new(&named.server)?;
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

async fn show(api: &Api, name: &AdapterName) -> Result<AdapterInfo, Failure> {
    api.answer(api.request(Method::GET, &["v1", "adapters", name.as_str()])).await
}

async fn point(alias: Alias, output: Output) -> Result<(), Failure> {
    let api = Api::new(&alias.server)?;
    let info = show(&api, &alias.adapter).await?;
    let generation = alias.generation.or_else(|| info.generation.clone());
    let generation = generation.ok_or_else(|| {
        Failure::not_found("a serving generation of the adapter", "name one with --generation")
    })?;
    let now = info.aliases.iter().find(|known| known.name == alias.name.as_str());
    let expected = alias.expected.or_else(|| now.map(|known| known.generation.clone()));
    let segments = ["v1", "adapters", alias.adapter.as_str(), "aliases", alias.name.as_str()];
    let body = AliasRequest { generation, expected };
    let moved: AliasInfo = api.answer(api.request(Method::PUT, &segments).json(&body)).await?;
    output.show(&moved, || {
        format!("{} points to generation {}", moved.name, short(&moved.generation))
    });
    Ok(())
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
    let (shared, pinned) = (yes(adapter.shared), yes(adapter.pinned));
    vec![adapter.id.clone(), generation.to_owned(), adapter.owned_by.clone(), shared, pinned]
}

fn describe(adapter: &AdapterInfo) -> String {
    let serving = adapter.generation.as_deref().map_or("no generation", short);
    let generations = table(
        &["GENERATION", "STATE", "FIRMWARE", "SIZE", "WHY"],
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
        generation.failure.clone().unwrap_or_default(),
    ]
}

/// The first digits of a digest, for people.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
