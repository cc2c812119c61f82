//! What five hundred idle devices cost, and how they come back when the gateway was started again.

use std::path::Path;
use std::time::{Duration, Instant};

use protocol::NodeKind;

use crate::process::Gateway;
use crate::stage::{Nodes, Stage};

const DEVICES: usize = 500;
const WATCHED: Duration = Duration::from_mins(1);

pub async fn run(program: &Path) {
    let nodes = Nodes {
        kind: NodeKind::Device,
        count: DEVICES,
        slots: 4,
        token_every: Duration::from_millis(10),
    };
    let began = Instant::now();
    let mut stage = Stage::set(program, nodes).await;
    println!("devices: {DEVICES} enrolled and linked in {:.1} s", began.elapsed().as_secs_f64());
    let (before, began) = (stage.gateway.cpu_seconds(), Instant::now());
    tokio::time::sleep(WATCHED).await;
    let share = (stage.gateway.cpu_seconds() - before) / began.elapsed().as_secs_f64();
    println!(
        "  idle for {} s: gateway with scheduler {:.2} % of a core, {:.0} MiB at most",
        WATCHED.as_secs(),
        share * 100.0,
        stage.gateway.peak_mib()
    );
    restart(program, &mut stage).await;
    stage.end().await;
}

async fn restart(program: &Path, stage: &mut Stage) {
    let data = stage.folder.path().to_owned();
    stage.gateway.kill();
    stage.gateway = Gateway::start(program, &data, stage.port).await;
    let began = Instant::now();
    let (mut linked, mut most) = (0, 0);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    while linked < DEVICES {
        seconds.tick().await;
        let now = stage.listed().await;
        most = most.max(now.saturating_sub(linked));
        linked = now;
        assert!(began.elapsed() < Duration::from_mins(3), "{linked} of {DEVICES} came back");
    }
    println!(
        "  after a start: all back in {:.0} s, {most} in the busiest second",
        began.elapsed().as_secs_f64()
    );
}
