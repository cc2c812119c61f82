//! Scores of held-out rows, as the serving engine answers them: what is measured is what serves.
//! Owns: how answers are asked for and counted. Never: training, which rows are held out.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use protocol::{AdapterUse, Constraint, ErrorCode, Event, GenerateWork, Prompt, Work, WorkError};
use serde::{Deserialize, Serialize};

use super::data::{Prompting, Row};
use crate::Engine;
use crate::load::LoadedFirmware;
use crate::runtime::EventStream;

/// Requests that are under way at once: enough to fill a batch.
const REQUESTS: usize = 32;
/// Whose cache is used.
const TENANT: &str = "evaluation";

/// Scores of one way to answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// Of rows with a label.
    Labels {
        /// Share of right answers.
        accuracy: f64,
        /// Mean over the labels of the harmonic mean of precision and recall.
        macro_f1: f64,
    },
    /// Of other rows: mean of `-ln p` over the tokens of the right answers, nats.
    Loss(f64),
}

/// Base and adapter side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Rows that were asked.
    pub rows: usize,
    /// Always saying the commonest label; none where rows are not classified.
    pub majority: Option<Scores>,
    /// The base without the adapter.
    pub base: Scores,
    /// With it.
    pub adapter: Scores,
}

impl Evaluation {
    /// As a table for people, in Markdown.
    pub fn table(&self) -> String {
        let head = match self.base {
            Scores::Labels { .. } => ["accuracy", "macro F1"],
            Scores::Loss(_) => ["loss", "perplexity"],
        };
        let mut table =
            format!("| {} rows | {} | {} |\n| --- | --- | --- |\n", self.rows, head[0], head[1]);
        for (name, scores) in self.named() {
            let [first, second] = scores.cells();
            let _ = writeln!(table, "| {name} | {first} | {second} |");
        }
        table
    }

    /// Each way to answer, with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Scores)> {
        let majority = self.majority.map(|scores| ("commonest label", scores));
        majority.into_iter().chain([("base", self.base), ("adapter", self.adapter)])
    }
}

impl Scores {
    /// Both numbers for people: shares in percent, or a loss and its perplexity.
    pub fn cells(self) -> [String; 2] {
        match self {
            Self::Labels { accuracy, macro_f1 } => {
                [accuracy, macro_f1].map(|share| format!("{:.1} %", 100.0 * share))
            }
            Self::Loss(loss) => [format!("{loss:.4}"), format!("{:.2}", loss.exp())],
        }
    }
}

/// What answers are asked of, and how.
pub struct Evaluator<'e> {
    /// The serving engine.
    pub engine: &'e Engine,
    /// Its firmware.
    pub firmware: &'e LoadedFirmware,
    /// How rows are put to it.
    pub prompting: &'e Prompting,
    /// The classes; answers are held to them.
    pub labels: &'e [String],
}

