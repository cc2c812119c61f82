use std::time::Duration;

use super::build::device;
use crate::core::{Change, Limits, NodePresence, Roster, Standing, Swept, sweep};

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn presence(id: &str, beat: u64) -> NodePresence {
    device(id).with(|node| node.presence.beat = beat).presence
}

fn five(beat: u64) -> Vec<NodePresence> {
    ["a", "b", "c", "d", "e"].map(|id| presence(id, beat)).to_vec()
}

fn after(swept: &Swept, present: &[NodePresence], now: Duration) -> Swept {
    sweep(&swept.roster, present, now, &Limits::default())
}

fn start(present: &[NodePresence]) -> Swept {
    sweep(&Roster::default(), present, at(0), &Limits::default())
}

fn changes(swept: &Swept) -> Vec<(&str, Change)> {
    swept.changes.iter().map(|(id, change)| (id.as_str(), *change)).collect()
}

#[test]
fn a_node_that_stops_beating_is_suspect_after_15_s_and_recovers_with_its_next_beat() {
    let stuck = [presence("a", 1)];
    let joined = start(&stuck);
    assert_eq!(changes(&joined), [("a", Change::Joined)]);
    let quiet = after(&joined, &stuck, at(14));
    assert!(changes(&quiet).is_empty());
    let suspect = after(&quiet, &stuck, at(15));
    assert_eq!(changes(&suspect), [("a", Change::Suspected)]);
    assert_eq!(suspect.snapshot.nodes[0].standing, Standing::Suspect);
    let back = after(&suspect, &[presence("a", 2)], at(16));
    assert_eq!(changes(&back), [("a", Change::Recovered)]);
}

#[test]
fn a_node_whose_presence_vanished_is_suspect_at_once_and_gone_after_30_s() {
    let suspect = after(&start(&[presence("a", 1)]), &[], at(1));
    assert_eq!(changes(&suspect), [("a", Change::Suspected)]);
    let gone = after(&suspect, &[], at(30));
    assert_eq!(changes(&gone), [("a", Change::Gone)]);
    assert!(gone.snapshot.nodes.is_empty());
}

#[test]
fn a_node_that_drained_leaves_without_suspicion() {
    let mut draining = presence("a", 2);
    draining.load.draining = true;
    let left = after(&start(&[draining]), &[], at(1));
    assert_eq!(changes(&left), [("a", Change::Left)]);
}

#[test]
fn an_older_session_of_a_node_is_not_heard() {
    let mut newer = presence("a", 1);
    newer.epoch = 2;
    let swept = after(&start(&[newer]), &[presence("a", 9)], at(1));
    assert_eq!(swept.snapshot.nodes[0].presence.epoch, 2);
}

#[test]
fn most_of_the_nodes_vanishing_at_once_are_kept_as_suspects() {
    let braked = after(&start(&five(1)), &five(2)[..2], at(30));
    assert!(braked.braked);
    assert_eq!(braked.snapshot.nodes.len(), 5);
    let suspects = braked.snapshot.nodes.iter().filter(|n| n.standing == Standing::Suspect);
    assert_eq!(suspects.count(), 3);
}

#[test]
fn nodes_that_vanish_together_are_kept_although_they_were_heard_at_different_times() {
    let mut swept = start(&five(1));
    for (second, heard) in [(2, 2), (4, 3), (6, 4)] {
        let mut present = five(1);
        for presence in &mut present[..heard] {
            presence.beat = second;
        }
        swept = after(&swept, &present, at(second));
    }
    for second in 7..50 {
        swept = after(&swept, &five(100 + second)[..2], at(second));
        assert_eq!(swept.snapshot.nodes.len(), 5, "after {second} s");
    }
    assert!(swept.braked);
}

#[test]
fn the_brake_lets_go_when_enough_nodes_are_heard_again() {
    let braked = after(&start(&five(1)), &five(2)[..2], at(30));
    let released = after(&braked, &five(3)[..3], at(31));
    assert!(!released.braked);
    let expected = [("c", Change::Recovered), ("d", Change::Gone), ("e", Change::Gone)];
    assert_eq!(changes(&released), expected);
}

#[test]
fn a_minority_or_a_very_small_cluster_is_not_braked() {
    let minority = after(&start(&five(1)), &five(2)[..3], at(30));
    assert!(!minority.braked);
    assert_eq!(minority.snapshot.nodes.len(), 3);
    let small = after(&start(&five(1)[..3]), &[], at(30));
    assert!(!small.braked);
    assert!(small.snapshot.nodes.is_empty());
}
