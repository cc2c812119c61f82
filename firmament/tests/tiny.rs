//! The whole of `firmament up` on a tiny firmware: every command against it, and its two ends.

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use common::{Up, done, firmament, json, refused, run, tiny, until};
use serde_json::Value;
use testkit::{tiny_lora, write_lora};

#[test]
fn both_nodes_are_linked_and_health_says_ready() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let nodes = json(data.path(), &["node", "list", "--url", &up.url]);
    let mut kinds: Vec<&str> = nodes["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|n| n["kind"].as_str())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["device", "worker"]);
    assert!(nodes["data"].as_array().expect("a list").iter().all(|node| node["state"] == "alive"));
    let health = json(data.path(), &["health", "--ready", "--url", &up.url]);
    assert_eq!(health["ok"], true);
    let address = up.url.trim_start_matches("http://");
    let doctor = done(data.path(), &["doctor", "--listen", address]);
    assert!(doctor.contains(&format!("a firmament answers on {address}")), "{doctor}");
}

#[test]
fn a_conversation_streams_the_same_text_that_a_whole_answer_has() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let base = format!("{}/v1", up.url); // as OpenAI's clients have it
    let ask = ["chat", "hello", "--temperature", "0", "--max-tokens", "12", "--url", &base];
    let streamed = done(data.path(), &ask);
    let whole = json(data.path(), &ask);
    let text = whole["choices"][0]["message"]["content"].as_str().expect("text");
    assert_eq!(streamed.trim_end(), text.trim_end());
    assert!((1..=12).contains(&whole["usage"]["completion_tokens"].as_u64().expect("a count")));
    let options = &ask[2..];
    assert_eq!(piped(data.path(), &[&["chat"], options].concat(), "hello"), streamed);
    let with_pipe = piped(data.path(), &[&["chat", "say"], options].concat(), "hello");
    assert_eq!(with_pipe, done(data.path(), &[&["chat", "say\n\nhello"], options].concat()));
    assert_ne!(with_pipe, done(data.path(), &[&["chat", "say"], options].concat()));
}

/// Runs a command with `text` in a pipe; its standard output.
fn piped(data: &Path, arguments: &[&str], text: &str) -> String {
    let mut command = firmament(data);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut pipe = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut pipe, text.as_bytes()).expect("written");
    drop(pipe);
    String::from_utf8(child.wait_with_output().expect("ends").stdout).expect("text")
}

#[test]
fn an_adapter_is_added_used_moved_shown_and_removed() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(7)).expect("written");
    let (lora, url) = (folder.path().display().to_string(), up.url.as_str());
    let added = json(data.path(), &["adapter", "add", &lora, "--name", "mood", "--url", url]);
    assert_eq!(added["state"], "serving", "{added}");
    let list = json(data.path(), &["adapter", "list", "--url", url]);
    assert_eq!(list["data"][0]["generation"], added["id"]);
    let ask = ["chat", "hello", "--temperature", "0", "--max-tokens", "24", "--url", url];
    let base = done(data.path(), &ask);
    let adapted = done(data.path(), &[&ask[..], &["--adapter", "mood"]].concat());
    assert_ne!(base, adapted);
    done(data.path(), &["adapter", "alias", "mood", "tone", "--url", url]);
    let by_alias = done(data.path(), &[&ask[..], &["--model", "tone"]].concat());
    assert_eq!(by_alias, adapted);
    let shown = json(data.path(), &["adapter", "show", "tone", "--url", url]);
    assert_eq!(shown["generations"][0]["id"], added["id"]);
    let people = done(data.path(), &["adapter", "show", "mood", "--url", url]);
    assert!(people.contains("changes the probe's logits by"), "{people}");
    let errors = refused(data.path(), &["adapter", "rm", "tone", "--url", url], 3);
    assert!(errors.contains("firmament adapter unalias tone"), "{errors}");
    done(data.path(), &["adapter", "unalias", "tone", "--url", url]);
    refused(data.path(), &[&ask[..], &["--model", "tone"]].concat(), 3);
    done(data.path(), &["adapter", "rm", "mood", "--url", url]);
    refused(data.path(), &[&ask[..], &["--adapter", "mood"]].concat(), 3);
}

