//! The command line without a server: help, exit codes, what programs read.

mod common;

use common::{firmament, json, refused, run};

const NOBODY: &str = "http://127.0.0.1:9"; // the discard port, where nothing listens

fn empty() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn help_names_every_command_and_exit_code() {
    let data = empty();
    let help = String::from_utf8(run(data.path(), &["--help"]).stdout).expect("text");
    for command in ["up", "gateway", "worker", "device-agent", "migrate", "chat"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    for command in ["firmware", "adapter", "key", "node", "tenant", "usage", "doctor", "health"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    let codes = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 no server answers";
    assert!(help.contains(codes), "{help}");
}

#[test]
fn wrong_usage_is_2_and_says_what_is_possible() {
    let data = empty();
    for arguments in [&["fly"][..], &["up", "--listen", "here"], &["firmware", "verify", "--fast"]]
    {
        refused(data.path(), arguments, 2);
    }
    let errors = refused(data.path(), &["node", "list", "--url", "ftp://x"], 2);
    assert!(errors.contains("is not an http or https address"), "{errors}");
}

#[test]
fn what_does_not_exist_is_3() {
    let data = empty();
    for arguments in [
        &["firmware", "show", "nothing"][..],
        &["firmware", "use", "smollm2-135m-instruct"],
        &["firmware", "rm", "smollm2-135m-instruct"],
        &["adapter", "add", "/nowhere", "--name", "x", "--url", NOBODY],
    ] {
        let errors = refused(data.path(), arguments, 3);
        assert_eq!(errors.lines().count(), 2, "one line for what, one for what to do: {errors}");
        assert!(errors.starts_with("error: ") && errors.contains("\nhint: "), "{errors}");
    }
}

#[test]
fn no_server_is_4_and_the_hint_says_how_to_start_one() {
    let data = empty();
    for arguments in [
        &["health"][..],
        &["node", "list"],
        &["adapter", "list"],
        &["key", "list"],
        &["chat", "hello"],
    ] {
        let errors = refused(data.path(), &[arguments, &["--url", NOBODY]].concat(), 4);
        assert!(errors.contains("no answer from 127.0.0.1:9"), "{errors}");
        assert!(errors.contains("hint: start a server with `firmament up`"), "{errors}");
    }
}

#[test]
fn secrets_never_come_back_in_errors() {
    let data = empty();
    let url = "http://user:hunter2@127.0.0.1:9/?token=hunter2";
    let errors = refused(data.path(), &["node", "list", "--url", url, "--api-key", "hunter2"], 4);
    assert!(!errors.contains("hunter2"), "{errors}");
    let help = run(data.path(), &["chat", "--help"]).stdout;
    assert!(String::from_utf8_lossy(&help).contains("FIRMAMENT_API_KEY"));
}

#[test]
fn programs_read_a_list_of_the_known_firmwares() {
    let data = empty();
    let list = json(data.path(), &["firmware", "list"]);
    assert_eq!(list["object"], "list");
    let first = &list["data"][0];
    assert_eq!(first["name"], "smollm2-135m-instruct");
    assert_eq!((&first["state"], &first["in_use"]), (&"absent".into(), &true.into()));
    assert_eq!(
        (&first["size_bytes"], &first["licence"]),
        (&98_362_432.into(), &"Apache-2.0".into())
    );
    let shown = json(data.path(), &["firmware", "show"]);
    assert_eq!(shown["id"], first["id"]);
    assert_eq!(shown["manifest"]["parts"][0]["role"], "backbone");
}

#[test]
fn the_doctor_tells_programs_and_people_the_same() {
    let data = empty();
    let arguments = ["doctor", "--listen", "127.0.0.1:0"];
    let report = json(data.path(), &arguments);
    let checks = report["data"].as_array().expect("a list");
    let named: Vec<&str> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    let all =
        ["cores", "instructions", "memory", "data directory", "disk", "firmware", "port", "pip"];
    assert_eq!(named, all);
    let people = String::from_utf8(run(data.path(), &arguments).stdout).expect("text");
    assert_eq!(people.lines().count(), all.len(), "{people}");
    assert!(people.contains("smollm2-135m-instruct 1.0.0 is absent"), "{people}");
}

#[test]
fn the_doctor_fails_if_the_port_is_taken_and_says_what_to_do() {
    let data = empty();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let errors = refused(data.path(), &["doctor", "--listen", &address], 1);
    assert!(errors.contains("port"), "{errors}");
}

#[test]
fn durations_that_cannot_be_read_are_refused_in_words() {
    let data = empty();
    let errors = refused(data.path(), &["key", "create", "--expires", "yesterday"], 2);
    assert!(errors.contains("write a time such as 30d"), "{errors}");
}

#[test]
fn piped_output_has_no_colours_and_no_bars() {
    let data = empty();
    for arguments in [&["doctor"][..], &["firmware", "list"], &["firmware", "use", "nothing"]] {
        let output = run(data.path(), arguments);
        for stream in [output.stdout, output.stderr] {
            assert!(!stream.contains(&0x1b), "{arguments:?}");
        }
    }
}

#[test]
fn an_interrupted_fetch_says_so_and_is_no_success() {
    let data = empty();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let index = format!("http://{}/simple", silent.local_addr().expect("bound"));
    let mut pull = firmament(data.path());
    pull.args(["firmware", "pull", "--no-pip", "--index-url", &index]);
    let pull = pull.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let _open = silent.accept().expect("it asks the index"); // and never gets an answer
    let kill = format!("kill -INT {}", pull.id());
    let sent = std::process::Command::new("sh").args(["-c", &kill]).status();
    assert!(sent.expect("a shell").success());
    let output = pull.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("was interrupted"), "{errors}");
}
