//! What is trained: a low-rank pair beside each targeted projection.
//! Owns: its settings, its first values, its names. Never: files, updates.

use candle_core::{Device, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::backbone::{BackboneShape, Projection};
use crate::runtime::uniform;

/// Which low-rank pairs an adapter has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraSettings {
    /// Inner size of each pair.
    pub rank: u32,
    /// Deltas are multiplied by this over the rank.
    pub alpha: f64,
    /// Divide by the root of the rank instead (rsLoRA, arXiv:2312.03732).
    pub rank_stabilised: bool,
    /// The projections that get a pair, in every layer.
    pub targets: Vec<Projection>,
}

impl LoraSettings {
    /// What deltas are multiplied with.
    pub fn scale(&self) -> f32 {
        let rank = f64::from(self.rank);
        (self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }) as f32
    }
}

/// One pair: A is `(rank, d_in)`, B is `(d_out, rank)`.
pub(super) struct Pair {
    pub(super) a: Var,
    pub(super) b: Var,
}

/// All pairs of an adapter that is being trained.
pub(super) struct Lora {
    pub(super) layers: Vec<[Option<Pair>; 7]>,
    pub(super) settings: LoraSettings,
}

impl Lora {
    /// As PEFT starts: A uniform within the inverse root of its input size (Kaiming with `a` of
    /// the root of 5), B zero. The seed and an element's place decide its value.
    pub(super) fn new(
        shape: &BackboneShape,
        settings: LoraSettings,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let rank = settings.rank as usize;
        let pair = |layer: usize, projection: Projection| {
            let (d_in, d_out) = shape.dims(projection);
            let bound = (d_in as f64).sqrt().recip();
            let matrix = (Projection::ALL.len() * layer + projection as usize) as u64;
            let value = |element: u64| uniform(seed, matrix << 32 | element).mul_add(2.0, -1.0);
            let a = (0..(rank * d_in) as u64).map(|element| (bound * value(element)) as f32);
            let a = Var::from_vec(a.collect(), (rank, d_in), device)?;
            let b = Var::from_vec(vec![0.0f32; d_out * rank], (d_out, rank), device)?;
            Result::Ok(Pair { a, b })
        };
        let layer = |layer: usize| {
            let mut pairs = [const { None }; 7];
            for projection in &settings.targets {
                pairs[*projection as usize] = Some(pair(layer, *projection)?);
            }
            Ok(pairs)
        };
        let layers = (0..shape.layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, settings })
    }

    /// The pair of a projection, if it has one, with its rank and scale.
    pub(super) fn pair(&self, layer: usize, of: Projection) -> Option<(&Pair, usize, f32)> {
        let pair = self.layers[layer][of as usize].as_ref()?;
        Some((pair, self.settings.rank as usize, self.settings.scale()))
    }

    /// Every matrix under the name that PEFT gives it; always in the same order.
    pub(super) fn matrices(&self) -> impl Iterator<Item = (String, &Var)> {
        self.layers.iter().enumerate().flat_map(|(layer, pairs)| {
            Projection::ALL.into_iter().flat_map(move |projection| {
                let module = format!("base_model.model.{}", projection.peft_path(layer));
                let pair = pairs[projection as usize].as_ref();
                pair.into_iter().flat_map(move |pair| {
                    let name = |matrix: &str| format!("{module}.lora_{matrix}.weight");
                    [(name("A"), &pair.a), (name("B"), &pair.b)]
                })
            })
        })
    }

    /// The same without names.
    pub(super) fn vars(&self) -> impl Iterator<Item = &Var> {
        self.layers.iter().flatten().flatten().flat_map(|pair| [&pair.a, &pair.b])
    }

    /// The values as they are now.
    pub(super) fn snapshot(&self) -> Result<Vec<Tensor>> {
        self.vars().map(|var| var.as_tensor().copy().map(|copy| copy.detach())).collect()
    }

    /// Takes values of a snapshot.
    pub(super) fn restore(&self, values: &[Tensor]) -> Result<()> {
        self.vars().zip(values).try_for_each(|(var, value)| var.set(value))
    }
}
