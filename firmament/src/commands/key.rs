//! `firmament key`: API keys, through a server or, for the first one, in the registry itself.

use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::api::{Deleted, KeyCreated, KeyInfo, KeyRequest};
use reqwest::Method;

use super::api::Api;
use crate::cli::{Server, duration};
use crate::data::DataDir;
use crate::failure::Failure;
use crate::output::{Output, note};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a key; its secret is shown once.
    Create(Create),
    /// List the keys.
    List(Server),
    /// Take a key back.
    Revoke(Revoke),
}

/// What `create` needs.
#[derive(Debug, Args)]
pub struct Create {
    /// A name for people.
    #[arg(long, default_value = "")]
    name: String,
    /// What it may do: inference, adapters, admin, metrics; several with commas.
    #[arg(long, value_delimiter = ',', default_value = "inference")]
    scopes: Vec<String>,
    /// When it ends by itself, such as `30d`; never if not said.
    #[arg(long, value_parser = duration)]
    expires: Option<Duration>,
    /// Whose key it is; the caller's own if not said.
    #[arg(long)]
    tenant: Option<String>,
    /// Write it into the registry itself, without a server: for the first key.
    #[cfg(feature = "gateway")]
    #[arg(long)]
    offline: bool,
    #[cfg(feature = "gateway")]
    #[command(flatten)]
    registry: crate::roles::record::RegistryArguments,
    #[command(flatten)]
    server: Server,
}

/// What `revoke` needs.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The key's id.
    id: String,
    #[command(flatten)]
    server: Server,
}

/// Does it.
pub async fn run(action: Action, data: &DataDir, output: Output) -> Result<(), Failure> {
    match action {
        Action::Create(create) => {
            let created = make(create, data).await?;
            output.show(&created, || created.secret.clone());
            note("this secret is shown only now");
            Ok(())
        }
        Action::List(server) => {
            let keys: Vec<KeyInfo> = Api::new(&server)?.list(&["v1", "keys"]).await?;
            let head = ["ID", "NAME", "TENANT", "SCOPES", "STATE"];
            output.list(&keys, &head, row, "no keys: callers on this machine need none");
            Ok(())
        }
        Action::Revoke(revoke) => {
            let api = Api::new(&revoke.server)?;
            let request = api.request(Method::DELETE, &["v1", "keys", &revoke.id]);
            let deleted: Deleted = api.answer(request).await?;
            output.show(&deleted, || format!("revoked {}", deleted.id));
            Ok(())
        }
    }
}

async fn make(create: Create, data: &DataDir) -> Result<KeyCreated, Failure> {
    let request = KeyRequest {
        name: create.name,
        scopes: create.scopes,
        expires_in_seconds: create.expires.map(|expires| expires.as_secs()),
        tenant: create.tenant,
    };
    #[cfg(feature = "gateway")]
    if create.offline {
        return crate::roles::record::make_key(data, &create.registry, &request).await;
    }
    let _ = data; // a build without a registry has no other way
    Api::new(&create.server)?.post(&["v1", "keys"], &request).await
}

fn row(key: &KeyInfo) -> Vec<String> {
    let state = if key.revoked.is_some() { "revoked" } else { "valid" };
    vec![
        key.id.clone(),
        key.name.clone(),
        key.tenant.clone(),
        key.scopes.join(","),
        state.to_owned(),
    ]
}
