//! A real Postgres for tests: Debian's, in a folder of its own, on a Unix socket only.
//!
//! A shell keeps the server: it makes the folder, starts the server, waits until this process closes its
//! pipe, and stops and deletes everything. The system closes the pipe even if a test panics or is killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use store::{PostgresRegistry, PostgresUrl, Registry as _};
use tokio::sync::OnceCell;

/// `$1` is the folder of Postgres's programs, `$2` more options of the server. Nothing is synced: a crash of the machine ends the test too.
const KEEPER: &str = r#"
set -e
folder=$(mktemp -d "${TMPDIR:-/tmp}/firmament-postgres.XXXXXX")
trap '"$1/pg_ctl" -D "$folder/data" -m immediate -s stop || true; rm -rf "$folder"' EXIT
failed() { cat "$folder/log" >&2; exit 1; }
"$1/initdb" -D "$folder/data" -U firmament -A trust -E UTF8 --locale=C --no-sync >"$folder/log" 2>&1 || failed
printf 'local all guarded scram-sha-256\nlocal all all trust\nhostssl all all 127.0.0.1/32 trust\n' >"$folder/data/pg_hba.conf"
if [ -n "${TLS_KEY:-}" ]; then
    umask 077
    printf %s "$TLS_CERTIFICATE" >"$folder/data/server.crt"
    printf %s "$TLS_KEY" >"$folder/data/server.key"
fi
options="-c fsync=off -c listen_addresses= -c max_connections=200 -c shared_buffers=32MB -k $folder $2"
"$1/pg_ctl" -D "$folder/data" -l "$folder/log" -o "$options" -s -w start || failed
echo "$folder"
read -r _ || true
"#;

const TEMPLATE: &str = "registry";
/// Of the socket's name.
const PORT: u16 = 5432;

/// A running server. It ends with this value or this process, whichever is first.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    keeper: Child,
    port: u16,
    databases: AtomicU32,
    template: OnceCell<()>,
}

/// A database of a test's own.
pub struct Database<'a> {
    server: &'a Postgres,
    /// Its name.
    pub name: String,
    /// Where it is, with the user who owns it.
    pub url: String,
}

impl Database<'_> {
    /// The URL as the registry takes it.
    ///
    /// # Panics
    /// Never: it is one.
    pub fn registry(&self) -> PostgresUrl {
        self.url.parse().expect("it is a URL")
    }

    /// Runs statements in it, and returns the rows of the last one that has any.
    ///
    /// # Panics
    /// A statement fails.
    pub fn sql(&self, statements: &str) -> String {
        self.server.sql(&self.name, statements)
    }
}

impl Postgres {
    /// The server that all tests of this process share; each takes a database of its own.
    ///
    /// # Panics
    /// As [`Postgres::start`] does.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server of the caller's own, to be stopped and hurt.
    ///
    /// # Panics
    /// PostgreSQL is not installed or does not start; the message says what to do.
    pub fn start() -> Self {
        Self::start_with(PORT, "", &[])
    }

    /// The same, on a port of this machine too, which speaks nothing but TLS with this certificate and key.
    ///
    /// # Panics
    /// As [`Postgres::start`] does.
    pub fn start_with_tls(certificate_and_key: &[PathBuf; 2]) -> Self {
        let files = certificate_and_key.each_ref().map(std::fs::read_to_string);
        let [certificate, key] = files.map(|text| text.expect("it is there"));
        let port = crate::redis::free_port();
        let options = format!("-c ssl=on -c listen_addresses=127.0.0.1 -c port={port}");
        Self::start_with(port, &options, &[("TLS_CERTIFICATE", certificate), ("TLS_KEY", key)])
    }

