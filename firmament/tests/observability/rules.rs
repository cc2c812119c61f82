//! Alerts as files: Prometheus's own checker, and what every alert must bring.

use std::collections::BTreeSet;
use std::fs;

use testkit::{dashboards, promtool};

fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(dashboards().join(folder)).expect("the folder is there").flatten();
    let paths = entries.map(|entry| entry.path());
    let rules = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yml"));
    let mut files: Vec<String> = rules.map(|path| path.display().to_string()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

fn run(command: &[&str], files: &[String]) {
    let files = files.iter().map(String::as_str);
    promtool(&command.iter().copied().chain(files).collect::<Vec<_>>());
}

fn read_all(files: &[String]) -> String {
    files.iter().map(|file| fs::read_to_string(file).expect("readable")).collect()
}

/// The names of all alerts, as they stand in the files.
fn alerts() -> Vec<String> {
    let text = read_all(&files("rules"));
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn prometheus_accepts_every_rule_and_their_unit_tests_pass() {
    run(&["check", "rules"], &files("rules"));
    run(&["test", "rules"], &files("rules/tests"));
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() {
    let tests = read_all(&files("rules/tests"));
    let cases: Vec<&str> = tests.split("alertname: ").skip(1).collect();
    for alert in alerts() {
        let own = cases.iter().filter(|case| case.lines().next() == Some(alert.as_str()));
        let (silent, fires): (Vec<&str>, Vec<&str>) = own.partition(|case| {
            case.lines().nth(1).is_some_and(|line| line.trim() == "exp_alerts: []")
        });
        assert!(
            !silent.is_empty() && !fires.is_empty(),
            "{alert}: {} fire, {} are silent",
            fires.len(),
            silent.len()
        );
    }
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() {
    let runbook = fs::read_to_string(dashboards().join("../docs/runbook.md")).expect("readable");
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    let (sections, alerts): (BTreeSet<String>, BTreeSet<String>) =
        (sections.map(str::to_owned).collect(), alerts().into_iter().collect());
    assert_eq!(sections, alerts);
}
