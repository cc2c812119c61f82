//! The queue's promises, on asks made up by chance.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const ROOMY: QueueLimits = QueueLimits { requests_max: 10_000, tokens_max: 1 << 40 };

/// Who asked, and for how much.
type Asked = (String, u64);

fn share(priority: Priority, weight: u32) -> Share {
    Share { priority, weight }
}

fn ask(tenant: &str, share: Share, tokens: u64) -> Ask {
    let latest = Instant::now() + Duration::from_hours(1);
    Ask { tenant: TenantId::from(tenant), share, tokens, latest }
}

fn push(queue: &mut FairQueue<Asked>, ask: Ask) -> Option<Place> {
    let value = (ask.tenant.to_string(), ask.tokens);
    queue.push(Instant::now(), ask, value).0
}

/// Serves one request and says whose it was.
fn serve_one(queue: &mut FairQueue<Asked>) -> Option<Asked> {
    let mut free = true;
    let served = queue.serve(Instant::now(), |_| {
        if std::mem::take(&mut free) { Offer::Taken(()) } else { Offer::Stop }
    });
    served.into_iter().find_map(|left| match left {
        Left::Answered(asked, ()) => Some(asked),
        Left::TooLate(_) => None,
    })
}

proptest! {
    /// Theorem 1 of the paper: while two flows wait, what they get differs by a request each.
    #[test]
    fn while_two_flows_wait_their_tokens_are_as_their_weights(
        weights in prop::array::uniform2(1_u32..20),
        priorities in prop::array::uniform2(prop::sample::select(Priority::ALL.to_vec())),
        sizes in prop::collection::vec((1_u64..500, 1_u64..500), 200),
        turns in 1_usize..150,
    ) {
        let mut queue = FairQueue::new(ROOMY);
        let shares = [share(priorities[0], weights[0]), share(priorities[1], weights[1])];
        for (a, b) in sizes {
            push(&mut queue, ask("a", shares[0], a));
            push(&mut queue, ask("b", shares[1], b));
        }
        let mut got = [0_u64; 2];
        for _ in 0..turns {
            let (tenant, tokens) = serve_one(&mut queue).expect("both wait");
            got[usize::from(tenant == "b")] += tokens;
        }
        let part = |of: usize| got[of] as f64 / shares[of].weight() as f64;
        let most = |of: usize| 500.0 / shares[of].weight() as f64;
        prop_assert!((part(0) - part(1)).abs() <= most(0) + most(1) + 1e-3, "{got:?} {shares:?}");
    }

    /// However much another has waiting, who was quiet goes next but for those that are served with it.
    #[test]
    fn who_was_quiet_goes_before_those_that_flood(
        floods in prop::collection::vec((1_usize..100, 1_u64..1000, 1_u32..50), 1..8),
        served in 0_usize..50, tokens in 1_u64..1000,
    ) {
        let mut queue = FairQueue::new(ROOMY);
        for (number, (count, tokens, weight)) in floods.iter().enumerate() {
            let flood = share(Priority::Interactive, *weight);
            for _ in 0..*count {
                push(&mut queue, ask(&format!("flood-{number}"), flood, *tokens));
            }
        }
        for _ in 0..served {
            serve_one(&mut queue);
        }
        push(&mut queue, ask("quiet", share(Priority::Interactive, 1), tokens));
        let before = (0..=floods.len()).find(|_| {
            serve_one(&mut queue).is_some_and(|(tenant, _)| tenant == "quiet")
        });
        prop_assert!(before.is_some(), "it waited for more than one of each");
    }

    /// The least urgent too gets its part in the end.
    #[test]
    fn nobody_starves(tokens in 1_u64..100, weight in 1_u32..5) {
        let mut queue = FairQueue::new(ROOMY);
        push(&mut queue, ask("last", share(Priority::Background, weight), tokens));
        let most = 100 * u64::from(weight) * 100 + 2;
        let mut turns = 0;
        loop {
            push(&mut queue, ask("flood", share(Priority::Interactive, weight), 100));
            turns += 1;
            prop_assert!(turns < most);
            if serve_one(&mut queue).is_some_and(|(tenant, _)| tenant == "last") { break }
        }
    }

    #[test]
    fn neither_requests_nor_tokens_are_ever_too_many_and_the_sums_are_right(
        steps in prop::collection::vec(
            (0_u8..5, prop::sample::select(Priority::ALL.to_vec()), 1_u64..300, 0_u8..4), 1..200,
        ),
    ) {
        let limits = QueueLimits { requests_max: 7, tokens_max: 900 };
        let mut queue = FairQueue::new(limits);
        let mut places: Vec<(Place, u64)> = Vec::new();
        for (tenant, priority, tokens, step) in steps {
            match step {
                0 => { serve_one(&mut queue); }
                1 => if let Some((place, _)) = places.pop() { queue.leave(&place); },
                _ => {
                    let ask = ask(&tenant.to_string(), share(priority, 1), tokens);
                    places.extend(push(&mut queue, ask).map(|place| (place, tokens)));
                }
            }
            let here = |place: &Place| {
                queue.flows.get(&place.flow).is_some_and(|q| q.entries.contains_key(&place.number))
            };
            places.retain(|(place, _)| here(place));
            let Waiting { requests, tokens } = queue.total();
            prop_assert!(requests <= limits.requests_max && tokens <= limits.tokens_max);
            prop_assert_eq!(requests, places.len());
            prop_assert_eq!(tokens, places.iter().map(|(_, tokens)| tokens).sum::<u64>());
        }
    }

    /// Nobody gives way to what is less urgent, nor a short flow to a longer one beside it.
    #[test]
    fn where_all_is_full_the_longest_flow_of_the_least_urgent_gives_way(
        asks in prop::collection::vec(
            (0_u8..4, prop::sample::select(Priority::ALL.to_vec())), 1..60,
        ),
    ) {
        let limits = QueueLimits { requests_max: 6, tokens_max: 1 << 20 };
        let mut queue = FairQueue::new(limits);
        for (tenant, priority) in asks {
            let ask = ask(&tenant.to_string(), share(priority, 1), 10);
            let value = (tenant, priority);
            let (_, gone) = queue.push(Instant::now(), ask, value);
            for (tenant, priority) in gone {
                let urgencies = queue.flows.iter().filter(|(_, flow)| !flow.entries.is_empty());
                let lowest = urgencies.map(|(flow, _)| flow.priority).max();
                prop_assert!(lowest <= Some(priority), "{lowest:?} stays, {priority:?} goes");
                let length = |tenant: u8| {
                    let tenant = TenantId::from(tenant.to_string().as_str());
                    queue.flows.get(&Flow { priority, tenant }).map_or(0, |flow| flow.entries.len())
                };
                let longest = (0..4).map(length).max();
                prop_assert!(longest <= Some(length(tenant) + 1));
            }
        }
    }
}

