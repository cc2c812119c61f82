//! One run: update after update, with looks at held-out examples, until it is done.
//! Owns: the order of the examples, when to validate, when to stop. Never: files, a clock.

use candle_core::Tensor;
use rayon::ThreadPool;

use super::batch::{Batch, Example};
use super::lora::Lora;
use super::model::Model;
use super::optimizer::{Moments, clip};
use super::{TrainError, TrainSettings};
use crate::runtime::uniform;

/// Keeps the draws of the order apart from those of the first values.
const ORDER: u64 = 0x6f72_6465_7200_0000;

/// The examples of a run.
#[derive(Debug, Clone, Default)]
pub struct TrainData {
    /// To learn from.
    pub train: Vec<Example>,
    /// Held out, to see when to stop; may be empty.
    pub valid: Vec<Example>,
}

/// What one update did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Updates so far.
    pub step: u64,
    /// Mean loss of the batch's targets before the update, nats.
    pub loss: f64,
    /// Length of the gradient before it was shortened.
    pub norm: f64,
    /// Learning rate of the update.
    pub rate: f64,
    /// Tokens that were computed for it.
    pub tokens: usize,
    /// Mean loss of the held-out targets after it, if it was time to look.
    pub valid_loss: Option<f64>,
}

/// The best that was seen at a validation.
pub(super) struct Best {
    pub(super) loss: f64,
    pub(super) step: u64,
    pub(super) values: Vec<Tensor>,
}

/// How far a run is: all that changes in it.
pub(super) struct State {
    pub(super) step: u64,
    pub(super) lora: Lora,
    pub(super) moments: Moments,
    pub(super) best: Option<Best>,
    /// Validations since the best.
    pub(super) stale: u32,
}

/// A run of training.
pub struct Trainer {
    pub(super) model: Model,
    pub(super) settings: TrainSettings,
    pub(super) state: State,
    data: TrainData,
    pool: ThreadPool,
}

impl Trainer {
    pub(super) fn begin(
        model: Model,
        settings: TrainSettings,
        data: TrainData,
        threads: usize,
    ) -> Result<Self, TrainError> {
        settings.check()?;
        if data.train.is_empty() {
            return Err(TrainError::Data("there is no example to learn from".to_owned()));
        }
        let shape = &model.backbone.config.shape;
        let lora = Lora::new(shape, settings.lora.clone(), settings.seed, &model.device)?;
        let moments = Moments::new(&lora)?;
        let state = State { step: 0, lora, moments, best: None, stale: 0 };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.thread_name(|index| format!("train-{index}")).build()?;
        Ok(Self { model, settings, state, data, pool })
    }

    /// Updates that a whole run makes.
    pub fn steps(&self) -> u64 {
        u64::from(self.settings.epochs) * self.epoch_steps()
    }

    /// Updates that were made.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// Its settings.
    pub fn settings(&self) -> &TrainSettings {
        &self.settings
    }

    /// The update after which the held-out loss was least, and that loss.
    pub fn best(&self) -> Option<(u64, f64)> {
        self.state.best.as_ref().map(|best| (best.step, best.loss))
    }

    /// Examples to learn from.
    pub fn examples(&self) -> usize {
        self.data.train.len()
    }

    fn epoch_steps(&self) -> u64 {
        self.data.train.len().div_ceil(self.settings.batch as usize) as u64
    }

    /// Whether there is nothing left to do.
    pub fn is_done(&self) -> bool {
        let Self { settings, state, .. } = self;
        let gave_up = settings.patience > 0 && state.stale >= settings.patience;
        gave_up || state.step >= self.steps()
    }

    /// Makes the next update; none if the run is done.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] if the loss is no number; then nothing was updated.
    pub fn advance(&mut self) -> Result<Option<StepReport>, TrainError> {
        if self.is_done() {
            return Ok(None);
        }
        let examples = self.next_batch();
        let rate = self.settings.optimizer.rate(self.state.step, self.steps());
        let tokens = examples.iter().map(|index| self.data.train[*index].tokens.len()).sum();
        let (loss, norm) = self.learn(&examples, rate)?;
        let valid_loss = if self.is_time_to_validate() { self.validate()? } else { None };
        let step = self.state.step;
        Ok(Some(StepReport { step, loss, norm, rate, tokens, valid_loss }))
    }

