//! Postgres, Redis, two gateways, two schedulers, two workers and three devices as processes of this
//! machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Database, Postgres, Redis};

use crate::common::{Role, authority, done, json, tiny, until};
use crate::traffic::{client, trust};

pub struct Cluster {
    pub database: Database<'static>,
    pub redis: Redis,
    pub a: Option<Role>,
    pub b: Option<Role>,
    pub urls: [String; 2],
    pub schedulers: Vec<Role>,
    pub nodes: BTreeMap<&'static str, Role>,
    /// A key that both gateways know.
    pub key: String,
    /// Of the gateways' machine; holds the firmware.
    pub front: TempDir,
    shared: TempDir,
}

/// Nodes, and whether they dial the second gateway first.
const NODES: [(&str, &str, bool); 5] = [
    ("worker-a", "worker", false),
    ("worker-b", "worker", true),
    ("device-a", "device-agent", false),
    ("device-b", "device-agent", true),
    ("device-c", "device-agent", true),
];

/// The names of their certificates.
const GATEWAYS: [&str; 2] = ["gateway-0", "gateway-1"];

impl Cluster {
    pub fn start() -> Self {
        let (database, redis, front) =
            (Postgres::shared().empty_database(), Redis::start(), tiny());
        let registry = ["--registry", database.url.as_str()];
        done(front.path(), &[&["migrate"], &registry[..]].concat());
        let scopes = ["--offline", "--scopes", "inference,adapters,admin"];
        let key = json(front.path(), &[&["key", "create"], &scopes[..], &registry].concat());
        let shared = tempfile::tempdir().expect("a folder");
        std::fs::write(secret(&shared), "a secret of this test's gateways, 32 bytes")
            .expect("written");
        let urls = [free_port(0), free_port(1)].map(|port| format!("https://127.0.0.1:{port}"));
        let ca =
            authority(front.path()).parent().expect("it lies in a folder").display().to_string();
        done(front.path(), &["ca", "init", "--dir", &ca]);
        for name in GATEWAYS {
            let issue = ["ca", "issue", "--dir", &ca, "--name", name, "--san", "127.0.0.1"];
            done(front.path(), &issue);
        }
        trust(front.path());
        let mut cluster = Self {
            key: key["secret"].as_str().expect("a key").to_owned(),
            database,
            redis,
            a: None,
            b: None,
            urls,
            schedulers: Vec::new(),
            nodes: BTreeMap::new(),
            front,
            shared,
        };
        cluster.a = Some(cluster.gateway(0));
        cluster.b = Some(cluster.gateway(1));
        for _ in 0..2 {
            let role = cluster.scheduler();
            cluster.schedulers.push(role);
        }
        for (name, role, _) in NODES {
            like(cluster.front.path(), &cluster.home(name));
            let kind = if role == "worker" { "worker" } else { "device" };
            let invite = ["node", "invite", "--kind", kind, "--url", &cluster.urls[0]];
            let invited = json(cluster.front.path(), &invite);
            cluster.node(name, invited["secret"].as_str());
        }
        cluster
    }

    /// A gateway without a scheduler, at one of the two addresses.
    pub fn gateway(&self, number: usize) -> Role {
        let home = self.home(&format!("gateway-{number}"));
        like(self.front.path(), &home);
        let listen = self.urls[number].trim_start_matches("https://").to_owned();
        let ca = authority(self.front.path());
        let file = |end: &str| ca.with_file_name(GATEWAYS[number]).with_extension(end);
        let [ca, certificate, key] =
            [ca.clone(), file("crt"), file("key")].map(|path| path.display().to_string());
        let (secret, blobs) = (secret(&self.shared), self.shared.path().join("blobs"));
        let (secret, blobs) = (secret.display().to_string(), blobs.display().to_string());
        let redis = self.redis.url();
        let arguments = [
            &["gateway", "--no-scheduler", "--listen", &listen, "--registry", &self.database.url][..],
            &["--live", &redis, "--cluster-secret-file", &secret, "--blobs", &blobs],
            &["--tls-cert", &certificate, "--tls-key", &key, "--cluster-ca", &ca],
            &["--placement-wait", "20s", "--linger", "1s"],
        ];
        Role::start(&home, &arguments.concat(), "listening ")
    }

