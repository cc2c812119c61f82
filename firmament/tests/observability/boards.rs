//! The dashboards as files: what Grafana must be able to read, and what people must be able to.
//! Source: the rules of Grafana's dashboard-linter, as far as they are about one file.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use testkit::dashboards;

/// Panels that these boards may have.
const PANELS: [&str; 5] = ["row", "timeseries", "stat", "gauge", "heatmap"];
/// Grafana's units that they use.
const UNITS: [&str; 5] = ["s", "short", "bytes", "percentunit", "reqps"];
/// Series that carry neither job nor instance: our recorded rules, and Prometheus's own.
const WITHOUT_JOB: [&str; 2] = ["firmament:", "ALERTS{"];

/// A board by its file's name.
pub struct Board {
    pub file: String,
    pub json: Value,
}

impl Board {
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir(dashboards()).expect("the folder is there").flatten();
        let is_json = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_json).collect();
        paths.sort();
        let read = |path: PathBuf| Self {
            file: path.file_name().expect("a file").to_string_lossy().into_owned(),
            json: serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON"),
        };
        paths.into_iter().map(read).collect()
    }

    pub fn panels(&self) -> &[Value] {
        self.json["panels"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Title and expression of each panel's targets.
    pub fn expressions(&self) -> Vec<(String, String)> {
        let targets = |panel: &Value| {
            let title = format!("{}: {}", self.file, text(&panel["title"]));
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets.into_iter().map(move |target| (title.clone(), text(&target["expr"]).to_owned()))
        };
        self.panels().iter().flat_map(targets).collect()
    }
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Runs `check` on each panel that shows something, and fails with all that it found.
fn each_panel(rule: &str, check: impl Fn(&Value) -> bool) {
    let boards = Board::all();
    let shows = |board: &&Board| !board.panels().is_empty();
    assert_eq!(boards.iter().filter(shows).count(), 5, "there are five boards");
    let wrong: Vec<String> = boards
        .iter()
        .flat_map(|board| board.panels().iter().map(move |panel| (board, panel)))
        .filter(|(_, panel)| panel["type"] != "row" && !check(panel))
        .map(|(board, panel)| format!("{}: {}", board.file, panel["title"]))
        .collect();
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn every_board_has_what_grafana_needs_and_a_place_of_its_own() {
    let boards = Board::all();
    let uids: BTreeSet<&str> = boards.iter().map(|board| text(&board.json["uid"])).collect();
    assert_eq!(uids.len(), boards.len(), "uids are unique: {uids:?}");
    for Board { file, json } in &boards {
        assert!(text(&json["uid"]).starts_with("firmament-"), "{file}: a stable uid");
        for key in ["title", "description"] {
            assert!(!text(&json[key]).is_empty(), "{file}: {key}");
        }
        assert_eq!(json["schemaVersion"], 39, "{file}");
        assert!(json.get("id").is_none(), "{file}: an id belongs to one installation");
        let linked = json["links"].as_array().expect("links");
        assert!(linked.iter().any(|link| link["url"] == "${runbook}"), "{file}: runbook");
        let variables = json["templating"]["list"].as_array().expect("variables");
        let names: Vec<&str> = variables.iter().map(|one| text(&one["name"])).collect();
        assert_eq!(names, ["datasource", "job", "instance", "runbook"], "{file}");
        assert_eq!(variables[0]["query"], "prometheus", "{file}");
        for variable in &variables[1..3] {
            assert_eq!(variable["datasource"]["uid"], "${datasource}", "{file}");
            assert_eq!((&variable["multi"], &variable["allValue"]), (&true.into(), &".+".into()));
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_where_to_read_on() {
    each_panel("a title and a description that is a sentence", |panel| {
        !text(&panel["title"]).is_empty() && text(&panel["description"]).ends_with('.')
    });
    each_panel("a unit", |panel| UNITS.contains(&text(&panel["fieldConfig"]["defaults"]["unit"])));
    each_panel("a known type", |panel| PANELS.contains(&text(&panel["type"])));
    each_panel("a link to a section of the runbook that is there", |panel| {
        let runbook =
            fs::read_to_string(dashboards().join("../docs/runbook.md")).expect("it is there");
        let titles: Vec<String> = runbook
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .map(str::to_lowercase)
            .collect();
        let Some(url) = panel["links"][0]["url"].as_str() else { return false };
        let section = url.split_once('#').map(|(_, section)| section.to_owned());
        url.starts_with("${runbook}") && section.is_none_or(|section| titles.contains(&section))
    });
}

#[test]
fn every_panel_asks_the_chosen_source_about_the_chosen_jobs() {
    each_panel("only ${datasource}", |panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let own = targets.iter().all(|target| target["datasource"]["uid"] == "${datasource}");
        own && panel["datasource"]["uid"] == "${datasource}"
    });
    each_panel("expressions, each with its letter", |panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let letters: BTreeSet<&str> = targets.iter().map(|target| text(&target["refId"])).collect();
        !targets.is_empty() && letters.len() == targets.len()
    });
    each_panel("job and instance matchers on every series", |panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.iter().all(|target| {
            let expression = text(&target["expr"]);
            let series = expression.matches("firmament_").count()
                + expression.matches("process_").count()
                + expression.matches("up{").count();
            let chosen = expression.matches(r#"job=~"$job",instance=~"$instance""#).count();
            series == chosen
                && (chosen > 0 || WITHOUT_JOB.iter().any(|one| expression.contains(one)))
        })
    });
    each_panel("rates over $__rate_interval", |panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.iter().all(|target| {
            let expression = text(&target["expr"]);
            let rates = expression.matches("rate(").count();
            rates <= expression.matches("[$__rate_interval]").count()
        })
    });
}

#[test]
fn panels_have_ids_of_their_own_and_lie_side_by_side_in_24_columns() {
    for board in Board::all() {
        let panels = board.panels();
        let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{}: ids are unique", board.file);
        let places: Vec<[u64; 4]> = panels.iter().map(place).collect();
        for (number, [x, y, w, h]) in places.iter().enumerate() {
            let title = &panels[number]["title"];
            assert!(*w > 0 && *h > 0 && x + w <= 24, "{}: {title} sticks out", board.file);
            for (other, [ox, oy, ow, oh]) in places.iter().enumerate().take(number) {
                let apart = x + w <= *ox || ox + ow <= *x || y + h <= *oy || oy + oh <= *y;
                assert!(apart, "{}: {title} lies on {}", board.file, panels[other]["title"]);
            }
        }
    }
}

fn place(panel: &Value) -> [u64; 4] {
    ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap_or(u64::MAX / 4))
}
