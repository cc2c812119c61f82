//! Who may depend on whom: design.md's arrows, checked on what cargo itself reads.

use std::process::Command;

use serde_json::Value;

use crate::tree;

/// What each crate may depend on. `testkit` may on all but the binary, and none may on it.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("telemetry", &[]),
    ("tls", &["protocol"]),
    ("engine", &["protocol", "telemetry"]),
    ("store", &["protocol", "telemetry"]),
    ("scheduler", &["protocol", "store", "telemetry"]),
    ("node", &["engine", "protocol", "telemetry", "tls"]),
    ("worker", &["engine", "node", "protocol", "telemetry"]),
    ("device-agent", &["engine", "node", "protocol", "telemetry"]),
    ("gateway", &["protocol", "scheduler", "store", "telemetry", "tls"]),
    ("bench", &["engine", "protocol", "telemetry"]),
    (
        "firmament",
        &[
            "bench",
            "device-agent",
            "engine",
            "gateway",
            "node",
            "protocol",
            "scheduler",
            "store",
            "telemetry",
            "tls",
            "worker",
        ],
    ),
    (
        "testkit",
        &[
            "bench",
            "device-agent",
            "engine",
            "gateway",
            "node",
            "protocol",
            "scheduler",
            "store",
            "telemetry",
            "tls",
            "worker",
        ],
    ),
];

/// Crates that speak HTTP as a server.
const SERVERS: &[&str] = &["gateway"];

fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--offline", "--no-deps", "--format-version", "1"]);
    let output = cargo.current_dir(tree::root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let Value::Array(packages) = metadata["packages"].take() else { panic!("no packages") };
    packages
}

/// Names of a package's normal dependencies; only ours, or only others'.
fn dependencies(package: &Value, ours: bool) -> Vec<&str> {
    let all = package["dependencies"].as_array().expect("a list");
    let normal = all.iter().filter(|dependency| dependency["kind"].is_null());
    let wanted = normal.filter(|dependency| dependency["path"].is_string() == ours);
    wanted.map(|dependency| dependency["name"].as_str().expect("a name")).collect()
}

#[test]
fn crates_depend_on_each_other_only_along_the_arrows() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let allowed = ARROWS.iter().find(|(from, _)| *from == name);
        let Some((_, allowed)) = allowed else { panic!("crate `{name}` has no arrows yet") };
        let edges = dependencies(&package, true);
        wrong.extend(
            edges.iter().filter(|to| !allowed.contains(to)).map(|to| format!("{name} -> {to}")),
        );
    }
    tree::none(&wrong, "these edges are not in the design");
}

#[test]
fn only_the_gateway_serves_http() {
    let serves = |package: &Value| dependencies(package, false).contains(&"axum");
    let wrong: Vec<String> = packages()
        .iter()
        .filter(|package| serves(package))
        .map(|package| package["name"].as_str().expect("a name").to_owned())
        .filter(|name| !SERVERS.contains(&name.as_str()))
        .collect();
    tree::none(&wrong, "these crates depend on axum");
}

#[test]
fn the_gateway_calls_only_the_schedulers_core() {
    let files = tree::files(&[".rs"]);
    let gateway = files.iter().filter(|file| file.path.starts_with("gateway/src/"));
    let found: Vec<String> = gateway
        .flat_map(|file| file.find(&["scheduler::"]))
        .filter(|line| !line.contains("scheduler::core"))
        .collect();
    tree::none(&found, "roles never depend on roles' services");
}
