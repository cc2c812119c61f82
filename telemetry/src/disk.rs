//! How much room there is on the disks that this process writes to.

use std::path::PathBuf;

use crate::Metrics;

/// Sets `firmament_disk_free_bytes` and `firmament_disk_size_bytes`; where there are several folders, to
/// the disk with the smallest share left. What cannot be read keeps its last value.
pub(crate) fn show(metrics: &Metrics, folders: &[PathBuf]) {
    let rooms = folders.iter().filter_map(|folder| Room::of(folder));
    let Some(least) = rooms.min_by(|a, b| a.share().total_cmp(&b.share())) else { return };
    let gauge = |name, help, bytes: u64| {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.gauge(name, help, &[]).with_label_values::<&str>(&[]).set(bytes);
    };
    gauge("disk_free_bytes", "Room that is left on the data directory's disk.", least.free);
    gauge("disk_size_bytes", "Size of the data directory's disk.", least.size);
}

#[derive(Debug, Clone, Copy)]
struct Room {
    free: u64,
    size: u64,
}

impl Room {
    #[cfg(unix)]
    fn of(folder: &std::path::Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some(Self { free: bytes(disk.f_bavail), size: bytes(disk.f_blocks) })
    }

    #[cfg(not(unix))]
    fn of(_: &std::path::Path) -> Option<Self> {
        None
    }

    fn share(self) -> f64 {
        self.free as f64 / self.size.max(1) as f64
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_there_has_room_and_one_that_is_not_changes_nothing() {
        let metrics = Metrics::new();
        metrics.watch_disk(std::path::Path::new("/there/is/no/such/folder"));
        assert!(!metrics.encode().contains("firmament_disk_free_bytes"));
        metrics.watch_disk(&std::env::temp_dir());
        let text = metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix("firmament_disk_size_bytes "));
        assert!(line.expect("it is shown").parse::<u64>().expect("a number") > 0);
    }
}