    /// A scheduler; `said` is its name as a leader.
    pub fn scheduler(&self) -> Role {
        let redis = self.redis.url();
        let arguments = [
            &["scheduler", "--registry", &self.database.url, "--live", &redis][..],
            &["--suspect-after", "6s", "--gone-after", "8s"],
        ];
        Role::start(self.shared.path(), &arguments.concat(), "scheduling as ")
    }

    /// Starts a node, again or for the first time.
    pub fn node(&mut self, name: &'static str, token: Option<&str>) {
        let (_, role, turned) = NODES.into_iter().find(|node| node.0 == name).expect("it is known");
        let [one, other] = &self.urls;
        let gateways = if turned { [other, one] } else { [one, other] };
        let gateways = gateways.map(String::as_str).join(",");
        let slots = if role == "worker" { "--worker-slots" } else { "--device-slots" };
        let token = token.map(|token| ["--join-token", token]);
        let arguments = [
            &[role, "--gateway", &gateways, "--threads", "1", slots, "6"][..],
            token.as_ref().map_or(&[], |token| &token[..]),
        ];
        let node = Role::start(&self.home(name), &arguments.concat(), "linked ");
        self.nodes.insert(name, node);
    }

    fn home(&self, name: &str) -> PathBuf {
        self.shared.path().join(name)
    }

    /// The id of a node.
    pub fn id(&self, name: &str) -> String {
        self.nodes[name].said.split(' ').next_back().expect("it says its id").to_owned()
    }

    /// What a gateway says of each node: id, state, and which gateway has its link.
    pub fn seen(&self, url: &str) -> BTreeMap<String, (String, String)> {
        let listed = json(self.front.path(), &["node", "list", "--url", url]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let nodes = listed["data"].as_array().expect("a list").iter();
        nodes
            .map(|node| (text(&node["id"]), (text(&node["state"]), text(&node["gateway"]))))
            .collect()
    }

    /// Waits until a gateway sees `count` living nodes, with the links of `gateways` gateways.
    pub fn sees(&self, url: &str, count: usize, gateways: usize) {
        until("all nodes are seen", || {
            let seen = self.seen(url);
            let alive = seen.values().filter(|(state, _)| state == "alive");
            let holders: BTreeSet<_> = alive.clone().map(|(_, gateway)| gateway).collect();
            (alive.count(), holders.len()) == (count, gateways)
        });
    }

    /// The names of the nodes by the gateway that has their link.
    pub fn held(&self, url: &str) -> BTreeMap<String, BTreeSet<String>> {
        let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (id, (_, gateway)) in self.seen(url) {
            held.entry(gateway).or_default().insert(id);
        }
        held
    }

    /// Who leads by the registry, and in which epoch; nobody if the lease has run out.
    pub fn leader(&self) -> Option<(String, u64)> {
        let row = "select holder, epoch from lease where name = 'scheduler' and \
                   expires_at > extract(epoch from now()) * 1000000";
        let row = self.database.sql(row);
        let (holder, epoch) = row.split_once('|')?;
        Some((holder.to_owned(), epoch.parse().ok()?))
    }

    /// One number of a gateway's `/metrics`.
    pub async fn metric(&self, url: &str, name: &str) -> Option<f64> {
        let text = client(url).get("/metrics").await.text().await.ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.trim().parse().ok()
    }
}

fn secret(shared: &TempDir) -> PathBuf {
    shared.path().join("cluster-secret")
}

/// Makes a data directory with the same firmware in use, unless it is there already.
fn like(front: &Path, home: &Path) {
    if home.is_dir() {
        return;
    }
    std::fs::create_dir(home).expect("made");
    std::os::unix::fs::symlink(front.join("firmwares"), home.join("firmwares")).expect("linked");
    std::fs::copy(front.join("firmware"), home.join("firmware")).expect("copied");
}

/// A port below those that outgoing connections take, so that a gateway finds it free again.
fn free_port(number: u16) -> u16 {
    let from = 10_000 + (std::process::id() as u16 % 9_000) * 2 + number;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (from..32_000).step_by(2).find(free).expect("a free port")
}

/// Longer than a scheduler takes to call a silent node gone.
pub const GONE: Duration = Duration::from_secs(10);