#[test]
fn who_cannot_be_served_now_holds_up_nobody_not_even_its_own_flow() {
    let mut queue = FairQueue::new(ROOMY);
    for tokens in [1, 2, 3] {
        push(&mut queue, ask("a", Share::default(), tokens));
    }
    push(&mut queue, ask("b", Share::default(), 4));
    let left = queue.serve(Instant::now(), |(_, tokens)| match *tokens {
        1 => Offer::Waits,
        2 => Offer::Refused("never"),
        _ => Offer::Taken("now"),
    });
    let answers: Vec<_> = left
        .into_iter()
        .map(|left| match left {
            Left::Answered((_, tokens), with) => (tokens, with),
            Left::TooLate(_) => unreachable!("there is time"),
        })
        .collect();
    assert_eq!(answers, [(2, "never"), (3, "now"), (4, "now")]);
    assert_eq!(queue.total(), Waiting { requests: 1, tokens: 1 });
}

#[test]
fn what_cannot_meet_its_deadline_is_dropped_and_costs_its_flow_nothing() {
    let mut queue = FairQueue::new(ROOMY);
    let now = Instant::now();
    let late = Ask { latest: now, ..ask("a", Share::default(), 1000) };
    push(&mut queue, late);
    push(&mut queue, ask("a", Share::default(), 1));
    push(&mut queue, ask("b", Share::default(), 1));
    let left = queue.serve(now, |_| Offer::<()>::Waits);
    assert_eq!(left, [Left::TooLate(("a".to_owned(), 1000))]);
    let order: Vec<_> = (0..2).filter_map(|_| serve_one(&mut queue)).collect();
    assert_eq!(order, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn what_was_served_at_once_counts_too() {
    let mut queue = FairQueue::new(ROOMY);
    queue.charge(&ask("a", Share::default(), 100));
    push(&mut queue, ask("a", Share::default(), 1));
    push(&mut queue, ask("b", Share::default(), 1));
    assert_eq!(serve_one(&mut queue), Some(("b".to_owned(), 1)));
}

#[test]
fn flows_that_went_quiet_are_forgotten() {
    let mut queue: FairQueue<Asked> = FairQueue::new(ROOMY);
    for number in 0..3 * QUIET_FLOWS_MAX {
        queue.charge(&ask(&number.to_string(), Share::default(), 1));
    }
    assert!(queue.flows.len() <= QUIET_FLOWS_MAX);
}

#[test]
fn who_would_wait_too_long_is_known_by_the_pace_of_the_queue_and_by_the_own_part_of_it() {
    let mut queue = FairQueue::new(ROOMY);
    let start = Instant::now();
    let flood = || ask("flood", Share::default(), 100);
    for _ in 0..80 {
        queue.push(start, flood(), ());
    }
    assert_eq!(queue.forecast(&flood()), None, "nothing is known yet");
    // One of 100 tokens every 100 ms: 1000 tokens a second.
    for turn in 1..=40 {
        let mut free = true;
        queue.serve(start + Duration::from_millis(100) * turn, |()| {
            if std::mem::take(&mut free) { Offer::Taken(()) } else { Offer::Stop }
        });
    }
    let seconds = |ask| queue.forecast(&ask).map(|wait| (wait.as_secs_f64() * 10.0).round() / 10.0);
    assert_eq!(seconds(flood()), Some(4.1), "40 wait before it");
    assert_eq!(seconds(ask("quiet", Share::default(), 100)), Some(0.2), "every other is its own");
    let last = share(Priority::Background, 1);
    assert_eq!(seconds(ask("quiet", last, 100)), Some(4.1), "no longer than all that waits");
}
