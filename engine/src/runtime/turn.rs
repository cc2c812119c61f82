//! Whose turn it is: the tenant with the fewest sequences in the batch.
//! Source: max-min fairness, Demers, Keshav and Shenker 1989, "Analysis and simulation of a fair queueing
//! algorithm", section 2, with places in the batch as what is shared.

use std::collections::HashMap;

use protocol::TenantId;

/// Of `waiting`, oldest first, the key of the oldest whose tenant has the fewest `running`.
///
/// One tenant alone is served in order of arrival. Nobody starves: who has nothing running comes before
/// all who have, and among those the oldest comes first.
pub(super) fn next_in_turn<'a, K>(
    running: impl Iterator<Item = &'a TenantId>,
    waiting: impl Iterator<Item = (K, &'a TenantId)>,
) -> Option<K> {
    let mut counts: HashMap<&TenantId, usize> = HashMap::new();
    for tenant in running {
        *counts.entry(tenant).or_default() += 1;
    }
    // Of several equals this takes the first.
    let next = waiting.min_by_key(|(_, tenant)| counts.get(tenant).copied().unwrap_or(0));
    next.map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn next(running: &[TenantId], waiting: &VecDeque<(usize, TenantId)>) -> Option<usize> {
        let waiting = waiting.iter().enumerate().map(|(place, (_, tenant))| (place, tenant));
        next_in_turn(running.iter(), waiting)
    }

    fn tenant(number: usize) -> TenantId {
        TenantId::from(format!("t{number}").as_str())
    }

    /// Fills `rows` places from a queue of tenants, then ends the sequence that has run longest and fills
    /// its place, until none waits. The numbers of those that got a place, in order.
    fn served(queue: &[usize], rows: usize) -> Vec<usize> {
        let mut waiting: VecDeque<(usize, TenantId)> =
            queue.iter().map(|number| tenant(*number)).enumerate().collect();
        let (mut running, mut order) = (Vec::new(), Vec::new());
        while !waiting.is_empty() {
            if running.len() == rows {
                running.remove(0);
            }
            let place = next(&running, &waiting).expect("some wait");
            let (number, tenant) = waiting.remove(place).expect("it waits");
            order.push(number);
            running.push(tenant);
        }
        order
    }

    #[test]
    fn a_newcomer_passes_the_queue_of_one_who_has_many_places() {
        assert_eq!(served(&[0, 0, 0, 0, 0, 0, 1], 3), [0, 6, 1, 2, 3, 4, 5]);
        assert_eq!(served(&[0, 0, 0, 1, 1, 2], 2), [0, 3, 1, 4, 2, 5]);
    }

    proptest! {
        #[test]
        fn one_tenant_alone_is_served_in_order(count in 0..40_usize, rows in 1..8_usize) {
            prop_assert_eq!(served(&vec![0; count], rows), (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn everyone_is_served_once_and_each_tenant_in_its_own_order(
            queue in prop::collection::vec(0..5_usize, 0..60),
            rows in 1..8_usize,
        ) {
            let order = served(&queue, rows);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..queue.len()).collect::<Vec<_>>());
            for of in 0..5 {
                let own: Vec<usize> = order.iter().copied().filter(|at| queue[*at] == of).collect();
                prop_assert!(own.is_sorted(), "{own:?}");
            }
        }

        #[test]
        fn who_is_chosen_has_no_more_places_than_any_who_waits(
            running in prop::collection::vec(0..5_usize, 0..12),
            waiting in prop::collection::vec(0..5_usize, 1..30),
        ) {
            let running: Vec<TenantId> = running.into_iter().map(tenant).collect();
            let waiting: VecDeque<_> = waiting.into_iter().map(tenant).enumerate().collect();
            let places = |tenant: &TenantId| running.iter().filter(|other| *other == tenant).count();
            let chosen = next(&running, &waiting).expect("some wait");
            let fewest = waiting.iter().map(|(_, tenant)| places(tenant)).min().expect("some wait");
            prop_assert_eq!(places(&waiting[chosen].1), fewest);
            prop_assert!(waiting.range(..chosen).all(|(_, tenant)| places(tenant) > fewest));
        }
    }
}
