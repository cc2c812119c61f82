//! What a run is made of: everything that decides its result besides firmware and data.

use serde::{Deserialize, Serialize};

use super::{LoraSettings, OptimizerSettings, Schedule, TrainError};
use crate::backbone::Projection;

/// Largest rank.
const RANK_MAX: u32 = 256;

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// What is trained.
    pub lora: LoraSettings,
    /// How it is updated.
    pub optimizer: OptimizerSettings,
    /// How often each example is seen.
    pub epochs: u32,
    /// Examples of one update.
    pub batch: u32,
    /// Tokens that are computed at once; a batch that has more is computed in parts whose gradients add up.
    pub part_tokens: u32,
    /// Decides the first values and the order of the examples.
    pub seed: u64,
    /// Updates between looks at the held-out examples; at each epoch's end if none.
    pub validate_every: Option<u32>,
    /// Looks without a better loss after which training ends; 0 never ends it early.
    pub patience: u32,
}

impl Default for TrainSettings {
    fn default() -> Self {
        use Projection::{K, O, Q, V};
        let (rank, targets) = (8, vec![Q, K, V, O]);
        Self {
            lora: LoraSettings { rank, alpha: 16.0, rank_stabilised: false, targets },
            optimizer: OptimizerSettings {
                learning_rate: 5e-4,
                schedule: Schedule::Linear,
                warmup: 0.05,
                weight_decay: 0.0,
                clip_norm: 1.0,
            },
            epochs: 3,
            batch: 16,
            part_tokens: 512,
            seed: 0,
            validate_every: None,
            patience: 0,
        }
    }
}

impl TrainSettings {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`TrainError::Setting`] that says what is possible.
    pub fn check(&self) -> Result<(), TrainError> {
        let Self { lora, optimizer, .. } = self;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let rules = [
            ((1..=RANK_MAX).contains(&lora.rank), "a rank is 1 to 256"),
            (positive(lora.alpha), "alpha is a positive number"),
            (!lora.targets.is_empty(), "at least one projection is to be trained"),
            (positive(optimizer.learning_rate), "a learning rate is a positive number"),
            ((0.0..1.0).contains(&optimizer.warmup), "warm-up is a share from 0 to below 1"),
            ((0.0..=1.0).contains(&optimizer.weight_decay), "weight decay is 0 to 1"),
            (positive(optimizer.clip_norm), "the longest gradient is a positive number"),
            (self.epochs > 0, "there is at least one epoch"),
            (self.batch > 0, "a batch has at least one example"),
            (self.part_tokens > 0, "at least one token is computed at once"),
            (self.validate_every != Some(0), "there is at least one update between validations"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(TrainError::Setting(rule.to_owned())),
            None => Ok(()),
        }
    }
}
