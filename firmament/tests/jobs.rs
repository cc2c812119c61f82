//! Durable jobs as processes: what is accepted survives `kill -9`, and each line is answered once.
#![cfg(unix)]

mod common;

use std::path::Path;

use common::{Up, done, json, refused, tiny, until};
use serde_json::Value;
use testkit::Postgres;

const STEPS: u64 = 60;
const KILLS: u64 = 4;

/// A batch's input: short completions, so that a step takes a moment.
fn input(folder: &Path) -> String {
    let line = |number: u64| {
        let body = serde_json::json!({"model": "default", "prompt": "hello", "max_tokens": 16});
        let id = format!("line-{number}");
        let line = serde_json::json!({
            "custom_id": id, "method": "POST", "url": "/v1/completions", "body": body
        });
        format!("{line}\n")
    };
    let path = folder.join("input.jsonl");
    let content: String = (0..STEPS).map(line).collect();
    std::fs::write(&path, content).expect("written");
    path.display().to_string()
}

fn answered(data: &Path, url: &str, job: &str) -> u64 {
    let shown = json(data, &["job", "show", job, "--url", url]);
    shown["progress"]["done"].as_u64().unwrap_or(0)
}

#[test]
fn a_job_whose_gateway_is_killed_again_and_again_does_each_step_once() {
    let database = Postgres::shared().empty_database();
    let data = tiny();
    let registry = ["--registry", database.url.as_str(), "--jobs-running-max", "1"];
    let mut up = Up::start(data.path(), &registry);
    let input = input(data.path());
    let submit = ["job", "submit", "bulk", &input, "--lines-per-step", "1", "--at-once", "1"];
    let job = done(data.path(), &[&submit[..], &["--url", &up.url]].concat()).trim().to_owned();
    for kill in 1..=KILLS {
        let enough = STEPS * kill / (KILLS + 2);
        until("the job gets on", || answered(data.path(), &up.url, &job) >= enough);
        drop(up); // this is kill -9
        let state = database.sql(&format!("select state from job where id = '{job}'"));
        assert_eq!(state, "running", "it was killed in the middle");
        up = Up::start(data.path(), &registry);
    }
    until("the job is over", || {
        json(data.path(), &["job", "show", &job, "--url", &up.url])["state"] == "succeeded"
    });
    let shown = json(data.path(), &["job", "show", &job, "--url", &up.url]);
    assert_eq!(shown["result"]["completed"], STEPS);
    let effects = "select count(*), count(distinct step) from job_effect";
    assert_eq!(database.sql(effects), format!("{STEPS}|{STEPS}"));
    // A claim for the start and for each kill, and one reap between two of them.
    let epoch = database.sql(&format!("select lease_epoch from job where id = '{job}'"));
    assert_eq!(epoch, (2 * KILLS + 1).to_string());
    let output = shown["result"]["output_file_id"].as_str().expect("a file");
    let content = done(data.path(), &["file", "get", output, "--url", &up.url]);
    let ids: Vec<String> = content
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["custom_id"].clone())
        .map(|id| id.as_str().expect("text").to_owned())
        .collect();
    let expected: Vec<String> = (0..STEPS).map(|number| format!("line-{number}")).collect();
    assert_eq!(ids, expected, "each line once, in its order");
    assert!(up.stop().success());
}

#[test]
fn a_gateway_that_is_asked_to_end_gives_its_job_back_at_once() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let input = input(data.path());
    let submit = ["job", "submit", "bulk", &input, "--lines-per-step", "1", "--at-once", "1"];
    let job = done(data.path(), &[&submit[..], &["--url", &up.url]].concat()).trim().to_owned();
    until("the job gets on", || answered(data.path(), &up.url, &job) >= 2);
    assert!(up.stop().success());
    let up = Up::start(data.path(), &[]);
    // Had it kept its lease, nobody could begin it for half a minute.
    until("the job is over", || {
        json(data.path(), &["job", "show", &job, "--url", &up.url])["state"] == "succeeded"
    });
    let events = done(data.path(), &["job", "events", &job, "--url", &up.url]);
    assert!(events.contains("released") && !events.contains("retrying"), "{events}");
    assert!(up.stop().success());
}

#[test]
fn every_command_about_jobs_and_files_does_what_it_says() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let input = input(data.path());
    let on = ["--url", up.url.as_str()];
    let run = |arguments: &[&str]| json(data.path(), &[arguments, &on].concat());
    let file = run(&["file", "add", &input, "--idempotency-key", "once"]);
    let id = file["id"].as_str().expect("an id");
    assert_eq!(run(&["file", "add", &input, "--idempotency-key", "once"]), file);
    assert_eq!(run(&["file", "list"])["data"].as_array().map(Vec::len), Some(1));
    let copy = data.path().join("copy").display().to_string();
    done(data.path(), &[&["file", "get", id, "--output", &copy], &on[..]].concat());
    assert_eq!(std::fs::read(&copy).expect("written"), std::fs::read(&input).expect("there"));

    let submit = ["job", "submit", "bulk", id, "--idempotency-key", "k"];
    let job = run(&submit);
    assert_eq!(run(&submit)["id"], job["id"]);
    let job = job["id"].as_str().expect("an id");
    let events = done(data.path(), &[&["job", "events", job], &on[..]].concat());
    assert!(events.starts_with("1 queued") && events.contains("succeeded"), "{events}");
    assert_eq!(run(&["job", "list"])["data"][0]["id"], job);
    refused(data.path(), &[&["job", "retry", job], &on[..]].concat(), 1);
    assert_eq!(run(&["job", "cancel", job])["state"], "succeeded", "it was over");
    refused(data.path(), &[&["job", "show", "job-x"], &on[..]].concat(), 3);

    done(data.path(), &[&["file", "rm", id], &on[..]].concat());
    refused(data.path(), &[&["file", "get", id], &on[..]].concat(), 3);
    assert!(up.stop().success());
}
