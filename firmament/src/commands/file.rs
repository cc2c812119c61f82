//! `firmament file`: files that a server keeps for its callers.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use protocol::api::Deleted;
use protocol::openai::{CursorList, FileObject};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use tokio::io::AsyncWriteExt as _;

use super::api::Api;
use crate::cli::Server;
use crate::failure::Failure;
use crate::output::{Output, bytes};

const PAGE: &str = "200";

/// What to do with files.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Upload a file.
    Add(Add),
    /// List the files, newest first.
    List(Server),
    /// Write a file's bytes to standard output, or to a file of this machine.
    Get(Get),
    /// Delete a file.
    Rm(ById),
}

/// What `add` needs.
#[derive(Debug, Args)]
pub struct Add {
    /// The file.
    path: PathBuf,
    /// What it is for.
    #[arg(long, default_value = "batch", value_parser = ["batch", "evaluate", "fine-tune", "user_data"])]
    purpose: String,
    /// The same key with the same file is the same file, for a day.
    #[arg(long)]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// What `get` needs.
#[derive(Debug, Args)]
pub struct Get {
    /// Where to write it; standard output if not said.
    #[arg(long, short)]
    output: Option<PathBuf>,
    #[command(flatten)]
    which: ById,
}

/// Which one.
#[derive(Debug, Args)]
pub struct ById {
    /// Its id.
    id: String,
    #[command(flatten)]
    server: Server,
}

/// Does it.
pub async fn run(action: Action, output: Output) -> Result<(), Failure> {
    match action {
        Action::Add(add) => {
            let api = Api::new(&add.server)?;
            let file = upload(&api, &add.path, &add.purpose, add.idempotency_key).await?;
            output.show(&file, || file.id.clone());
            Ok(())
        }
        Action::List(server) => {
            let files = list(&Api::new(&server)?).await?;
            let none = "no files yet: add one with `firmament file add`";
            output.list(&files, &["ID", "PURPOSE", "SIZE", "NAME"], row, none);
            Ok(())
        }
        Action::Get(get) => download(get).await,
        Action::Rm(which) => {
            let api = Api::new(&which.server)?;
            let request = api.request(Method::DELETE, &["v1", "files", &which.id]);
            let deleted: Deleted = api.answer(request).await?;
            output.show(&deleted, || format!("deleted {}", deleted.id));
            Ok(())
        }
    }
}

/// Uploads a file of this machine.
pub async fn upload(
    api: &Api,
    path: &Path,
    purpose: &str,
    key: Option<String>,
) -> Result<FileObject, Failure> {
    let unread = || format!("`{}` cannot be read", path.display());
    let content = tokio::fs::read(path).await.with_context(unread);
    let content = content.map_err(Failure::usage)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let form = Form::new().text("purpose", purpose.to_owned());
    let form = form.part("file", Part::bytes(content).file_name(name));
    let mut request = api.request(Method::POST, &["v1", "files"]).multipart(form);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    api.answer(request).await
}

async fn list(api: &Api) -> Result<Vec<FileObject>, Failure> {
    let (mut files, mut after) = (Vec::new(), None);
    loop {
        let mut query = vec![("limit", PAGE)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let request = api.request_with(Method::GET, &["v1", "files"], &query)?;
        let page: CursorList<FileObject> = api.answer(request).await?;
        files.extend(page.data);
        if !page.has_more {
            return Ok(files);
        }
        after = page.last_id;
    }
}

async fn download(get: Get) -> Result<(), Failure> {
    let api = Api::new(&get.which.server)?;
    let request = api.request(Method::GET, &["v1", "files", &get.which.id, "content"]);
    let mut response = api.send(request).await?;
    let mut out: Box<dyn tokio::io::AsyncWrite + Unpin + Send> = match &get.output {
        None => Box::new(tokio::io::stdout()),
        Some(path) => {
            let unwritten = || format!("`{}` cannot be written", path.display());
            let file = tokio::fs::File::create(path).await.with_context(unwritten);
            Box::new(file.map_err(Failure::usage)?)
        }
    };
    while let Some(piece) = response.chunk().await.map_err(|error| api.unreachable(error))? {
        out.write_all(&piece).await.map_err(unwritten)?;
    }
    out.flush().await.map_err(unwritten)
}

fn unwritten(error: std::io::Error) -> Failure {
    Failure::new(error, "make room, or choose another place with --output")
}

fn row(file: &FileObject) -> Vec<String> {
    vec![file.id.clone(), file.purpose.clone(), bytes(file.bytes), file.filename.clone()]
}
