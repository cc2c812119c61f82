//! Who uses which page of the KV cache.
//! Owns: the free list, the counts of users, the prefix cache's share. Never: the memory itself.

use super::prefix::{PrefixCache, Scope};
use crate::backbone::PAGE_TOKENS;

/// Pages of the KV cache by number.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Free pages; the last is handed out next, so that few pages are ever touched.
    free: Vec<u32>,
    /// Users of each page: sequences, and the prefix cache.
    users: Vec<u32>,
    prefix: PrefixCache,
    /// Pages that only the prefix cache uses.
    idle: usize,
}

impl Pages {
    pub(crate) fn new(count: usize) -> Self {
        let free = (0..count as u32).rev().collect();
        Self { free, users: vec![0; count], prefix: PrefixCache::default(), idle: 0 }
    }

    /// All pages.
    pub(crate) fn total(&self) -> usize {
        self.users.len()
    }

    /// Pages that can be had now, evicting idle ones.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle
    }

    /// How many pages hold this many tokens.
    pub(crate) const fn needed(tokens: usize) -> usize {
        tokens.div_ceil(PAGE_TOKENS)
    }

    /// Lengthens a sequence's list so that it holds `tokens`; all or nothing.
    pub(crate) fn grow(&mut self, pages: &mut Vec<u32>, tokens: usize) -> bool {
        let missing = Self::needed(tokens).saturating_sub(pages.len());
        if missing > self.available() {
            return false;
        }
        pages.extend((0..missing).map(|_| self.take()));
        true
    }

    /// The pages of the longest remembered beginning of `tokens`, now used by the caller too.
    pub(crate) fn reuse(&mut self, scope: &Scope, tokens: &[u32]) -> Vec<u32> {
        let pages = self.prefix.find(scope, tokens);
        for &page in &pages {
            if self.users[page as usize] == 1 {
                self.idle -= 1;
            }
            self.users[page as usize] += 1;
        }
        pages
    }

    /// Remembers the whole pages of `tokens` for others of the scope.
    pub(crate) fn remember(&mut self, scope: &Scope, tokens: &[u32], pages: &[u32]) {
        for page in self.prefix.insert(scope, tokens, pages) {
            self.users[page as usize] += 1;
        }
    }

    /// Gives a sequence's pages back.
    pub(crate) fn release(&mut self, pages: &mut Vec<u32>) {
        for page in pages.drain(..) {
            self.drop_user(page);
        }
    }

    /// Share of all pages that sequences use, 0 to 1.
    pub(crate) fn used_ratio(&self) -> f32 {
        1.0 - self.available() as f32 / self.total() as f32
    }

    fn take(&mut self) -> u32 {
        let page = self.free.pop().unwrap_or_else(|| {
            let users = &self.users;
            let page = self.prefix.evict(|page| users[page as usize] == 1);
            self.idle -= 1;
            page.expect("an idle page is a leaf or has an idle leaf below it")
        });
        self.users[page as usize] = 1;
        page
    }

    fn drop_user(&mut self, page: u32) {
        let users = &mut self.users[page as usize];
        *users -= 1;
        match *users {
            0 => self.free.push(page),
            1 if self.prefix.holds(page) => self.idle += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope { tenant: "t".into(), adapters: Vec::new() }
    }

    #[test]
    fn a_sequence_gets_all_the_pages_it_needs_or_none() {
        let mut pages = Pages::new(3);
        let mut mine = Vec::new();
        assert!(!pages.grow(&mut mine, 49));
        assert!(mine.is_empty());
        assert!(pages.grow(&mut mine, 48));
        assert_eq!(pages.available(), 0);
        pages.release(&mut mine);
        assert_eq!(pages.available(), 3);
    }

    #[test]
    fn remembered_pages_are_shared_then_idle_then_evicted() {
        let mut pages = Pages::new(3);
        let tokens: Vec<u32> = (0..32).collect();
        let mut first = Vec::new();
        assert!(pages.grow(&mut first, 32));
        pages.remember(&scope(), &tokens, &first);
        let mut second = pages.reuse(&scope(), &tokens);
        assert_eq!(second, first);
        pages.release(&mut first);
        assert_eq!(pages.available(), 1, "the second sequence still uses both");
        pages.release(&mut second);
        assert_eq!(pages.available(), 3, "idle pages can be had");
        let mut third = Vec::new();
        assert!(pages.grow(&mut third, 48), "by evicting them");
        assert!(pages.reuse(&scope(), &tokens).is_empty());
        pages.release(&mut third);
        assert_eq!((pages.free.len(), pages.idle), (3, 0));
    }
}
