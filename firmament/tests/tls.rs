//! TLS as a user sets it up: `firmament ca`, servers with its certificates, commands that know them.
#![cfg(unix)]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Role, Up, done, json, refused, run, tiny};

/// Makes an authority in `ca` of a data directory, and a certificate for this machine's address; the
/// flags that name it.
fn certified(data: &Path) -> [String; 4] {
    let ca = data.join("ca").display().to_string();
    done(data, &["ca", "init", "--dir", &ca]);
    done(data, &["ca", "issue", "--dir", &ca, "--name", "127.0.0.1"]);
    [
        "--tls-cert".into(),
        format!("{ca}/127.0.0.1.crt"),
        "--tls-key".into(),
        format!("{ca}/127.0.0.1.key"),
    ]
}

fn strings(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

#[test]
fn an_authority_is_made_once_and_its_files_are_its_owners_alone() {
    let data = tempfile::tempdir().expect("a folder");
    let ca = data.path().join("ca");
    let dir = ca.display().to_string();
    let made = json(data.path(), &["ca", "init", "--dir", &dir]);
    let fingerprint = made["fingerprint"].as_str().expect("a fingerprint");
    assert_eq!(fingerprint.len(), 64, "{fingerprint}");
    assert_eq!(done(data.path(), &["ca", "show", "--dir", &dir]).trim(), fingerprint);
    let again = refused(data.path(), &["ca", "init", "--dir", &dir], 6);
    assert!(again.contains("already"), "{again}");
    let issue =
        ["ca", "issue", "--dir", &dir, "--name", "gateway-1", "--san", "localhost,10.0.0.1"];
    for _ in 0..2 {
        assert_eq!(json(data.path(), &issue)["days"], 90, "it is renewed by the same command");
    }
    for file in ["ca.crt", "ca.key", "gateway-1.crt", "gateway-1.key"] {
        let mode = std::fs::metadata(ca.join(file)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(std::fs::read_dir(&ca).expect("a folder").count(), 4, "nothing is left over");
    let wrong = refused(data.path(), &["ca", "issue", "--dir", &dir, "--name", "../x"], 2);
    assert!(wrong.contains("neither a host's name"), "{wrong}");
    std::fs::rename(ca.join("ca.key"), data.path().join("elsewhere")).expect("moved");
    assert_eq!(done(data.path(), &["ca", "show", "--dir", &dir]).trim(), fingerprint);
    assert!(refused(data.path(), &issue, 2).contains("ca.key"), "nobody issues without the key");
    let none = data.path().join("none").display().to_string();
    refused(data.path(), &["ca", "issue", "--dir", &none, "--name", "a"], 2);
}

#[test]
fn a_server_whose_files_are_not_in_order_says_which_and_what_to_do() {
    let (data, other) = (tiny(), tempfile::tempdir().expect("a folder"));
    let [cert_flag, cert, key_flag, key] = certified(data.path());
    let [_, other_cert, _, _] = certified(other.path());
    let other_ca = other.path().join("ca/ca.crt").display().to_string();
    let secret = data.path().join("secret");
    std::fs::write(&secret, "a secret of this test's gateways, 32 bytes").expect("written");
    let secret = secret.display().to_string();
    let start = |flags: &[&str]| {
        refused(data.path(), &[&["gateway", "--listen", "127.0.0.1:0"], flags].concat(), 2)
    };
    let named = [cert_flag.as_str(), &other_cert, &key_flag, &key];
    let said = start(&named);
    assert!(
        said.contains("is not the one of the certificate") && said.contains("together"),
        "{said}"
    );
    let named = [cert_flag.as_str(), &key, &key_flag, &key];
    assert!(start(&named).contains("holds no certificate"), "{}", start(&named));
    let right = [cert_flag.as_str(), &cert, &key_flag, &key];
    let said = start(&[&right[..], &["--cluster-ca", &other_ca]].concat());
    assert!(said.contains("does not come from the cluster's authority"), "{said}");
    let said = start(&[&right[..], &["--cluster-secret-file", &secret]].concat());
    assert!(said.contains("--cluster-ca"), "{said}");
    let ca = data.path().join("ca/ca.crt").display().to_string();
    let cluster = ["--cluster-ca", &ca, "--cluster-secret-file", &secret];
    let said = start(&[&right[..], &cluster, &["--advertise", "gateway-9:8080"]].concat());
    assert!(said.contains("gateway-9") && said.contains("--san"), "{said}");
    assert!(start(&right[..2]).contains("--tls-key"), "one without the other");
}

#[test]
fn everything_in_one_process_speaks_tls_and_commands_know_it_by_its_authority() {
    let data = tiny();
    let flags = certified(data.path());
    let up = Up::start(data.path(), &[&strings(&flags)[..], &["--threads", "1"]].concat());
    assert!(up.url.starts_with("https://127.0.0.1:"), "{}", up.url);
    // `common` names the authority in the environment of who has it in its data directory.
    let listed = json(data.path(), &["node", "list", "--url", &up.url]);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2), "{listed}");
    done(data.path(), &["health", "--ready", "--url", &up.url]);
    let stranger = tempfile::tempdir().expect("a folder");
    let said = refused(stranger.path(), &["node", "list", "--url", &up.url], 4);
    assert!(said.contains("--ca-file"), "{said}");
    let ca = data.path().join("ca/ca.crt").display().to_string();
    json(stranger.path(), &["node", "list", "--url", &up.url, "--ca-file", &ca]);
    let by_name = up.url.replace("127.0.0.1", "localhost");
    let said = refused(data.path(), &["node", "list", "--url", &by_name], 4);
    assert!(said.contains("another host"), "{said}");
    let plain = up.url.replace("https", "http");
    let said = refused(data.path(), &["node", "list", "--url", &plain], 1);
    assert!(said.contains("400") && said.contains("begin the address with https://"), "{said}");
    assert!(up.stop().success());
}

#[test]
fn a_worker_with_a_pinned_token_dials_https_alone() {
    let (front, home) = (tiny(), tiny());
    let flags = certified(front.path());
    let ca = front.path().join("ca/ca.crt").display().to_string();
    let gateway = [&["gateway", "--listen", "127.0.0.1:0"], &strings(&flags)[..]].concat();
    let gateway = [&gateway[..], &["--cluster-ca", &ca]].concat();
    let gateway = Role::start(front.path(), &gateway, "listening ");
    let url = gateway.said.as_str();
    let invited = json(front.path(), &["node", "invite", "--url", url]);
    let token = invited["secret"].as_str().expect("a token");
    let fingerprint = done(front.path(), &["ca", "show", "--dir", ca.trim_end_matches("/ca.crt")]);
    assert!(token.ends_with(&format!(".{}", fingerprint.trim())), "{token}");
    let worker = ["worker", "--join-token", token, "--threads", "1", "--gateway"];
    let plain = url.replace("https", "http");
    let output = run(home.path(), &[&worker[..], &[&plain]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("begin --gateway with https://"), "{said}");
    let worker = Role::start(home.path(), &[&worker[..], &[url]].concat(), "linked ");
    assert!(worker.stop().success() && gateway.stop().success());
}