#[test]
fn a_pin_outlives_a_restart_and_loads_the_adapter_before_anybody_asks() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(7)).expect("written");
    let (lora, url) = (folder.path().display().to_string(), up.url.as_str());
    done(data.path(), &["adapter", "add", &lora, "--name", "mood", "--url", url]);
    let pinned = json(data.path(), &["adapter", "pin", "mood", "--url", url]);
    assert_eq!(pinned["pinned"], true);
    assert!(done(data.path(), &["adapter", "show", "mood", "--url", url]).contains(", pinned"));
    assert!(up.stop().success());

    let up = Up::start(data.path(), &[]);
    let url = up.url.as_str();
    let resident = || json(data.path(), &["node", "list", "--url", url])["data"][0].to_string();
    let generation = pinned["generation"].as_str().expect("an id");
    until("it is resident", || resident().contains(generation));
    let unpinned = json(data.path(), &["adapter", "unpin", "mood", "--url", url]);
    assert_eq!(unpinned["pinned"], false);
}

#[test]
fn an_adapter_that_does_nothing_is_refused_by_name() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    // The second changes logits, by what it makes other numbers round to.
    for b_size in [0.0, 1e-9] {
        let nothing = testkit::LoraSpec { b_size, ..tiny_lora(7) };
        write_lora(folder.path(), &nothing).expect("written");
        let lora = folder.path().display().to_string();
        let errors =
            refused(data.path(), &["adapter", "add", &lora, "--name", "x", "--url", &up.url], 1);
        assert!(errors.contains("adapter_no_effect"), "{errors}");
    }
    let list = json(data.path(), &["adapter", "list", "--url", &up.url]);
    let (state, why) = (&list["data"][0]["state"], &list["data"][0]["failure"]);
    assert!(state == "failed" && why.as_str().is_some_and(|why| !why.is_empty()), "{list}");
}

#[test]
fn a_name_moves_between_adapters_and_the_first_digits_of_a_generation_are_enough() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let url = up.url.as_str();
    let mut ids = Vec::new();
    for (name, seed) in [("first", 7), ("second", 8)] {
        let folder = tempfile::tempdir().expect("a folder");
        write_lora(folder.path(), &tiny_lora(seed)).expect("written");
        let lora = folder.path().display().to_string();
        let added = json(data.path(), &["adapter", "add", &lora, "--name", name, "--url", url]);
        ids.push(added["id"].as_str().expect("an id")[..12].to_owned());
    }
    done(data.path(), &["adapter", "alias", "first", "best", "--url", url]);
    let alias = ["adapter", "alias", "second", "best", "--url", url];
    refused(data.path(), &[&alias[..], &["--expected", &ids[1]]].concat(), 1);
    let digits = ["--expected", &ids[0], "--generation", &ids[1]];
    let moved = done(data.path(), &[&alias[..], &digits].concat());
    assert!(moved.contains(&ids[1]), "{moved}");
    let list = done(data.path(), &["adapter", "list", "--url", url]);
    assert!(list.lines().any(|line| line.starts_with("second") && line.contains("best")), "{list}");
}

#[test]
fn a_deleted_adapters_files_leave_the_nodes_disks() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(7)).expect("written");
    let lora = folder.path().display().to_string();
    done(data.path(), &["adapter", "add", &lora, "--name", "mood", "--url", &up.url]);
    let cached = || {
        let kinds = ["device", "worker"].map(|kind| data.path().join(kind).join("adapters"));
        kinds.iter().map(|folder| std::fs::read_dir(folder).expect("it is there").count()).sum()
    };
    let files: usize = cached();
    assert!(files > 0);
    done(data.path(), &["adapter", "rm", "mood", "--url", &up.url]);
    assert!(up.stop().success());
    let up = Up::start(data.path(), &[]);
    until("the files are gone", || {
        done(data.path(), &["health", "--url", &up.url]); // lets the nodes work
        cached() == 0
    });
}

