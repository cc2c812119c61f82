//! Every expression of boards and rules against a real Prometheus that scrapes real processes under
//! load: a misspelt name or label is an empty answer there, and no error.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use testkit::{Client, Postgres, Prometheus, Redis, Sample, eventually};

use crate::boards::{Board, text};
use crate::common::{Role, Up, json, tiny};
use crate::documents::{self, Metric};
use crate::load::Load;

/// The whole run shall fit a test's time: a minute, with what starts and stops around it.
const RATE_INTERVAL: &str = "20s";

fn filled_in(expression: &str) -> String {
    let chosen = expression.replace("$job", ".+").replace("$instance", ".+");
    chosen.replace("$__rate_interval", RATE_INTERVAL)
}

/// Names of our series in an expression, without what recording rules make.
fn names(expression: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b(?:firmament|process)_[a-z0-9_]+").expect("it is one");
    name.find_iter(expression).map(|found| found.as_str().to_owned()).collect()
}

fn scrapes(url: &str) -> String {
    let address = url.trim_start_matches("http://");
    format!(
        r#"scrape_configs:
  - job_name: firmament
    static_configs:
      - targets: ["{address}"]
  - job_name: firmament-nodes
    http_sd_configs:
      - url: {url}/v1/nodes/targets
        refresh_interval: 1s
    relabel_configs:
      - source_labels: [__meta_firmament_kind]
        target_label: kind
"#
    )
}

/// A worker that is there for a moment, with a listener that the gateway is told of.
async fn a_worker_comes_and_goes(prometheus: &Prometheus, url: &str, data: &std::path::Path) {
    let made = json(data, &["node", "invite", "--kind", "worker", "--url", url]);
    let token = text(&made["secret"]).to_owned();
    let folder = tiny();
    let arguments = ["worker", "--gateway", url, "--join-token", &token, "--threads", "1"];
    let arguments = [&arguments[..], &["--metrics-listen", "127.0.0.1:0"]].concat();
    let worker = Role::start(folder.path(), &arguments, "linked ");
    let scraped = r#"firmament_node_linked{job="firmament-nodes",kind="worker"} == 1"#;
    eventually("the worker is scraped", async || !ask(prometheus, scraped).await.is_empty()).await;
    assert!(worker.stop().success());
}

async fn ask(prometheus: &Prometheus, expression: &str) -> Vec<Sample> {
    let answer = prometheus.query(expression).await;
    answer.unwrap_or_else(|error| panic!("{expression}: {error}"))
}

async fn has_data(prometheus: &Prometheus, expression: &str) -> bool {
    ask(prometheus, expression).await.iter().any(|sample| sample.value.is_finite())
}

/// Waits until each expression has answered with a finite number once.
async fn all_have_data(prometheus: &Prometheus, expressions: Vec<(String, String)>) {
    let mut missing = expressions;
    eventually("every expression has data", async || {
        let mut still = Vec::new();
        for (title, expression) in std::mem::take(&mut missing) {
            if !has_data(prometheus, &expression).await {
                still.push((title, expression));
            }
        }
        missing = still;
        println!("{} expressions have no data yet: {missing:#?}", missing.len());
        missing.is_empty()
    })
    .await;
}

async fn check_rules(prometheus: &Prometheus) -> Vec<(String, String)> {
    let rules = prometheus.rules().await;
    let mut recorded = Vec::new();
    for rule in &rules {
        let (name, expression) = (text(&rule["name"]), text(&rule["query"]));
        assert_eq!(rule["health"], "ok", "{name}: {rule}");
        assert!(prometheus.query(expression).await.is_ok(), "{name}");
        if rule["type"] == "recording" {
            recorded.push((name.to_owned(), name.to_owned()));
            continue;
        }
        assert!(rule["duration"].as_f64() > Some(0.0), "{name} waits before it fires");
        assert!(["page", "ticket"].contains(&text(&rule["labels"]["severity"])), "{name}");
        for annotation in ["summary", "description", "runbook_url"] {
            assert!(!text(&rule["annotations"][annotation]).is_empty(), "{name}: {annotation}");
        }
    }
    assert!(recorded.len() >= 40 && rules.len() - recorded.len() >= 30, "{} rules", rules.len());
    recorded
}

/// What is asked for exists.
async fn check_names(prometheus: &Prometheus, all: &BTreeMap<String, Metric>) {
    let rules = prometheus.rules().await;
    let of_rules = rules.iter().map(|rule| text(&rule["query"]).to_owned());
    let of_boards = Board::all().into_iter().flat_map(|board| board.expressions());
    let used = of_rules.chain(of_boards.map(|(_, expression)| expression));
    let used: BTreeSet<String> = used.flat_map(|expression| names(&expression)).collect();
    let exists = |name: &&String| documents::base(all, name).is_some();
    let unknown: Vec<_> = used.iter().filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "nobody shows these: {unknown:?}");
}

async fn page(url: &str) -> String {
    Client::new(url).get("/metrics").await.text().await.expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_panel_and_every_rule_has_data_from_running_servers() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (data, database, redis) = (tiny(), Postgres::shared().database().await, Redis::start());
    let stores = ["--registry", &database.url, "--live", &redis.url(), "--threads", "1"];
    let up = Up::start(data.path(), &stores);
    let prometheus = Prometheus::start(&scrapes(&up.url)).await;
    let load = Load::start(&up.url, data.path());
    a_worker_comes_and_goes(&prometheus, &up.url, data.path()).await;

    let panels = Board::all().into_iter().flat_map(|board| board.expressions());
    let panels: Vec<(String, String)> =
        panels.map(|(title, expression)| (title, filled_in(&expression))).collect();
    assert!(panels.len() > 100, "{} expressions", panels.len());
    for (title, expression) in &panels {
        let answer = prometheus.query(expression).await;
        assert!(answer.is_ok(), "{title}: {expression}: {answer:?}");
    }
    let recorded = check_rules(&prometheus).await;
    all_have_data(&prometheus, panels.into_iter().chain(recorded).collect()).await;
    for label in ["job", "instance"] {
        let values = prometheus.label_values(label, "firmament_build_info").await;
        assert!(!values.is_empty(), "the variable `{label}` has values");
    }
    load.stop().await;

    let page = page(&up.url).await;
    documents::check(&page);
    let all = documents::metrics(&[page]);
    check_names(&prometheus, &all).await;
    documents::compare(&all);
    assert!(up.stop().success());
}
