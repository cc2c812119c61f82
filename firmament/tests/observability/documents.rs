//! `docs/metrics.md` holds what the servers really show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use testkit::dashboards;

const BEGIN: &str = "<!-- metrics: written by a test, see CONTRIBUTING.md -->\n";
const END: &str = "<!-- end of metrics -->\n";

/// One metric, as several processes show it.
#[derive(Debug, Default)]
pub struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// All metrics of these pages, by name.
pub fn metrics(pages: &[String]) -> BTreeMap<String, Metric> {
    let mut all: BTreeMap<String, Metric> = BTreeMap::new();
    for line in pages.iter().flat_map(|page| page.lines()) {
        if let Some((name, help)) = described(line, "# HELP ") {
            all.entry(name).or_default().help = help;
        } else if let Some((name, kind)) = described(line, "# TYPE ") {
            all.entry(name).or_default().kind = kind;
        } else if let Some((series, labels)) = line.split_once('{') {
            let Some(metric) = base(&all, series) else { continue };
            let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
            let labels = labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le");
            all.entry(metric).or_default().labels.extend(labels);
        }
    }
    all
}

fn described(line: &str, begins: &str) -> Option<(String, String)> {
    let (name, rest) = line.strip_prefix(begins)?.split_once(' ')?;
    Some((name.to_owned(), rest.to_owned()))
}

/// The metric that a series belongs to: a histogram's have suffixes.
pub fn base(all: &BTreeMap<String, Metric>, series: &str) -> Option<String> {
    let stripped = ["_bucket", "_sum", "_count"].iter().filter_map(|end| series.strip_suffix(end));
    let names = std::iter::once(series).chain(stripped);
    names.map(str::to_owned).find(|name| all.contains_key(name))
}

/// Fails unless the document's table is what these metrics are. `UPDATE_METRICS=1` writes it.
pub fn compare(all: &BTreeMap<String, Metric>) {
    let rows = all.iter().map(|(name, Metric { kind, help, labels })| {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
    });
    let head = "\n| name | type | labels | meaning |\n| --- | --- | --- | --- |\n";
    let table = format!("{head}{}\n", rows.collect::<String>());
    let path = dashboards().join("../docs/metrics.md");
    let document = fs::read_to_string(&path).expect("it is there");
    let (before, rest) = document.split_once(BEGIN).expect("it has a place for the table");
    let (written, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os("UPDATE_METRICS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).expect("written");
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (written, real) = (lines(written), lines(&table));
    let missing: Vec<_> = real.difference(&written).collect();
    let gone: Vec<_> = written.difference(&real).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/metrics.md lacks {missing:#?} and has {gone:#?}; UPDATE_METRICS=1 renews it"
    );
}

/// What Prometheus's own checker says of a page.
pub fn check(page: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool: apt-get install prometheus");
    let mut page_in = promtool.stdin.take().expect("it is piped");
    page_in.write_all(page.as_bytes()).expect("it reads");
    drop(page_in);
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}
