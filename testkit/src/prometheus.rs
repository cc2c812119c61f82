//! A real Prometheus for tests: Debian's, on a free port of this machine, with the rules of `dashboards/`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::eventually;
use crate::redis::free_port;

/// Runs the server as its child until standard input closes, which it does however the test ends.
const GUARD: &str = r#"trap '' INT TERM HUP
folder=$1; shift
prometheus "$@" >"$folder/log" 2>&1 <&- & server=$!
echo $server
read -r _
kill -KILL $server; wait $server"#;

/// A Prometheus of its own; dropped, it is gone.
pub struct Prometheus {
    folder: TempDir,
    guard: Child,
    base: String,
    http: reqwest::Client,
}

/// One series at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its labels.
    pub labels: Value,
    /// Its value.
    pub value: f64,
}

impl Prometheus {
    /// Starts one that scrapes and evaluates every second: `scrapes` are the `scrape_configs` of its
    /// configuration, as YAML. It returns once it answers.
    ///
    /// # Panics
    /// Prometheus is not installed, or does not like the configuration or a rule.
    pub async fn start(scrapes: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        let rules = dashboards().join("rules");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n  - {}/*.yml\n{scrapes}",
            rules.display()
        );
        std::fs::write(&config, text).expect("written");
        promtool(&["check", "config", &config.display().to_string()]);
        let base = format!("http://127.0.0.1:{}", free_port());
        let place = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh", &folder.path().display().to_string()]);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", place("data")));
        command.arg(format!("--web.listen-address={}", base.trim_start_matches("http://")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = command.spawn().expect("a shell");
        let output = guard.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut String::new()).expect("the guard names the server");
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let started = Self { folder, guard, base, http: http.expect("a client without TLS") };
        eventually("Prometheus answers", async || {
            let asked = started.http.get(format!("{}/-/ready", started.base)).send().await;
            let ready = asked.is_ok_and(|answer| answer.status().is_success());
            let log = std::fs::read_to_string(started.folder.path().join("log"));
            let log = log.unwrap_or_default();
            assert!(ready || !log.contains("level=error"), "Prometheus does not start: {log}");
            ready
        })
        .await;
        started
    }

    /// The answer to an expression now.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let asked = self.http.post(format!("{}/api/v1/query", self.base));
        let body = format!("query={}", encoded(expression));
        let form = "application/x-www-form-urlencoded";
        let answer: Value = read(asked.header("content-type", form).body(body)).await;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let sample = |one: &Value| Sample {
            labels: one["metric"].clone(),
            value: one["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN),
        };
        let result = &answer["data"]["result"];
        if answer["data"]["resultType"] == "scalar" {
            let value = result[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
            return Ok(vec![Sample { labels: Value::Null, value }]);
        }
        Ok(result.as_array().map(|all| all.iter().map(sample).collect()).unwrap_or_default())
    }

    /// The values of a label, of the series that `selector` picks.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn label_values(&self, label: &str, selector: &str) -> Vec<String> {
        let path = format!("/api/v1/label/{label}/values?match[]={}", encoded(selector));
        let answer = self.get(&path).await;
        let values = answer["data"].as_array().cloned().unwrap_or_default();
        values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    /// All rules, with their health.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules").await;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        rules.flatten().cloned().collect()
    }

    async fn get(&self, path: &str) -> Value {
        read(self.http.get(format!("{}{path}", self.base))).await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

async fn read(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.expect("Prometheus answers");
    let bytes = answer.bytes().await.expect("whole");
    serde_json::from_slice(&bytes).expect("with JSON")
}

/// Percent-encodes everything but letters and digits.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The repository's `dashboards`.
pub fn dashboards() -> PathBuf {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the repository");
    root.join("dashboards")
}

/// Runs Prometheus's own checker.
///
/// # Panics
/// It finds a fault, or is not installed.
pub fn promtool(arguments: &[&str]) {
    let checked = Command::new("promtool").args(arguments).output();
    let checked = checked.expect("promtool is missing: apt-get install prometheus");
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}
