//! Who goes first where requests wait, and who has to go where too many do.
//!
//! Start-time fair queuing: a flow is what one tenant asks at one priority. Its first waiting request has
//! the tag `max(time, end of the flow's last)`, and the smallest tag goes first, so flows get tokens in
//! the ratio of their weights, whatever each asks for. A flow that was quiet begins at the time of now: it
//! passes those that flood, and saves nothing up. Tags are of the flow and not of each request, so those
//! that leave unserved cost their flow nothing.
//! Sources: Goyal, Vin, Cheng, "Start-time Fair Queuing", SIGCOMM 1996; that the longest flow gives way
//! where all is full: Suter et al., "Design Considerations for Supporting TCP with Per-flow Queueing",
//! INFOCOM 1998.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use protocol::{Priority, TenantId};
use tokio::time::Instant;

use super::pace::Pace;

/// Flows that are remembered while nothing of them waits; beyond, a flow that comes again may be one
/// request ahead of its turn.
const QUIET_FLOWS_MAX: usize = 1024;

/// Fractions of a token that a tag can tell apart, as bits.
const TAG_BITS: u32 = 32;

/// A tenant's part beside the others', and how urgent this request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How urgent.
    pub priority: Priority,
    /// The tenant's weight, at least 1.
    pub weight: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self { priority: Priority::default(), weight: 1 }
    }
}

impl Share {
    /// Tokens that it gets where one of weight 1 that nobody waits for gets one. What is less urgent is
    /// slowed down tenfold by what is more, and never stopped.
    fn weight(self) -> u128 {
        let factor: u32 = match self.priority {
            Priority::Interactive => 100,
            Priority::Batch => 10,
            Priority::Background => 1,
        };
        u128::from(factor) * u128::from(self.weight.max(1))
    }
}

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests.
    pub requests_max: usize,
    /// Tokens of prompts and answers, all together.
    pub tokens_max: u64,
}

/// What waits, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Requests.
    pub requests: usize,
    /// Their tokens.
    pub tokens: u64,
}

/// One request that is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its part.
    pub share: Share,
    /// Its tokens, prompt and answers.
    pub tokens: u64,
    /// When it is too late to begin with it.
    pub latest: Instant,
}

/// A place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    flow: Flow,
    number: u64,
}

/// What becomes of a waiting request that is offered its turn.
#[derive(Debug)]
pub enum Offer<R> {
    /// It is served, with this.
    Taken(R),
    /// It can never be served.
    Refused(R),
    /// It cannot be served now; those behind it may.
    Waits,
    /// Nothing can be served now.
    Stop,
}

/// A request that left the queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Left<T, R> {
    /// It was offered its turn and took it, or was refused.
    Answered(T, R),
    /// It was too late to begin with it.
    TooLate(T),
}

/// The requests that wait.
#[derive(Debug)]
pub struct FairQueue<T> {
    limits: QueueLimits,
    /// The tag of what was served last.
    time: u128,
    flows: HashMap<Flow, Queue<T>>,
    next: u64,
    waiting: [Waiting; Priority::ALL.len()],
    pace: Pace,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Flow {
    priority: Priority,
    tenant: TenantId,
}

#[derive(Debug)]
struct Queue<T> {
    /// Where the last that was served ends.
    end: u128,
    weight: u128,
    tokens: u64,
    entries: BTreeMap<u64, Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    tokens: u64,
    latest: Instant,
    value: T,
}

impl<T> FairQueue<T> {
    /// An empty one.
    pub fn new(limits: QueueLimits) -> Self {
        let (flows, waiting) = (HashMap::new(), Default::default());
        Self { limits, time: 0, flows, next: 0, waiting, pace: Pace::default() }
    }

    /// What waits at a priority.
    pub const fn waiting(&self, priority: Priority) -> Waiting {
        self.waiting[priority as usize]
    }

    /// Everything that waits.
    pub fn total(&self) -> Waiting {
        self.waiting.iter().fold(Waiting::default(), |sum, part| Waiting {
            requests: sum.requests + part.requests,
            tokens: sum.tokens + part.tokens,
        })
    }

    /// Notes what was served without having waited.
    pub fn charge(&mut self, ask: &Ask) {
        let time = self.time;
        let queue = self.flow(ask);
        let start = queue.end.max(time);
        queue.end = start + length(ask.tokens, queue.weight);
        self.time = start;
    }

    /// How long a request would wait, about: for what its flow has before it at the flow's part of the
    /// pace, or for all that waits if that is less. None while the pace is not known.
    pub fn forecast(&self, ask: &Ask) -> Option<Duration> {
        let flow = Flow { priority: ask.share.priority, tenant: ask.tenant.clone() };
        let waits = |queue: &&Queue<T>| !queue.entries.is_empty();
        let before = self.flows.get(&flow).map_or(0, |queue| queue.tokens);
        let own = ask.share.weight();
        let others = self.flows.iter().filter(|(of, queue)| **of != flow && waits(queue));
        let all = own + others.map(|(_, queue)| queue.weight).sum::<u128>();
        let share = self.pace.time_for((before + ask.tokens) as f64, own as f64 / all as f64)?;
        let total = self.pace.time_for((self.total().tokens + ask.tokens) as f64, 1.0)?;
        Some(share.min(total))
    }