    fn start_with(port: u16, options: &str, environment: &[(&str, String)]) -> Self {
        let programs = programs().expect("PostgreSQL is missing: apt-get install postgresql");
        let mut keeper = as_owner("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&programs).arg(options);
        keeper.envs(environment.iter().map(|(name, value)| (name, value)));
        std::os::unix::process::CommandExt::process_group(&mut keeper, 0); // Ctrl-C is for the test
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = keeper.spawn().expect("a shell starts");
        let mut line = String::new();
        let said = keeper.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut line).expect("it writes text");
        if line.is_empty() {
            let mut errors = String::new();
            let said = keeper.stderr.take().expect("it is piped");
            BufReader::new(said).read_to_string(&mut errors).expect("it writes text");
            panic!("PostgreSQL in {} does not start: {errors}", programs.display());
        }
        let folder = PathBuf::from(line.trim_end());
        let (databases, template) = (AtomicU32::new(0), OnceCell::new());
        Self { programs, folder, keeper, port, databases, template }
    }

    /// A new database with this release's schema.
    ///
    /// # Panics
    /// The schema or the database cannot be made.
    pub async fn database(&self) -> Database<'_> {
        self.template.get_or_init(|| self.make_template()).await;
        self.new_database(&format!("template {TEMPLATE}"))
    }

    /// A new database with nothing in it.
    ///
    /// # Panics
    /// The database cannot be made.
    pub fn empty_database(&self) -> Database<'_> {
        self.new_database("")
    }

    /// The database as it is reached by the host's name, with more parameters of the URL.
    pub fn url_by_host(&self, database: &Database<'_>, parameters: &str) -> String {
        format!("postgres://firmament@127.0.0.1:{}/{}?{parameters}", self.port, database.name)
    }

    /// Ends the server at once, as a crash does: connections break, nothing is finished.
    ///
    /// # Panics
    /// It does not end.
    pub fn crash(&self) {
        self.control(&["-m", "immediate", "stop"]);
    }

    /// Starts the server again; it recovers what was committed.
    ///
    /// # Panics
    /// It does not start.
    pub fn recover(&self) {
        let options = format!("-c fsync=off -c listen_addresses= -k {}", self.folder.display());
        let log = self.folder.join("log").display().to_string();
        self.control(&["-l", &log, "-o", &options, "-w", "start"]);
    }

    /// The folder of the server's socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    async fn make_template(&self) {
        self.sql("postgres", &format!("create database {TEMPLATE}"));
        let registry = PostgresRegistry::open(&self.named(TEMPLATE).registry()).await;
        registry.expect("an empty database is migrated").close().await;
    }

    fn new_database(&self, like: &str) -> Database<'_> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name} {like}"));
        self.named(&name)
    }

    fn named(&self, name: &str) -> Database<'_> {
        let Self { folder, port, .. } = self;
        let folder = folder.display();
        let url = format!("postgres://firmament@localhost:{port}/{name}?host={folder}");
        Database { server: self, name: name.to_owned(), url }
    }

    fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string()]);
        psql.args(["-U", "firmament", "-d", database, "-XqAt"]);
        let output = psql.args(["-v", "ON_ERROR_STOP=1", "-c", statements]).output();
        let output = output.expect("psql starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    fn control(&self, arguments: &[&str]) {
        let mut control = as_owner(self.programs.join("pg_ctl"));
        // Not piped: the server would hold a pipe open for as long as it lives.
        control.stdout(Stdio::null()).stderr(Stdio::null());
        let data = self.folder.join("data");
        let ended = control.arg("-D").arg(data).arg("-s").args(arguments).status();
        assert!(ended.expect("pg_ctl starts").success(), "pg_ctl {arguments:?}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// On the PATH, or where Debian puts them, the newest first.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    debian.sort_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
        std::cmp::Reverse(version.and_then(|version| version.parse::<u32>().ok()))
    });
    std::env::split_paths(&path).chain(debian).find(|folder| folder.join("initdb").is_file())
}

/// A program run as somebody whom Postgres serves: it refuses root, so then as Debian's user `postgres`.
fn as_owner(program: impl AsRef<Path>) -> Command {
    let me = Command::new("id").arg("-u").output().expect("`id` starts");
    let mut command = if me.stdout == b"0\n" {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.arg(program.as_ref());
        command
    } else {
        Command::new(program.as_ref())
    };
    command.current_dir("/");
    command
}
