//! Leases. Postgres judges them by its own clock, so a case that needs one to run out makes it short.

use std::time::Duration;

use store::registry::Registry;
use time::OffsetDateTime;

pub const LONG: Duration = Duration::from_mins(10);
const SHORT: Duration = Duration::from_millis(50);

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

pub async fn acquire(registry: &dyn Registry, holder: &str, length: Duration) -> Option<u64> {
    registry.acquire_lease("lead", holder, length, now()).await.unwrap()
}

async fn renew(registry: &dyn Registry, holder: &str, epoch: u64) -> bool {
    registry.renew_lease("lead", holder, epoch, LONG, now()).await.unwrap()
}

/// Takes the lease as soon as it has run out.
pub async fn take_over(registry: &dyn Registry, holder: &str, length: Duration) -> u64 {
    let taken = async {
        loop {
            if let Some(epoch) = acquire(registry, holder, length).await {
                return epoch;
            }
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("it runs out")
}

pub async fn a_lease_is_one_holders_until_it_is_released_and_each_holder_has_its_epoch(
    registry: &dyn Registry,
) {
    assert_eq!(acquire(registry, "a", LONG).await, Some(1));
    assert_eq!(acquire(registry, "b", LONG).await, None);
    assert!(renew(registry, "a", 1).await);
    assert!(!renew(registry, "b", 1).await && !renew(registry, "a", 2).await);
    assert_eq!(acquire(registry, "a", LONG).await, Some(2), "its own, as after a lost answer");
    assert!(!renew(registry, "a", 1).await);
    registry.release_lease("lead", "a", 1).await.unwrap();
    assert_eq!(acquire(registry, "b", LONG).await, None, "that was not the lease of now");
    registry.release_lease("lead", "a", 2).await.unwrap();
    assert!(!renew(registry, "a", 2).await);
    assert_eq!(acquire(registry, "b", LONG).await, Some(3), "epochs go on after a release");
    let other = registry.acquire_lease("sweep", "a", LONG, now()).await.unwrap();
    assert_eq!(other, Some(1), "names are apart");
}

pub async fn a_lease_that_ran_out_is_anothers_and_the_earlier_holder_is_told(
    registry: &dyn Registry,
) {
    assert_eq!(acquire(registry, "a", SHORT).await, Some(1));
    assert_eq!(take_over(registry, "b", SHORT).await, 2);
    assert!(!renew(registry, "a", 1).await);
    registry.release_lease("lead", "a", 1).await.unwrap();
    assert!(renew(registry, "b", 2).await, "an earlier holder releases nothing");
}