    /// Indices of the examples of the next update; each epoch has an order of its own.
    fn next_batch(&self) -> Vec<usize> {
        let (batch, per_epoch) = (self.settings.batch as usize, self.epoch_steps());
        let (epoch, within) = (self.state.step / per_epoch, self.state.step % per_epoch);
        let order = shuffled(self.data.train.len(), self.settings.seed ^ ORDER, epoch);
        order.into_iter().skip(within as usize * batch).take(batch).collect()
    }

    /// One update from these examples: the loss before it and the gradient's length.
    pub(super) fn learn(
        &mut self,
        examples: &[usize],
        rate: f64,
    ) -> Result<(f64, f64), TrainError> {
        let Self { model, settings, state, data, pool } = self;
        let examples: Vec<&Example> = examples.iter().map(|index| &data.train[*index]).collect();
        let targets = examples.iter().map(|example| example.targets()).sum::<usize>();
        let scale = (targets as f32).recip();
        let (loss, mut gradients) = pool.install(|| {
            let mut all: Option<(f64, Vec<Tensor>)> = None;
            for part in Batch::cut(&examples, settings.part_tokens as usize) {
                let (loss, of) = model.gradients(&Batch::new(part), &state.lora, scale)?;
                all = Some(match all {
                    None => (loss, of),
                    Some((sum, before)) => {
                        let added = before.iter().zip(&of).map(|(before, of)| before + of);
                        (sum + loss, added.collect::<candle_core::Result<_>>()?)
                    }
                });
            }
            candle_core::Result::Ok(all.unwrap_or_default())
        })?;
        let loss = loss / targets as f64;
        let norm = clip(&mut gradients, settings.optimizer.clip_norm)?;
        if !(loss.is_finite() && norm.is_finite()) {
            return Err(TrainError::NotFinite { step: state.step + 1 });
        }
        let count = state.step + 1;
        state.moments.update(&state.lora, &gradients, &settings.optimizer, (rate, count))?;
        state.step = count;
        Ok((loss, norm))
    }

    fn is_time_to_validate(&self) -> bool {
        let every = self.settings.validate_every.map_or(self.epoch_steps(), u64::from);
        let step = self.state.step;
        !self.data.valid.is_empty() && (step.is_multiple_of(every) || step == self.steps())
    }

    /// Mean loss of the held-out targets with the adapter as it is now, nats.
    ///
    /// # Errors
    /// [`TrainError::Tensor`] only.
    pub fn held_out_loss(&self) -> Result<f64, TrainError> {
        self.loss(&self.data.valid)
    }

    /// Mean loss of the held-out targets; remembers the values if it is the least so far.
    fn validate(&mut self) -> Result<Option<f64>, TrainError> {
        let loss = self.held_out_loss()?;
        let state = &mut self.state;
        if state.best.as_ref().is_none_or(|best| loss < best.loss) {
            state.best = Some(Best { loss, step: state.step, values: state.lora.snapshot()? });
            state.stale = 0;
        } else {
            state.stale += 1;
        }
        Ok(Some(loss))
    }

    /// Mean loss of the targets of `examples`.
    fn loss(&self, examples: &[Example]) -> Result<f64, TrainError> {
        let examples: Vec<&Example> = examples.iter().collect();
        let sum = self.pool.install(|| {
            let mut sum = 0.0;
            for part in Batch::cut(&examples, self.settings.part_tokens as usize) {
                sum += self.model.loss(&Batch::new(part), &self.state.lora)?;
            }
            candle_core::Result::Ok(sum)
        })?;
        let targets: usize = examples.iter().map(|example| example.targets()).sum();
        Ok(sum / targets as f64)
    }

    /// Takes the best values that were seen, where there was a validation.
    ///
    /// # Errors
    /// [`TrainError::Tensor`] only.
    pub fn finish(&mut self) -> Result<(), TrainError> {
        if let Some(best) = &self.state.best {
            self.state.lora.restore(&best.values)?;
        }
        Ok(())
    }
}

/// `0..count` in an order that `seed` and `round` decide.
pub(super) fn shuffled(count: usize, seed: u64, round: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_cached_key(|index| {
        let draw = uniform(seed, round << 32 | *index as u64);
        (draw.to_bits(), *index) // not negative, so bits are in the order of the numbers
    });
    order
}
