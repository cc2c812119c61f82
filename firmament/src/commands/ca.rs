//! `firmament ca`: the authority of a cluster, and the certificates that it issues for gateways.
//! Owns: its files. Never: where they go.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use protocol::Digest;
use serde_json::json;
use tls::{Authorities, Authority, CERTIFICATE_LIFE};

use crate::data::create_private;
use crate::failure::{Exit, Failure};
use crate::output::{Output, note};

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const DAY: Duration = Duration::from_hours(24);

/// What to do with the authority.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make an authority, which is good for ten years. Its key signs gateways' certificates and need not be
    /// on a gateway; whoever has it can pass for one.
    Init(Directory),
    /// Issue a certificate for a gateway, again whenever one is about to end: a gateway takes what its files
    /// hold within a minute.
    Issue(Issue),
    /// Show the authority's fingerprint, with which join tokens end.
    Show(Directory),
}

/// Where the authority is.
#[derive(Debug, Args)]
pub struct Directory {
    /// Directory of the authority's files, `ca.crt` and `ca.key`.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// For whom.
#[derive(Debug, Args)]
pub struct Issue {
    #[command(flatten)]
    directory: Directory,
    /// The name by which the gateway is reached; the files are called by it, `NAME.crt` and `NAME.key`.
    #[arg(long)]
    name: String,
    /// Another name or IP address by which it is reached; may be given more than once.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    san: Vec<String>,
    /// How long the certificate is good. There is no list of revoked ones, so a stolen key is of use for as
    /// long.
    #[arg(long, value_name = "DAYS", default_value_t = CERTIFICATE_LIFE.as_secs() / DAY.as_secs(), value_parser = clap::value_parser!(u64).range(1..=397))]
    days: u64,
}

/// Does it.
pub fn run(action: &Action, output: Output) -> Result<(), Failure> {
    match action {
        Action::Init(directory) => init(&directory.dir, output)?,
        Action::Issue(issue) => self::issue(issue, output)?,
        // The key may be elsewhere by now.
        Action::Show(Directory { dir }) => {
            show(Authorities::read(&dir.join(CERTIFICATE))?.fingerprint(), output);
        }
    }
    Ok(())
}

fn init(dir: &Path, output: Output) -> Result<(), Failure> {
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    if certificate.exists() || key.exists() {
        let what = anyhow!("there is an authority in `{}` already", dir.display());
        let advice = "take another directory: nodes know the gateways by the old one";
        return Err(Failure::with(Exit::InUse, what, advice));
    }
    let made = Authority::make(SystemTime::now())?;
    create_private(dir).map_err(|error| unwritten(dir, error))?;
    write(&key, &made.key())?;
    write(&certificate, made.certificate())?;
    note(&format!(
        "keep `{}` away from gateways; they need `{}` alone, as --cluster-ca",
        key.display(),
        certificate.display()
    ));
    show(made.fingerprint(), output);
    Ok(())
}

fn issue(issue: &Issue, output: Output) -> Result<(), Failure> {
    let dir = &issue.directory.dir;
    let hosts = [std::slice::from_ref(&issue.name), &issue.san].concat();
    let life = DAY * u32::try_from(issue.days).expect("`clap` bounds it");
    let authority = Authority::read(&dir.join(CERTIFICATE), &dir.join(KEY))?;
    let issued = authority.issue(&hosts, life, SystemTime::now())?;
    let file = |end| dir.join(format!("{}.{end}", issue.name));
    let (certificate, key) = (file("crt"), file("key"));
    write(&key, &issued.key)?;
    write(&certificate, &issued.chain)?;
    let shown = json!({ "certificate": certificate, "key": key, "days": issue.days });
    output.show(&shown, || {
        format!(
            "issued `{}` and `{}`, for {} days",
            certificate.display(),
            key.display(),
            issue.days
        )
    });
    Ok(())
}

fn show(fingerprint: Digest, output: Output) {
    output.show(&json!({ "fingerprint": fingerprint }), || fingerprint.to_string());
}

/// Writes beside the file and renames, so that who looks sees the old one or the new one, whole; readable
/// for its owner alone.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let staged = PathBuf::from(format!("{}.new", path.display()));
    let written = || -> io::Result<()> {
        match fs::remove_file(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&staged)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&staged, path)
    };
    written().map_err(|error| unwritten(path, error))
}

fn unwritten(path: &Path, error: io::Error) -> Failure {
    let what = anyhow::Error::new(error).context(format!("`{}` cannot be written", path.display()));
    Failure::new(what, "choose another directory with --dir")
}