#[test]
fn a_worker_is_invited_joins_and_says_so() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let token = done(data.path(), &["node", "invite", "--url", &up.url]);
    let other = tiny();
    let mut worker = firmament(other.path());
    worker.args(["worker", "--gateway", &up.url, "--join-token", token.trim()]);
    let mut worker = worker.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = String::new();
    let mut out = std::io::BufReader::new(worker.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut out, &mut said).expect("text");
    worker.kill().expect("it runs");
    worker.wait().expect("it ends");
    assert!(said.starts_with(&format!("linked {} as worker ", up.url)), "{said}");
}

#[test]
fn adapters_and_nodes_outlive_a_restart() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    write_lora(folder.path(), &tiny_lora(7)).expect("written");
    let lora = folder.path().display().to_string();
    done(data.path(), &["adapter", "add", &lora, "--name", "mood", "--url", &up.url]);
    let ids = |url: &str| {
        let nodes = json(data.path(), &["node", "list", "--url", url]);
        let nodes = nodes["data"].as_array().expect("a list").clone();
        nodes.iter().map(|node| node["id"].to_string()).collect::<Vec<_>>()
    };
    let before = ids(&up.url);
    assert!(up.stop().success());
    let up = Up::start(data.path(), &[]);
    assert_eq!(ids(&up.url), before, "a node keeps its key");
    let ask = ["chat", "hello", "--adapter", "mood", "--max-tokens", "4", "--url", &up.url];
    done(data.path(), &ask);
}

#[test]
fn keys_are_made_listed_used_and_revoked() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let url = up.url.as_str();
    let create = ["key", "create", "--name", "app", "--scopes", "inference", "--url", url];
    let key = json(data.path(), &create);
    let (id, secret) =
        (key["id"].as_str().expect("an id"), key["secret"].as_str().expect("a secret"));
    let with_key = ["chat", "hello", "--max-tokens", "2", "--url", url, "--api-key", secret];
    done(data.path(), &with_key);
    refused(data.path(), &["node", "list", "--url", url, "--api-key", secret], 5);
    let list = json(data.path(), &["key", "list", "--url", url]);
    assert!(!list.to_string().contains(secret), "a secret is told once");
    done(data.path(), &["key", "revoke", id, "--url", url]);
    refused(data.path(), &with_key, 5);
}

#[test]
fn a_tenant_is_limited_and_what_it_used_is_known_after_a_restart() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let url = up.url.as_str();
    let key = json(data.path(), &["key", "create", "--tenant", "acme", "--url", url]);
    let secret = key["secret"].as_str().expect("a secret");
    let limit = ["tenant", "limit", "acme", "--url", url];
    let set = |more: &[&str]| json(data.path(), &[&limit[..], more].concat());
    set(&["--weight", "3", "--requests-per-minute", "1"]);
    let now = set(&["--tokens-per-day", "5000"]);
    assert_eq!((&now["weight"], &now["tokens_per_day"]["limit"]), (&3.into(), &5000.into()));
    let ask = ["chat", "hello", "--max-tokens", "2", "--url", url, "--api-key", secret];
    done(data.path(), &ask);
    let errors = refused(data.path(), &ask, 1);
    assert!(errors.contains("requests per minute are used up"), "{errors}");
    let show = json(data.path(), &["tenant", "show", "--url", url, "--api-key", secret]);
    assert_eq!(show["requests_per_minute"]["left"], 0);
    refused(data.path(), &["tenant", "limit", "nobody", "--weight", "3", "--url", url], 3);
    assert!(up.stop().success());

    let up = Up::start(data.path(), &[]);
    let sums = json(data.path(), &["usage", "--tenant", "acme", "--url", &up.url]);
    let sum = &sums["data"][0];
    assert_eq!((&sum["requests"], &sum["refused"]), (&1.into(), &1.into()), "{sums}");
    assert_eq!(sum["completion_tokens"], 2);
}

