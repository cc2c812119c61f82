//! The measures of an evaluation, from counts. Pure.
//! Source: macro-F1 is the mean of the labels' F1, over labels that were wanted or chosen
//! (Sokolova and Lapalme 2009, table 3).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What one side answered; none if it failed.
pub type Side = Option<String>;

/// What was counted over some examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    examples: u64,
    /// Examples that both sides answered with the same text.
    same: u64,
    model: Counts,
    base: Option<Counts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Counts {
    right: u64,
    failed: u64,
    /// How often each label was wanted (row) and chosen (column).
    chosen: Vec<Vec<u64>>,
    /// How often each label was wanted.
    wanted: Vec<u64>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(labels: usize, with_base: bool) -> Self {
        let none = || Counts {
            chosen: vec![vec![0; labels]; labels],
            wanted: vec![0; labels],
            ..Counts::default()
        };
        Self { examples: 0, same: 0, model: none(), base: with_base.then(none) }
    }

    /// Counts one example.
    pub fn count(
        &mut self,
        labels: Option<&[String]>,
        wanted: &str,
        model: &Side,
        base: Option<&Side>,
    ) {
        self.examples += 1;
        self.same += u64::from(base.is_some_and(|base| base == model && model.is_some()));
        self.model.count(labels, wanted, model);
        if let (Some(counts), Some(base)) = (&mut self.base, base) {
            counts.count(labels, wanted, base);
        }
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.examples += other.examples;
        self.same += other.same;
        self.model.add(&other.model);
        if let (Some(base), Some(other)) = (&mut self.base, &other.base) {
            base.add(other);
        }
    }

    /// Examples that a side could not answer.
    pub fn failed(&self) -> u64 {
        self.model.failed.max(self.base.as_ref().map_or(0, |base| base.failed))
    }

    /// The measures.
    pub fn report(&self, model: &str, base: Option<&str>, labels: Option<&[String]>) -> Value {
        let side = |name: &str, counts: &Counts| counts.report(name, self.examples, labels);
        let mut report = json!({
            "examples": self.examples,
            "metric": if labels.is_some() { "label" } else { "exact_match" },
            "labels": labels,
            "model": side(model, &self.model),
        });
        if let (Some(name), Some(counts)) = (base, &self.base) {
            let equal = self.same == self.examples;
            report["base"] = side(name, counts);
            report["same_answers"] = json!(self.same);
            report["equal"] = json!(equal);
            if equal {
                report["note"] = json!(format!("`{model}` answered every example as `{name}` did"));
            }
        }
        report
    }
}

impl Counts {
    fn count(&mut self, labels: Option<&[String]>, wanted: &str, answer: &Side) {
        let Some(answer) = answer else {
            self.failed += 1;
            self.place(labels, wanted, None);
            return;
        };
        self.right += u64::from(answer == wanted);
        self.place(labels, wanted, Some(answer));
    }

    fn place(&mut self, labels: Option<&[String]>, wanted: &str, answer: Option<&str>) {
        let Some(labels) = labels else { return };
        let place = |text: &str| labels.iter().position(|label| label.trim() == text);
        let Some(row) = place(wanted) else { return };
        self.wanted[row] += 1;
        if let Some(column) = answer.and_then(place) {
            self.chosen[row][column] += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.failed += other.failed;
        for (own, more) in self.wanted.iter_mut().zip(&other.wanted) {
            *own += more;
        }
        for (own, more) in self.chosen.iter_mut().flatten().zip(other.chosen.iter().flatten()) {
            *own += more;
        }
    }

    fn report(&self, name: &str, examples: u64, labels: Option<&[String]>) -> Value {
        let right = ratio(self.right, examples);
        match labels {
            None => json!({ "name": name, "exact_match": right, "failed": self.failed }),
            Some(_) => json!({
                "name": name,
                "accuracy": right,
                "macro_f1": self.macro_f1(),
                "failed": self.failed,
                "confusion": self.chosen,
            }),
        }
    }

    fn macro_f1(&self) -> f64 {
        let f1 = |label: usize| {
            let right = self.chosen[label][label];
            let chosen: u64 = self.chosen.iter().map(|row| row[label]).sum();
            let seen = self.wanted[label] + chosen;
            (seen > 0).then(|| 2.0 * right as f64 / seen as f64)
        };
        let scores: Vec<f64> = (0..self.wanted.len()).filter_map(f1).collect();
        if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["bad", "good", "unused"].map(str::to_owned).to_vec()
    }

    fn tally(pairs: &[(&str, Option<&str>, Option<&str>)]) -> Tally {
        let mut tally = Tally::new(3, true);
        for (wanted, model, base) in pairs {
            let side = |answer: Option<&str>| answer.map(str::to_owned);
            tally.count(Some(&labels()), wanted, &side(*model), Some(&side(*base)));
        }
        tally
    }

    #[test]
    fn accuracy_and_macro_f1_are_those_of_the_definition() {
        // Wanted good 3, bad 1; chosen good 3 (2 right), bad 1 (0 right): F1 good 2/3, bad 0.
        let counted = tally(&[
            ("good", Some("good"), Some("good")),
            ("good", Some("good"), Some("bad")),
            ("good", Some("bad"), Some("good")),
            ("bad", Some("good"), Some("good")),
        ]);
        let report = counted.report("mood", Some("tiny"), Some(&labels()));
        assert_eq!(report["model"]["accuracy"], 0.5);
        let f1 = report["model"]["macro_f1"].as_f64().expect("a number");
        assert!((f1 - 1.0 / 3.0).abs() < 1e-12, "{f1}");
        assert_eq!((&report["equal"], &report["same_answers"]), (&json!(false), &json!(2)));
    }

    #[test]
    fn what_failed_is_wrong_and_counted() {
        let counted = tally(&[("good", None, Some("good")), ("bad", Some("bad"), Some("bad"))]);
        let report = counted.report("mood", Some("tiny"), Some(&labels()));
        assert_eq!((counted.failed(), &report["model"]["failed"]), (1, &json!(1)));
        assert_eq!(report["model"]["accuracy"], 0.5);
    }

    #[test]
    fn an_adapter_that_answers_as_its_base_is_called_equal() {
        let counted = tally(&[("good", Some("bad"), Some("bad"))]);
        let report = counted.report("mood", Some("tiny"), Some(&labels()));
        assert_eq!(report["equal"], true);
        assert!(report["note"].as_str().expect("a note").contains("`mood`"));
    }

    #[test]
    fn steps_add_up_to_the_whole() {
        let one = [("good", Some("good"), Some("bad")), ("bad", None, Some("bad"))];
        let other = [("bad", Some("good"), Some("good"))];
        let mut sum = tally(&one);
        sum.add(&tally(&other));
        let whole: Vec<_> = one.into_iter().chain(other).collect();
        assert_eq!(sum, tally(&whole));
    }
}
