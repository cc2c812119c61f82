//! Finds pages of the KV cache that already hold the beginning of a prompt.
//! Owns: a trie of whole pages per scope. Never: the pages' contents or counts of their users.
//!
//! A page is found by the tokens themselves, not by a hash of them, and below a root that belongs
//! to one tenant and one list of adapters: what one tenant wrote can never answer another.

use std::collections::{HashMap, HashSet};

use protocol::{GenerationId, TenantId};

use crate::backbone::PAGE_TOKENS;

/// Who may share pages: the tenant and the adapters that shaped keys and values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) tenant: TenantId,
    /// Generations and the bits of their scales; without those that shape no key and no value.
    pub(crate) adapters: Vec<(GenerationId, u32)>,
}

type PageTokens = [u32; PAGE_TOKENS];

#[derive(Debug, Default)]
pub(crate) struct PrefixCache {
    roots: HashMap<Scope, u64>,
    children: HashMap<(u64, PageTokens), u64>,
    nodes: HashMap<u64, Node>,
    held: HashSet<u32>,
    next_id: u64,
    uses: u64,
}

#[derive(Debug)]
struct Node {
    parent: u64,
    tokens: PageTokens,
    page: u32,
    children: u32,
    used: u64,
}

impl PrefixCache {
    /// Pages that hold the longest known beginning of `tokens`, in order.
    pub(crate) fn find(&mut self, scope: &Scope, tokens: &[u32]) -> Vec<u32> {
        let Some(mut at) = self.roots.get(scope).copied() else { return Vec::new() };
        self.uses += 1;
        let mut pages = Vec::new();
        for chunk in tokens.as_chunks::<PAGE_TOKENS>().0 {
            let Some(child) = self.children.get(&(at, *chunk)) else { break };
            at = *child;
            let node = self.nodes.get_mut(&at).expect("children are nodes");
            node.used = self.uses;
            pages.push(node.page);
        }
        pages
    }

    /// Remembers the whole pages of `tokens`; returns those that were not known before. The caller
    /// keeps them from being reused until [`Self::evict`] gives them back.
    pub(crate) fn insert(&mut self, scope: &Scope, tokens: &[u32], pages: &[u32]) -> Vec<u32> {
        let mut added = Vec::new();
        let chunks = tokens.as_chunks::<PAGE_TOKENS>().0;
        if chunks.is_empty() || pages.is_empty() {
            return added;
        }
        self.uses += 1;
        let mut at = self.root(scope);
        for (chunk, page) in chunks.iter().zip(pages) {
            at = match self.children.get(&(at, *chunk)) {
                Some(child) if self.nodes[child].page == *page => *child,
                // Another sequence was first. Who uses a page always uses those before it, too.
                Some(_) => break,
                None => {
                    added.push(*page);
                    self.add(at, *chunk, *page)
                }
            };
        }
        added
    }

    /// Whether a page is remembered.
    pub(crate) fn holds(&self, page: u32) -> bool {
        self.held.contains(&page)
    }

    /// Forgets the least recently used page that ends a prefix and that `is_idle` allows.
    pub(crate) fn evict(&mut self, is_idle: impl Fn(u32) -> bool) -> Option<u32> {
        let leaves = self.nodes.iter().filter(|(_, node)| node.children == 0 && is_idle(node.page));
        let (&id, _) = leaves.min_by_key(|(id, node)| (node.used, **id))?;
        let node = self.nodes.remove(&id)?;
        self.held.remove(&node.page);
        self.children.remove(&(node.parent, node.tokens));
        match self.nodes.get_mut(&node.parent) {
            Some(parent) => parent.children -= 1,
            None => self.drop_empty_root(node.parent),
        }
        Some(node.page)
    }

    fn root(&mut self, scope: &Scope) -> u64 {
        if let Some(root) = self.roots.get(scope) {
            return *root;
        }
        self.next_id += 1;
        self.roots.insert(scope.clone(), self.next_id);
        self.next_id
    }

    fn add(&mut self, parent: u64, tokens: PageTokens, page: u32) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.children.insert((parent, tokens), id);
        self.held.insert(page);
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children += 1;
        }
        self.nodes.insert(id, Node { parent, tokens, page, children: 0, used: self.uses });
        id
    }

    fn drop_empty_root(&mut self, root: u64) {
        if !self.nodes.values().any(|node| node.parent == root) {
            self.roots.retain(|_, id| *id != root);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(tenant: &str) -> Scope {
        Scope { tenant: tenant.into(), adapters: Vec::new() }
    }

    fn tokens(count: u32) -> Vec<u32> {
        (0..count).collect()
    }

    #[test]
    fn a_prefix_is_found_by_the_tenant_that_wrote_it_and_by_no_other() {
        let mut cache = PrefixCache::default();
        cache.insert(&scope("a"), &tokens(40), &[7, 8, 9]);
        assert_eq!(cache.find(&scope("a"), &tokens(64)), [7, 8], "whole pages only");
        assert_eq!(cache.find(&scope("a"), &tokens(31)), [7]);
        assert!(cache.find(&scope("b"), &tokens(64)).is_empty());
        let adapters = vec![(GenerationId(protocol::Digest::of(b"x")), 0)];
        let adapted = Scope { adapters, ..scope("a") };
        assert!(cache.find(&adapted, &tokens(64)).is_empty());
    }

    #[test]
    fn the_oldest_leaf_goes_first_and_busy_pages_stay() {
        let mut cache = PrefixCache::default();
        cache.insert(&scope("a"), &tokens(32), &[1, 2]);
        cache.insert(&scope("b"), &tokens(16), &[3]);
        cache.find(&scope("a"), &tokens(32));
        assert_eq!(cache.evict(|page| page != 3), Some(2), "3 is busy, 1 has a child");
        assert_eq!(cache.evict(|_| true), Some(3));
        assert_eq!(cache.evict(|_| true), Some(1));
        assert_eq!(cache.evict(|_| true), None);
        assert!(cache.roots.is_empty() && cache.children.is_empty());
    }

    #[test]
    fn a_known_page_is_not_added_twice() {
        let mut cache = PrefixCache::default();
        assert_eq!(cache.insert(&scope("a"), &tokens(32), &[1, 2]), [1, 2]);
        assert!(cache.insert(&scope("a"), &tokens(32), &[5, 6]).is_empty());
        assert_eq!(cache.find(&scope("a"), &tokens(32)), [1, 2]);
    }
}
