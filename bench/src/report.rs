//! Medians, spreads and ratios, as rows for people and for programs.

use serde::Serialize;

/// One measured quantity, ours and the peer's, in tokens per second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// One value per round.
    pub ours: Vec<f64>,
    /// The peer's values of the same rounds; empty without a peer.
    pub peer: Vec<f64>,
}

/// All rows of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Rounds, ours and the peer's taking turns.
    pub rounds: usize,
    /// Threads of each side.
    pub threads: usize,
    /// Instruction set that our kernels use.
    pub instruction_set: &'static str,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Row {
    /// Ours over the peer's, from the medians; `None` without a peer.
    pub fn ratio(&self) -> Option<f64> {
        let peer = median(&self.peer);
        (peer > 0.0).then(|| median(&self.ours) / peer)
    }
}

/// The middle value; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Smallest and largest value.
fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().copied().fold(0.0, f64::max))
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} rounds, {} threads, {}; median (least-most), tokens per second",
            self.rounds, self.threads, self.instruction_set
        )?;
        writeln!(f, "{:<34} {:>24} {:>24} {:>6}", "", "firmament", "llama.cpp", "ratio")?;
        for row in &self.rows {
            let show = |values: &[f64]| {
                let (least, most) = spread(values);
                format!("{:.1} ({least:.1}-{most:.1})", median(values))
            };
            let peer = if row.peer.is_empty() { "-".to_owned() } else { show(&row.peer) };
            let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            writeln!(f, "{:<34} {:>24} {peer:>24} {ratio:>6}", row.what, show(&row.ours))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_ratio_is_of_medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0]) - 2.5).abs() < 1e-12);
        let row = |peer| Row { what: String::new(), ours: vec![2.0, 9.0, 4.0], peer };
        assert_eq!(row(vec![8.0]).ratio(), Some(0.5));
        assert_eq!(row(Vec::new()).ratio(), None);
    }
}
