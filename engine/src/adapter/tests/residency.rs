use std::sync::Arc;

use proptest::prelude::*;
use protocol::{ErrorCode, GenerationId};

use super::build::generation;
use crate::adapter::{Adapter, AdapterError, Residency};

fn adapter(name: &str, resident_bytes: u64) -> Arc<Adapter> {
    Arc::new(Adapter {
        generation: generation(name),
        layers: Vec::new(),
        shapes_cache: false,
        head: None,
        rank_max: 4,
        sites: 1,
        parameters: 1,
        resident_bytes,
    })
}

fn insert(set: &mut Residency, name: &str, bytes: u64) -> Result<Vec<GenerationId>, AdapterError> {
    set.insert(adapter(name, bytes))
}

#[test]
fn the_least_recently_used_goes_first() {
    let mut set = Residency::new(30);
    for name in ["a", "b", "c"] {
        assert!(insert(&mut set, name, 10).unwrap().is_empty());
    }
    set.lease(generation("a"));
    assert_eq!(insert(&mut set, "d", 15).unwrap(), ["b", "c"].map(generation));
    let stats = set.stats();
    assert_eq!(stats.resident, ["d", "a"].map(generation));
    assert_eq!((stats.bytes, stats.evictions), (25, 2));
}

#[test]
fn what_is_pinned_or_in_use_stays_and_a_refusal_changes_nothing() {
    let mut set = Residency::new(30);
    for name in ["a", "b", "c"] {
        insert(&mut set, name, 10).unwrap();
    }
    let lease = set.lease(generation("b"));
    assert!(set.pin(generation("a")) && !set.pin(generation("x")));
    let before = set.stats();
    let busy = insert(&mut set, "d", 20).unwrap_err();
    assert_eq!((busy.code(), busy.retryable()), (ErrorCode::Busy, true));
    let never = insert(&mut set, "e", 31).unwrap_err();
    assert_eq!((never.code(), never.retryable()), (ErrorCode::LoraByteLimitExceeded, false));
    assert_eq!(set.stats(), before);
    drop(lease);
    assert_eq!(insert(&mut set, "d", 20).unwrap(), ["c", "b"].map(generation));
    set.unpin(generation("a"));
    assert_eq!(insert(&mut set, "f", 10).unwrap(), ["a"].map(generation));
}

#[test]
fn the_same_generation_is_kept_once() {
    let mut set = Residency::new(30);
    insert(&mut set, "a", 10).unwrap();
    assert!(insert(&mut set, "a", 10).unwrap().is_empty());
    assert_eq!(set.stats().bytes, 10);
}

#[test]
fn memory_of_a_removed_adapter_counts_until_its_last_holder_is_done() {
    let mut set = Residency::new(30);
    insert(&mut set, "a", 20).unwrap();
    let lease = set.lease(generation("a"));
    assert!(set.remove(generation("a")) && !set.remove(generation("a")));
    assert!(!set.contains(generation("a")) && set.lease(generation("a")).is_none());
    assert_eq!(set.stats().bytes, 20);
    assert_eq!(insert(&mut set, "b", 20).unwrap_err().code(), ErrorCode::Busy);
    insert(&mut set, "a", 20).unwrap();
    assert_eq!(set.stats().bytes, 20, "it is taken back, not held twice");
    assert!(set.remove(generation("a")));
    drop(lease);
    assert_eq!(set.stats().bytes, 0);
    insert(&mut set, "b", 20).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, u64),
    Lease(u8),
    Release(u8),
    Pin(u8, bool),
    Remove(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..8_u8;
    prop_oneof![
        4 => (name.clone(), 1..60_u64).prop_map(|(name, bytes)| Step::Insert(name, bytes)),
        3 => name.clone().prop_map(Step::Lease),
        2 => name.clone().prop_map(Step::Release),
        1 => (name.clone(), any::<bool>()).prop_map(|(name, on)| Step::Pin(name, on)),
        1 => name.prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn the_budget_holds_and_used_adapters_stay_whatever_happens(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut set = Residency::new(100);
        let mut held: Vec<(u8, Arc<Adapter>)> = Vec::new();
        let mut order: Vec<GenerationId> = Vec::new(); // most recently used first
        for step in steps {
            let touched = match step {
                Step::Insert(name, bytes) => {
                    let result = insert(&mut set, &name.to_string(), bytes);
                    let evicted = result.as_ref().map_or(&[][..], Vec::as_slice);
                    prop_assert!(held.iter().all(|(_, one)| !evicted.contains(&one.generation)));
                    let candidates = order.iter().rev().filter(|one| evicted.contains(one));
                    prop_assert!(candidates.eq(evicted), "the oldest go first");
                    order.retain(|one| !evicted.contains(one));
                    result.is_ok().then_some(name)
                }
                Step::Lease(name) => set.lease(generation(&name.to_string())).map(|lease| {
                    held.push((name, lease));
                    name
                }),
                Step::Release(name) => {
                    held.retain(|(other, _)| *other != name);
                    None
                }
                Step::Pin(name, on) => {
                    let generation = generation(&name.to_string());
                    let known = if on { set.pin(generation) } else { set.unpin(generation) };
                    prop_assert_eq!(known, order.contains(&generation));
                    None
                }
                Step::Remove(name) => {
                    let generation = generation(&name.to_string());
                    prop_assert_eq!(set.remove(generation), order.contains(&generation));
                    order.retain(|other| *other != generation);
                    None
                }
            };
            if let Some(name) = touched {
                let generation = generation(&name.to_string());
                order.retain(|other| *other != generation);
                order.insert(0, generation);
            }
            let stats = set.stats();
            prop_assert!(stats.bytes <= 100);
            prop_assert_eq!(&stats.resident, &order);
        }
    }
}
