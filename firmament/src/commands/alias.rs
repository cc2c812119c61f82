//! `firmament adapter alias` and `unalias`: names that point to an adapter's generations.

use anyhow::anyhow;
use clap::Args;
use protocol::AdapterName;
use protocol::api::{AdapterInfo, AliasInfo, AliasRequest, Deleted};
use reqwest::Method;

use super::adapter::{short, show};
use super::api::Api;
use crate::cli::Server;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// What `alias` needs.
#[derive(Debug, Args)]
pub struct Point {
    /// The adapter.
    adapter: AdapterName,
    /// The name that shall point to it.
    name: AdapterName,
    /// The generation, or its first digits; the one that the adapter's own name leads to if not said.
    #[arg(long)]
    generation: Option<String>,
    /// Where the name points now, or the first digits of it; without it the name is looked up first.
    #[arg(long)]
    expected: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// What `unalias` needs.
#[derive(Debug, Args)]
pub struct Remove {
    /// The name.
    name: AdapterName,
    #[command(flatten)]
    server: Server,
}

/// Points a name at a generation.
pub async fn point(point: Point, output: Output) -> Result<(), Failure> {
    let api = Api::new(&point.server)?;
    let info = show(&api, point.adapter.as_str()).await?;
    let generation = match &point.generation {
        Some(digits) => whole(&info, digits)?,
        None => info.generation.clone().ok_or_else(|| {
            let what = "a serving generation of the adapter";
            Failure::not_found(what, "name one with --generation")
        })?,
    };
    let now = find(&api, &point.name).await?.map(|alias| alias.generation);
    if let Some(digits) = &point.expected
        && !now.as_ref().is_some_and(|now| now.starts_with(digits.as_str()))
    {
        let place = now.as_deref().map_or("nothing", short);
        let what = anyhow!("`{}` points to {place} and not to {digits}", point.name);
        return Err(Failure::new(what, "see `firmament adapter list`"));
    }
    let segments = ["v1", "adapters", point.adapter.as_str(), "aliases", point.name.as_str()];
    let body = AliasRequest { generation, expected: now };
    let moved: AliasInfo = api.answer(api.request(Method::PUT, &segments).json(&body)).await?;
    output.show(&moved, || {
        format!("{} points to generation {}", moved.name, short(&moved.generation))
    });
    Ok(())
}

/// Takes a name away.
pub async fn remove(remove: Remove, output: Output) -> Result<(), Failure> {
    let api = Api::new(&remove.server)?;
    let alias = find(&api, &remove.name).await?.ok_or_else(|| {
        let what = format!("the alias `{}`", remove.name);
        Failure::not_found(what, "see `firmament adapter list`")
    })?;
    let segments = ["v1", "adapters", &alias.adapter, "aliases", &alias.name];
    let expected = [("expected", alias.generation.as_str())];
    let request = api.request_with(Method::DELETE, &segments, &expected)?;
    let deleted: Deleted = api.answer(request).await?;
    output.show(&deleted, || format!("{} points to nothing any more", deleted.id));
    Ok(())
}

/// Where one of the caller's names points, whichever adapter that is.
pub async fn find(api: &Api, name: &AdapterName) -> Result<Option<AliasInfo>, Failure> {
    let adapters: Vec<AdapterInfo> = api.list(&["v1", "adapters"]).await?;
    let mut aliases = adapters.into_iter().flat_map(|adapter| adapter.aliases);
    Ok(aliases.find(|alias| alias.name == name.as_str()))
}

/// Fails if `name` is only an alias: what deletes adapters shall not take it for one.
pub async fn refuse(api: &Api, name: &AdapterName) -> Result<(), Failure> {
    match find(api, name).await? {
        Some(alias) if alias.adapter != alias.name => {
            let what = anyhow!("`{name}` is an alias of the adapter `{}`", alias.adapter);
            let advice = format!("take it away with `firmament adapter unalias {name}`");
            Err(Failure::with(Exit::NotFound, what, advice))
        }
        _ => Ok(()),
    }
}

/// The generation whose id begins with `digits`.
fn whole(adapter: &AdapterInfo, digits: &str) -> Result<String, Failure> {
    let ids = adapter.generations.iter().map(|generation| &generation.id);
    let found: Vec<&String> = ids.filter(|id| id.starts_with(digits)).collect();
    let advice = format!("see `firmament adapter show {}`", adapter.id);
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Failure::not_found(format!("the generation `{digits}`"), advice)),
        _ => Err(Failure::with(
            Exit::Usage,
            anyhow!("`{digits}` is the beginning of {} generations", found.len()),
            advice,
        )),
    }
}
