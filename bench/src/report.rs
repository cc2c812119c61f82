//! Medians, spreads and ratios, as rows for people and for programs.

use serde::Serialize;

/// One measured quantity, ours beside another's of the same rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What the other values are: a peer's, a bound's, ours under other conditions.
    pub beside: &'static str,
    /// The unit of all values. A ratio above 1 is good news only where more is better.
    pub unit: &'static str,
    /// One value per round.
    pub ours: Vec<f64>,
    /// The other's values of the same rounds; empty without one.
    pub others: Vec<f64>,
}

/// All rows of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Rounds, ours and the other's taking turns.
    pub rounds: usize,
    /// Rounds that were measured again because others used the processor meanwhile.
    pub repeated: usize,
    /// Threads of each side.
    pub threads: usize,
    /// Instruction set that our kernels use.
    pub instruction_set: &'static str,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Row {
    /// A row without values.
    pub const fn new(what: String, beside: &'static str, unit: &'static str) -> Self {
        Self { what, beside, unit, ours: Vec::new(), others: Vec::new() }
    }

    /// Quartiles of ours over the other's, round by round: lower, median, upper. `None` without
    /// another's values.
    pub fn ratios(&self) -> Option<[f64; 3]> {
        let pairs = self.ours.iter().zip(&self.others);
        let ratios: Vec<f64> = pairs.map(|(ours, other)| ours / other).collect();
        (!ratios.is_empty()).then(|| [0.25, 0.5, 0.75].map(|at| quantile(&ratios, at)))
    }
}

/// The value below which the share `at` of all values lies, between neighbours in proportion;
/// 0 of nothing.
pub fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = at * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rounds, repeated, threads, instruction_set, rows } = self;
        writeln!(
            f,
            "{rounds} rounds ({repeated} more not counted), {threads} threads, {instruction_set}"
        )?;
        writeln!(
            f,
            "median (quartiles) of the rounds; last, of each round's two values, the ratio"
        )?;
        for row in rows {
            let show = |values: &[f64]| {
                let [low, middle, high] = [0.25, 0.5, 0.75].map(|at| quantile(values, at));
                format!("{middle:.1} ({low:.1}-{high:.1})")
            };
            write!(f, "{:<31} {:<8} {:>24}", row.what, row.unit, show(&row.ours))?;
            if let Some([low, middle, high]) = row.ratios() {
                let others = show(&row.others);
                write!(f, "  {:<17} {others:>24}", row.beside)?;
                write!(f, "  {middle:.2} ({low:.2}-{high:.2})")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        close(quantile(&[4.0, 1.0], 0.5), 2.5);
        close(quantile(&[5.0, 1.0, 2.0, 3.0, 4.0], 0.25), 2.0);
        close(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn ratios_are_of_rounds_so_that_a_slow_machine_slows_both_sides() {
        let row = |others| {
            let ours = vec![2.0, 9.0, 4.0];
            Row { ours, others, ..Row::new(String::new(), "", "") }
        };
        assert_eq!(row(vec![1.0, 3.0, 4.0]).ratios(), Some([1.5, 2.0, 2.5]));
        assert_eq!(row(Vec::new()).ratios(), None);
    }
}