    /// Lets a request wait from `now` on. Where that is too much, the newest of the longest flow of the
    /// least urgent priority gives way, until it is not; that may be this one, which then has no place.
    pub fn push(&mut self, now: Instant, ask: Ask, value: T) -> (Option<Place>, Vec<T>) {
        if self.total().requests == 0 {
            self.pace.begin(now);
        }
        let tokens = ask.tokens.min(self.limits.tokens_max);
        let number = self.next;
        self.next += 1;
        let queue = self.flow(&ask);
        queue.tokens += tokens;
        queue.entries.insert(number, Entry { tokens, latest: ask.latest, value });
        let flow = Flow { priority: ask.share.priority, tenant: ask.tenant };
        let waiting = &mut self.waiting[flow.priority as usize];
        (waiting.requests, waiting.tokens) = (waiting.requests + 1, waiting.tokens + tokens);
        let mut place = Some(Place { flow, number });
        let mut gone = Vec::new();
        while self.is_over() {
            let Some(last) = self.last() else { break };
            place = place.filter(|place| *place != last);
            gone.extend(self.leave(&last));
        }
        (place, gone)
    }

    /// Takes a request out, if it is still there.
    pub fn leave(&mut self, place: &Place) -> Option<T> {
        let queue = self.flows.get_mut(&place.flow)?;
        let entry = queue.entries.remove(&place.number)?;
        queue.tokens -= entry.tokens;
        let waiting = &mut self.waiting[place.flow.priority as usize];
        waiting.requests -= 1;
        waiting.tokens -= entry.tokens;
        Some(entry.value)
    }

    /// Offers each its turn, in their order, and returns those that left for it.
    pub fn serve<R>(
        &mut self,
        now: Instant,
        mut offer: impl FnMut(&mut T) -> Offer<R>,
    ) -> Vec<Left<T, R>> {
        let mut turns = self.turns();
        let mut left = Vec::new();
        let (mut served, mut tokens) = (0, 0);
        while let Some(Reverse((tag, _, number, flow))) = turns.pop() {
            let place = Place { flow, number };
            let Some(entry) = self.entry(&place) else { continue };
            let late = entry.latest <= now;
            let answer = if late { None } else { Some(offer(&mut entry.value)) };
            let tag = match answer {
                Some(Offer::Stop) => break,
                Some(Offer::Waits) => tag,
                Some(Offer::Refused(with)) => {
                    left.extend(self.leave(&place).map(|value| Left::Answered(value, with)));
                    tag
                }
                Some(Offer::Taken(with)) => {
                    (served, tokens) = (served + 1, tokens + entry.tokens);
                    let end = self.begin(&place, tag);
                    left.extend(self.leave(&place).map(|value| Left::Answered(value, with)));
                    end
                }
                None => {
                    left.extend(self.leave(&place).map(Left::TooLate));
                    tag
                }
            };
            let queue = self.flows.get(&place.flow);
            let next = queue.and_then(|queue| queue.entries.range(number + 1..).next());
            if let Some((&next, _)) = next {
                turns.push(Reverse((tag, place.flow.priority, next, place.flow)));
            }
        }
        self.pace.see(now, served, tokens);
        left
    }

    /// The first of each flow, with its tag. Where tags are the same, the more urgent goes first, then what
    /// came first.
    fn turns(&self) -> BinaryHeap<Reverse<(u128, Priority, u64, Flow)>> {
        let first = |(flow, queue): (&Flow, &Queue<T>)| {
            let number = *queue.entries.keys().next()?;
            Some(Reverse((queue.end.max(self.time), flow.priority, number, flow.clone())))
        };
        self.flows.iter().filter_map(first).collect()
    }

    fn entry(&mut self, place: &Place) -> Option<&mut Entry<T>> {
        self.flows.get_mut(&place.flow)?.entries.get_mut(&place.number)
    }

    /// Counts a request as served from `tag` on; returns where it ends.
    fn begin(&mut self, place: &Place, tag: u128) -> u128 {
        self.time = self.time.max(tag);
        let Some(queue) = self.flows.get_mut(&place.flow) else { return tag };
        let tokens = queue.entries.get(&place.number).map_or(0, |entry| entry.tokens);
        queue.end = tag + length(tokens, queue.weight);
        queue.end
    }

    fn is_over(&self) -> bool {
        let Waiting { requests, tokens } = self.total();
        requests > self.limits.requests_max || tokens > self.limits.tokens_max
    }

    /// Who gives way first.
    fn last(&self) -> Option<Place> {
        let newest = |(flow, queue): (&Flow, &Queue<T>)| {
            let number = *queue.entries.keys().next_back()?;
            let key = (flow.priority, length(queue.tokens, queue.weight), number);
            Some((key, Place { flow: flow.clone(), number }))
        };
        let all = self.flows.iter().filter_map(newest);
        all.max_by_key(|(key, _)| *key).map(|(_, place)| place)
    }

    /// The flow of a request, with the weight of now.
    fn flow(&mut self, ask: &Ask) -> &mut Queue<T> {
        if self.flows.len() >= QUIET_FLOWS_MAX {
            self.flows.retain(|_, queue| !queue.entries.is_empty());
        }
        let flow = Flow { priority: ask.share.priority, tenant: ask.tenant.clone() };
        let weight = ask.share.weight();
        let queue = self.flows.entry(flow).or_insert_with(|| Queue {
            end: 0,
            weight,
            tokens: 0,
            entries: BTreeMap::new(),
        });
        queue.weight = weight;
        queue
    }
}

/// How far tokens move a flow on.
fn length(tokens: u64, weight: u128) -> u128 {
    (u128::from(tokens.max(1)) << TAG_BITS) / weight
}

#[cfg(test)]
mod tests;
