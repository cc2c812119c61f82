//! What holds when several do the same thing at once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use store::registry::{PageRequest, Registry};

use crate::fixtures::{adapter, at, serving, tenant};
use crate::fleet::{node, secret, token};

pub async fn of_racers_for_the_last_use_of_a_token_exactly_one_wins(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    token(registry, &acme, "t1", 1).await;
    let racers: Vec<_> = (0..8).map(|n| node(&format!("node{n}"))).collect();
    let secret = secret("t1");
    let ends = join_all(racers.iter().map(|node| registry.redeem_join_token(&secret, node, at(1))));
    let (won, lost): (Vec<_>, Vec<_>) = ends.await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    assert!(lost.into_iter().all(|end| end.unwrap_err().code() == "join_token_spent"));
    assert_eq!(registry.nodes(None, &PageRequest::default()).await.unwrap().items.len(), 1);
}

pub async fn of_racers_for_an_alias_exactly_one_wins(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let key = adapter(&acme, "sentiment");
    let mut targets = Vec::new();
    for version in 0..6 {
        targets.push(serving(registry, &key, version).await);
    }
    let name = &key.name;
    let ends = targets.iter().map(|target| registry.set_alias(name, target, None, at(20)));
    let (won, lost): (Vec<_>, Vec<_>) = join_all(ends).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 5));
    assert!(lost.into_iter().all(|end| end.unwrap_err().code() == "alias_moved"));
    let winner = won.into_iter().next().unwrap().unwrap();
    assert_eq!(registry.resolve(&acme, name).await.unwrap().unwrap().0, winner);
}

pub async fn concurrent_sessions_of_one_node_get_different_epochs(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    token(registry, &acme, "t1", 1).await;
    let id = registry.redeem_join_token(&secret("t1"), &node("phone"), at(1)).await.unwrap().id;
    let epochs = join_all((0..8).map(|_| registry.begin_session(&id, at(2)))).await;
    let epochs: BTreeSet<u64> = epochs.into_iter().map(Result::unwrap).collect();
    assert_eq!(epochs, (1..=8).collect());
}