#[test]
fn a_second_up_on_the_same_directory_and_a_busy_port_are_6_and_say_why() {
    let data = tiny();
    let _up = Up::start(data.path(), &[]);
    let errors = refused(data.path(), &["up", "--listen", "127.0.0.1:0"], 6);
    assert!(errors.contains("another firmament runs on the data directory"), "{errors}");
    let errors = refused(data.path(), &["firmware", "rm", "tiny"], 6);
    assert!(errors.contains("another firmament runs"), "{errors}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let errors = refused(tiny().path(), &["up", "--listen", &address], 6);
    assert!(errors.contains(&address) && errors.contains("--listen"), "{errors}");
}

#[test]
fn sigterm_ends_it_well_and_the_directory_is_free_again() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    assert!(up.stop().success());
    assert!(Up::start(data.path(), &[]).stop().success());
}

#[test]
fn on_loopback_a_key_is_needed_too_where_the_operator_says_so() {
    let data = tiny();
    let up = Up::start(data.path(), &["--require-key"]);
    refused(data.path(), &["node", "list", "--url", &up.url], 5);
}

#[test]
fn beyond_loopback_a_key_is_needed_and_the_first_is_made_offline() {
    let data = tiny();
    let create = ["key", "create", "--offline", "--scopes", "inference,admin"];
    let key = json(data.path(), &create);
    let up = Up::start_on(data.path(), "0.0.0.0:0", &[]);
    refused(data.path(), &["node", "list", "--url", &up.url], 5);
    let secret = key["secret"].as_str().expect("a secret");
    done(data.path(), &["node", "list", "--url", &up.url, "--api-key", secret]);
}

#[test]
fn the_server_is_measured_unless_others_use_the_processor() {
    let data = tiny();
    let measured = run(data.path(), &["bench", "server", "--rounds", "1", "--json"]);
    if !measured.status.success() {
        let errors = String::from_utf8_lossy(&measured.stderr);
        return assert!(errors.contains("other programs use"), "{errors}");
    }
    let report: Value = serde_json::from_slice(&measured.stdout).expect("JSON");
    let rows = report["rows"].as_array().expect("a list");
    for what in ["4 requests, 4 adapters", "start to first token"] {
        let row = rows.iter().find(|row| row["what"] == what).expect(what);
        assert!(row["ours"][0].as_f64() > Some(0.0), "{row}");
    }
}

#[test]
fn join_tokens_are_listed_and_taken_back() {
    let data = tiny();
    let up = Up::start(data.path(), &[]);
    let url = up.url.as_str();
    let made = json(data.path(), &["node", "invite", "--kind", "device", "--url", url]);
    let id = made["id"].as_str().expect("an id");
    let state = || -> String {
        let table = done(data.path(), &["node", "invites", "--url", url]);
        let row = table.lines().find(|line| line.starts_with(id)).expect("it is listed");
        row.rsplit("  ").next().expect("a last column").trim().to_owned()
    };
    assert_eq!(state(), "valid");
    done(data.path(), &["node", "uninvite", id, "--url", url]);
    assert_eq!(state(), "revoked");
    let listed = json(data.path(), &["node", "invites", "--url", url]);
    let tokens = listed["data"].as_array().expect("a list");
    let own = tokens.iter().find(|token| token["id"] == id).expect("it is listed");
    assert!(own["revoked"].is_i64() && own.get("secret").is_none(), "{own}");
    refused(data.path(), &["node", "uninvite", "jt-nobody", "--url", url], 3);
    refused(data.path(), &["node", "revoke", "nobody", "--url", url], 3);
}
