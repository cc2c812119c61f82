//! How much of the processor others used while something was measured.

use std::time::Instant;

/// A moment, with what the processor has done until then.
#[derive(Debug)]
pub(crate) struct Watch {
    since: Instant,
    /// Children that run all the while.
    children: Vec<u32>,
    busy_ticks: u64,
    own_ticks: u64,
}

/// Ticks of `/proc` per second on every Linux that Rust's standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Watch {
    /// `children` are processes that this one has started and that go on. `None` where the system
    /// does not tell.
    pub(crate) fn start(children: &[u32]) -> Option<Self> {
        let (busy_ticks, own_ticks) = (busy_ticks()?, own_ticks(children)?);
        Some(Self { since: Instant::now(), children: children.to_vec(), busy_ticks, own_ticks })
    }

    /// Share of all cores' time since the start that neither this process and its children that go
    /// on used, nor children that it has waited for, 0 to 1.
    pub(crate) fn foreign_share(&self) -> Option<f64> {
        let busy = busy_ticks()?.saturating_sub(self.busy_ticks);
        let own = own_ticks(&self.children)?.saturating_sub(self.own_ticks);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let all = self.since.elapsed().as_secs_f64() * cores * TICKS_PER_SECOND;
        Some(busy.saturating_sub(own) as f64 / all.max(1.0))
    }
}

/// Ticks of all cores that were not idle; time that the host gave to other guests counts.
fn busy_ticks() -> Option<u64> {
    busy(std::fs::read_to_string("/proc/stat").ok()?.lines().next()?)
}

fn busy(line: &str) -> Option<u64> {
    let fields: Vec<u64> = line.split_whitespace().skip(1).map_while(|f| f.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, rest @ ..] = &fields[..] else { return None };
    // Interrupts and stolen time; what follows is part of the user's time already.
    Some(user + nice + system + rest.iter().take(3).sum::<u64>())
}

/// Ticks of this process, of children that have ended, and of those that go on.
fn own_ticks(children: &[u32]) -> Option<u64> {
    let children = children.iter().map(|id| format!("/proc/{id}/stat"));
    let ticks = |path: String| own(&std::fs::read_to_string(path).ok()?);
    children.chain(["/proc/self/stat".to_owned()]).map(ticks).sum()
}

fn own(stat: &str) -> Option<u64> {
    // The name in brackets may hold anything, so count from behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields = fields.split_whitespace().skip(11).take(4);
    Some(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_leaves_idle_and_guests_out() {
        assert_eq!(busy("cpu  1 2 4 1000 1000 8 16 32 64 128"), Some(63));
        assert_eq!(busy("cpu 1 2"), None);
    }

    #[test]
    fn own_time_is_the_processes_and_its_childrens_whatever_its_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0";
        assert_eq!(own(stat), Some(127));
    }
}
