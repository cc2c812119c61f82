//! What tenants used.

use protocol::{NodeId, TenantId};
use store::registry::{Registry, UsageBy, UsageKey, UsageQuery, UsageSum, Used};
use time::OffsetDateTime;

use crate::fixtures::{at, tenant};

fn hour(number: i64) -> OffsetDateTime {
    at(number * 3600)
}

fn key(tenant: &str, number: i64, adapter: Option<&str>, node: Option<&str>) -> UsageKey {
    UsageKey {
        tenant: TenantId::from(tenant),
        hour: hour(number),
        adapter: adapter.map(ToOwned::to_owned),
        node: node.map(NodeId::from),
    }
}

/// So many requests of 10 tokens and 2 more, 4 of them cached.
fn used(requests: u64) -> Used {
    Used {
        requests,
        refused: 0,
        prompt_tokens: 10 * requests,
        cached_tokens: 4 * requests,
        completion_tokens: 2 * requests,
    }
}

fn query(by: UsageBy) -> UsageQuery {
    UsageQuery { from: hour(0), to: hour(9), tenant: None, by, limit: 100 }
}

async fn filled(registry: &dyn Registry) {
    for id in ["acme", "other"] {
        tenant(registry, id).await;
    }
    let refused = Used { refused: 5, ..Used::default() };
    let first = [
        (key("acme", 0, None, Some("gpu")), used(1)),
        (key("acme", 1, Some("mood"), Some("gpu")), used(2)),
        (key("acme", 1, Some("mood"), Some("phone")), used(3)),
        (key("acme", 1, None, None), refused),
        (key("other", 1, None, Some("gpu")), used(7)),
    ];
    registry.add_usage(&first).await.unwrap();
    registry.add_usage(&[(key("acme", 1, Some("mood"), Some("gpu")), used(20))]).await.unwrap();
    registry.add_usage(&[]).await.unwrap();
}

fn requests(sums: &[UsageSum]) -> Vec<u64> {
    sums.iter().map(|sum| sum.used.requests).collect()
}

pub async fn what_was_used_is_summed_by_what_is_asked_for(registry: &dyn Registry) {
    filled(registry).await;
    let all = registry.usage(&query(UsageBy::default())).await.unwrap();
    let sum = Used { refused: 5, ..used(33) };
    let (hour, tenant, adapter, node) = (None, None, None, None);
    assert_eq!(all, [UsageSum { hour, tenant, adapter, node, used: sum }]);

    let by = UsageBy { tenant: true, adapter: true, ..UsageBy::default() };
    let sums = registry.usage(&query(by)).await.unwrap();
    let keys: Vec<_> = sums
        .iter()
        .map(|sum| (sum.tenant.as_ref().unwrap().as_str(), sum.adapter.as_deref().unwrap()))
        .collect();
    assert_eq!(keys, [("acme", ""), ("acme", "mood"), ("other", "")]);
    assert_eq!(requests(&sums), [1, 25, 7]);

    let by = UsageBy { hour: true, node: true, ..UsageBy::default() };
    let sums = registry.usage(&query(by)).await.unwrap();
    let keys: Vec<_> =
        sums.iter().map(|sum| (sum.hour.unwrap(), sum.node.as_ref().unwrap().as_str())).collect();
    let second = self::hour(1);
    assert_eq!(keys, [(self::hour(0), "gpu"), (second, ""), (second, "gpu"), (second, "phone")]);
    assert_eq!(requests(&sums), [1, 0, 29, 3]);
    assert_eq!(sums[1].used.refused, 5);
}

pub async fn what_was_used_is_one_tenants_and_of_the_hours_that_are_asked_for(
    registry: &dyn Registry,
) {
    filled(registry).await;
    let ask = async |from, to, tenant: Option<&str>| {
        let tenant = tenant.map(TenantId::from);
        let (from, to) = (hour(from), hour(to));
        let query = UsageQuery { from, to, tenant, ..query(UsageBy::default()) };
        requests(&registry.usage(&query).await.unwrap())
    };
    assert_eq!(ask(0, 9, Some("acme")).await, [26]);
    assert_eq!(ask(0, 1, None).await, [1], "the end is not in it");
    assert_eq!(ask(1, 2, Some("other")).await, [7]);
    assert_eq!(ask(2, 9, None).await, [0; 0]);
    let by = UsageBy { node: true, ..UsageBy::default() };
    let few = UsageQuery { limit: 2, ..query(by) };
    assert_eq!(registry.usage(&few).await.unwrap().len(), 2);
}

pub async fn what_was_used_leaves_by_age(registry: &dyn Registry) {
    filled(registry).await;
    assert_eq!(registry.prune_usage(hour(1), 9).await.unwrap(), 1);
    assert_eq!(registry.prune_usage(hour(2), 3).await.unwrap(), 3, "no more than asked");
    assert_eq!(registry.prune_usage(hour(2), 9).await.unwrap(), 1);
    assert!(registry.usage(&query(UsageBy::default())).await.unwrap().is_empty());
}
