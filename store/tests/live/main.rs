//! The live state's conformance suite: what every implementation promises, written once.
//! A new implementation adds one line at the end of this file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cases;

use std::sync::Arc;

use store::{LiveState, MemoryLimits, MemoryLiveState};

macro_rules! conformance {
    ($implementation:ident, $open:path; $($case:ident,)*) => {
        mod $implementation {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                crate::cases::$case($open().as_ref()).await;
            })*
        }
    };
    ($implementation:ident, $open:path) => {
        conformance! { $implementation, $open;
            a_node_is_present_until_its_lease_ends,
            a_later_session_replaces_an_earlier_and_not_the_other_way_round,
            a_watcher_sees_the_latest_routing_snapshot,
            a_bucket_allows_its_capacity_and_then_its_refill,
            a_denied_or_impossible_take_costs_nothing,
            what_was_not_used_flows_back_up_to_the_capacity,
            what_was_used_beyond_the_level_is_a_debt,
            a_clock_that_steps_back_refills_nothing,
            buckets_of_different_keys_are_apart,
            a_reader_goes_on_where_it_was,
            an_index_that_repeats_or_skips_is_refused,
            a_log_past_its_bound_drops_its_oldest_events_and_says_so,
            an_event_above_the_bound_is_refused,
            a_log_is_unknown_once_its_lease_ends,
            a_waiting_reader_gets_the_next_event_or_the_end_or_its_deadline,
        }
    };
}

/// Small enough that the suite reaches the bounds.
fn memory() -> Arc<dyn LiveState> {
    let limits = MemoryLimits { stream_bytes: cases::STREAM_BYTES, ..MemoryLimits::default() };
    Arc::new(MemoryLiveState::new(limits))
}

conformance!(in_memory, crate::memory);