impl Evaluator<'_> {
    /// Scores the base and an adapter on the same rows; `progress` gets the answers so far.
    ///
    /// # Errors
    /// [`WorkError`] of the first row that the engine cannot answer.
    pub fn compare(
        &self,
        rows: &[&Row],
        adapter: AdapterUse,
        mut progress: impl FnMut(usize),
    ) -> Result<Evaluation, WorkError> {
        let base = self.scores(rows, &[], &mut progress)?;
        let adapter = self.scores(rows, &[adapter], |done| progress(rows.len() + done))?;
        let majority = matches!(base, Scores::Labels { .. }).then(|| majority(rows));
        Ok(Evaluation { rows: rows.len(), majority, base, adapter })
    }

    /// Scores of all rows with these adapters.
    fn scores(
        &self,
        rows: &[&Row],
        adapters: &[AdapterUse],
        mut progress: impl FnMut(usize),
    ) -> Result<Scores, WorkError> {
        let mut answers = Vec::with_capacity(rows.len());
        let mut running = VecDeque::new();
        for row in rows {
            if running.len() == REQUESTS {
                answers.push(answer(running.pop_front().expect("it is full"))?);
                progress(answers.len());
            }
            let work = GenerateWork { adapters: adapters.to_vec(), ..self.work(row)? };
            running.push_back(self.engine.submit(Work::Generate(work))?);
        }
        for stream in running {
            answers.push(answer(stream)?);
            progress(answers.len());
        }
        let right = rows.iter().map(|row| row.label()).collect::<Option<Vec<_>>>();
        Ok(match right {
            Some(right) => {
                label_scores(right.into_iter().zip(answers.iter().map(|one| one.text.as_str())))
            }
            None => self.loss(rows, &answers)?,
        })
    }

    fn work(&self, row: &Row) -> Result<GenerateWork, WorkError> {
        if row.label().is_some() {
            let labels: Vec<String> =
                self.labels.iter().map(|label| regex::escape(label)).collect();
            let constraint = Some(Constraint::Regex(format!("({})", labels.join("|"))));
            let (prompt, _) = self.prompting.ask(self.firmware, row);
            return Ok(GenerateWork { constraint, ..GenerateWork::greedy(prompt, TENANT) });
        }
        let example = self.prompting.example(self.firmware, row);
        let example = example.map_err(|reason| bad_row(format!("a row {reason}")))?;
        let work = GenerateWork::greedy(Prompt::Tokens(example.tokens), TENANT);
        Ok(GenerateWork { max_tokens: Some(0), logprobs: Some(0), prompt_logprobs: true, ..work })
    }

    fn loss(&self, rows: &[&Row], answers: &[Answer]) -> Result<Scores, WorkError> {
        let (mut sum, mut count) = (0.0, 0);
        for (row, answer) in rows.iter().zip(answers) {
            let example = self.prompting.example(self.firmware, row).map_err(bad_row)?;
            for at in example.answers.into_iter().flatten() {
                let logprob = answer.logprobs.get(at).copied().flatten();
                let missing = || bad_row(format!("token {at} of a prompt was not scored"));
                sum -= f64::from(logprob.ok_or_else(missing)?);
                count += 1;
            }
        }
        Ok(Scores::Loss(sum / f64::from(count.max(1))))
    }
}

/// Of always saying the commonest label.
fn majority(rows: &[&Row]) -> Scores {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter()
        .filter_map(|row| row.label())
        .for_each(|label| *counts.entry(label).or_default() += 1);
    let commonest = counts.iter().max_by_key(|(_, count)| **count).map_or("", |(label, _)| label);
    label_scores(rows.iter().filter_map(|row| row.label()).map(|label| (label, commonest)))
}

fn bad_row(message: String) -> WorkError {
    WorkError::new(ErrorCode::InvalidRequest, message)
}

/// What came back for one row.
#[derive(Default)]
struct Answer {
    text: String,
    /// Of the prompt's tokens.
    logprobs: Vec<Option<f32>>,
}

fn answer(mut stream: EventStream) -> Result<Answer, WorkError> {
    let mut answer = Answer::default();
    while let Some(event) = stream.blocking_next() {
        match event? {
            Event::Text { text, .. } => answer.text += &text,
            Event::Prompt { logprobs, .. } => {
                answer.logprobs.extend(logprobs.into_iter().map(|token| token.logprob));
            }
            _ => {}
        }
    }
    Ok(answer)
}

/// Scores of pairs of right and given answer.
fn label_scores<'l>(pairs: impl Iterator<Item = (&'l str, &'l str)>) -> Scores {
    #[derive(Default)]
    struct Count {
        hits: usize,
        right: usize,
        given: usize,
    }
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    let (mut hits, mut all) = (0, 0usize);
    for (right, given) in pairs {
        all += 1;
        counts.entry(right).or_default().right += 1;
        counts.entry(given).or_default().given += 1;
        if right == given {
            hits += 1;
            counts.entry(right).or_default().hits += 1;
        }
    }
    // Labels that no row has are left out, as scikit-learn does with those of the right answers.
    let there = counts.values().filter(|count| count.right > 0);
    let f1: Vec<f64> =
        there.map(|count| 2.0 * count.hits as f64 / (count.right + count.given) as f64).collect();
    let accuracy = f64::from(hits) / all.max(1) as f64;
    Scores::Labels { accuracy, macro_f1: f1.iter().sum::<f64>() / f1.len().max(1) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_scikit_learn() {
        // accuracy_score and f1_score(average="macro") of the same lists.
        let right = ["a", "a", "b", "b", "c", "c"];
        let given = ["a", "b", "b", "b", "a", "c"];
        let Scores::Labels { accuracy, macro_f1 } = label_scores(right.into_iter().zip(given))
        else {
            panic!("labels have shares");
        };
        assert!((accuracy - 4.0 / 6.0).abs() < 1e-12);
        assert!((macro_f1 - (0.5 + 0.8 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
    }
}
