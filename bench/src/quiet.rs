//! How much of the processor others used while something was measured.

use std::time::Instant;

/// A moment, with what the processor has done until then.
pub(crate) struct Watch {
    since: Instant,
    busy_ticks: u64,
    own_ticks: u64,
}

/// Ticks of `/proc` per second on every Linux that Rust's standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Watch {
    /// `None` where the system does not tell.
    pub(crate) fn start() -> Option<Self> {
        let (busy_ticks, own_ticks) = (busy_ticks()?, own_ticks()?);
        Some(Self { since: Instant::now(), busy_ticks, own_ticks })
    }

    /// Share of all cores' time since the start that neither this process nor children that it
    /// has waited for used, 0 to 1.
    pub(crate) fn foreign_share(&self) -> Option<f64> {
        let busy = busy_ticks()?.saturating_sub(self.busy_ticks);
        let own = own_ticks()?.saturating_sub(self.own_ticks);
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

/// Ticks of this process and of children that have ended.
fn own_ticks() -> Option<u64> {
    own(&std::fs::read_to_string("/proc/self/stat").ok()?)
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
