//! Binds the tensors of an adapter to the backbone's projections.
//! Owns: that each tensor has exactly one place, and each place its tensors. Never: files, caches.

use std::collections::BTreeSet;

use protocol::GenerationId;

use super::fields::unsupported;
use super::{Adapter, AdapterError, LayerPairs, LoraPair, PeftConfig};
use crate::backbone::{BackboneShape, Base, Projection};
use crate::kernels::{DenseMatrix, Linear, LowRank, Matrix, Packer, Precision, Team};
use crate::weights::{WeightFile, WeightsError};

/// What PEFT puts before the module names of the model that it wraps.
const PREFIX: &str = "base_model.model.";

/// The two spellings of a trained output head: as saved by PEFT, and as its modules are called.
const HEADS: [&str; 2] =
    ["base_model.model.lm_head.weight", "base_model.model.lm_head.modules_to_save.weight"];

/// A delta up to this part of what it is added to is kept in bytes: rounding changes it by about
/// 1 %, and so the sum by a quarter of what rounding the base's input does, 0.4 %.
const BYTES_SHARE_MAX: f32 = 0.1;

/// What an adapter may take.
#[derive(Debug, Clone, Copy)]
pub struct AdapterLimits {
    /// Largest rank.
    pub rank_max: u32,
    /// Most bytes of tensors.
    pub bytes_max: u64,
    /// Threads that repack it.
    pub threads: usize,
}

impl Adapter {
    /// Checks everything that can be checked without running the model, and copies the tensors.
    ///
    /// Fails closed: a targeted projection without its tensors, a tensor without a place, a wrong
    /// shape, an element that is not finite, or pairs that all multiply to zero.
    pub fn load<'a>(
        generation: GenerationId,
        config: &PeftConfig,
        file: &'a WeightFile,
        base: impl Into<Base<'a>>,
        limits: AdapterLimits,
    ) -> Result<Self, AdapterError> {
        let (rank, limit) = (config.rank_max(), limits.rank_max);
        if rank > limit {
            return Err(AdapterError::RankLimit { rank, limit });
        }
        refuse_embedding_targets(config)?;
        let base = base.into();
        let mut binder = Binder::new(file, base, limits.bytes_max)?;
        let layers = (0..base.shape.layers).map(|layer| binder.layer(config, layer));
        let layers: Vec<LayerPairs> = layers.collect::<Result<_, _>>()?;
        if layers.iter().flatten().all(Option::is_none) {
            return Err(AdapterError::NoTarget);
        }
        let head = if config.saves_head() { Some(binder.head(base.shape)?) } else { None };
        let packer = binder.finish()?;
        if head.is_none() && pairs(&layers).all(|pair| pair.weights.is_zero()) {
            return Err(AdapterError::NoEffect);
        }
        let team = Team::new(limits.threads).map_err(AdapterError::Memory)?;
        packer.pack(&team).map_err(AdapterError::Memory)?;
        Ok(Self::summed(generation, layers, head))
    }

    /// Adds up what the adapter has and takes.
    fn summed(
        generation: GenerationId,
        layers: Vec<LayerPairs>,
        head: Option<Box<dyn Linear>>,
    ) -> Self {
        let head_parameters = head.iter().map(|head| (head.d_in() * head.d_out()) as u64);
        let head_bytes = head.iter().map(|head| head.bytes());
        let parameters = pairs(&layers).map(|pair| pair.weights.parameters());
        let bytes = pairs(&layers).map(|pair| pair.weights.bytes());
        let table = size_of::<Self>() + size_of::<LayerPairs>() * layers.len();
        Self {
            rank_max: pairs(&layers).map(|pair| pair.weights.rank() as u32).max().unwrap_or(0),
            sites: pairs(&layers).count() as u32 + u32::from(head.is_some()),
            parameters: parameters.chain(head_parameters).sum(),
            shapes_cache: shapes_cache(&layers),
            resident_bytes: bytes.chain(head_bytes).sum::<u64>() + table as u64,
            generation,
            layers,
            head,
        }
    }
}

fn pairs(layers: &[LayerPairs]) -> impl Iterator<Item = &LoraPair> {
    layers.iter().flatten().flatten()
}

fn shapes_cache(layers: &[LayerPairs]) -> bool {
    let Some((last, others)) = layers.split_last() else { return false };
    let of_cache = [Projection::K, Projection::V].map(|projection| &last[projection as usize]);
    others.iter().flatten().chain(of_cache).any(Option::is_some)
}

/// LoRA on the embedding or the head is another computation than on a projection.
fn refuse_embedding_targets(config: &PeftConfig) -> Result<(), AdapterError> {
    let modules = ["lm_head", "model.embed_tokens"];
    match modules.into_iter().find(|module| config.targets(module)) {
        Some(module) => Err(unsupported("target_modules", &format!("LoRA on `{module}`"))),
        None => Ok(()),
    }
}

/// The shape that a tensor must have; `rank_axis` is the axis that the configuration decides.
struct Expected {
    shape: [usize; 2],
    rank_axis: Option<usize>,
}

/// The file, the names in it that have no place yet, and what is to be packed.
struct Binder<'a> {
    file: &'a WeightFile,
    base: Base<'a>,
    unbound: BTreeSet<&'a str>,
    packer: Packer,
}

impl<'a> Binder<'a> {
    fn new(file: &'a WeightFile, base: Base<'a>, bytes_max: u64) -> Result<Self, AdapterError> {
        let unbound: BTreeSet<&str> = file.names().collect();
        let tensors = unbound.iter().filter_map(|name| file.tensor(name));
        let bytes = tensors.map(|tensor| tensor.bytes().len() as u64).sum();
        if bytes > bytes_max {
            return Err(AdapterError::ByteLimit { bytes, limit: bytes_max });
        }
        Ok(Self { file, base, unbound, packer: Packer::default() })
    }

    fn layer(&mut self, config: &PeftConfig, layer: usize) -> Result<LayerPairs, AdapterError> {
        let mut pairs = LayerPairs::default();
        for projection in Projection::ALL {
            let module = projection.peft_path(layer);
            if config.targets(&module) {
                let pair = self.pair(config, &module, (layer, projection))?;
                pairs[projection as usize] = Some(pair);
            }
        }
        Ok(pairs)
    }

    fn pair(
        &mut self,
        config: &PeftConfig,
        module: &str,
        place: (usize, Projection),
    ) -> Result<LoraPair, AdapterError> {
        let (d_in, d_out) = self.base.shape.dims(place.1);
        let rank = config.rank(module) as usize;
        let a = Expected { shape: [rank, d_in], rank_axis: Some(0) };
        let b = Expected { shape: [d_out, rank], rank_axis: Some(1) };
        let a = self.matrix(&format!("{PREFIX}{module}.lora_A.weight"), &a)?;
        let b = self.matrix(&format!("{PREFIX}{module}.lora_B.weight"), &b)?;
        let scale = config.scale(module);
        let share = self.base.share(place, (&a, &b, scale));
        let small = share.is_some_and(|share| share <= BYTES_SHARE_MAX);
        let precision = if small { Precision::Bytes } else { Precision::Halves };
        let weights = LowRank::new(a, b, precision, &mut self.packer);
        Ok(LoraPair { weights, scale })
    }

    fn head(&mut self, shape: &BackboneShape) -> Result<Box<dyn Linear>, AdapterError> {
        let name = HEADS.into_iter().find(|name| self.unbound.contains(name)).unwrap_or(HEADS[0]);
        let expected = Expected { shape: [shape.vocab, shape.hidden], rank_axis: None };
        self.matrix(name, &expected)?; // is there, fits, is finite
        let tensor = self.file.tensor(name).expect("it was just read");
        let head = Matrix { tensor, d_in: shape.hidden, d_out: shape.vocab, order: None };
        Ok(head.pack(&mut self.packer).expect("shape and type are checked above"))
    }

    /// Takes the tensor called `name` and copies it; the copy is what is checked.
    fn matrix(&mut self, name: &str, expected: &Expected) -> Result<DenseMatrix, AdapterError> {
        let missing = || AdapterError::MissingTensor { name: name.to_owned() };
        let tensor = self.file.tensor(name).ok_or_else(missing)?;
        self.unbound.remove(name);
        expected.check(name, &tensor.shape)?;
        let [rows, cols] = expected.shape;
        let matrix = DenseMatrix::from_bytes(tensor.dtype, rows, cols, tensor.bytes());
        let matrix = matrix.map_err(|_| WeightsError::ElementType {
            name: name.to_owned(),
            dtype: format!("{:?}", tensor.dtype),
        })?;
        if !matrix.values.iter().all(|value| value.is_finite()) {
            return Err(AdapterError::NotFinite { name: name.to_owned() });
        }
        Ok(matrix)
    }

    /// Refuses what has found no place; gives what is to be packed.
    fn finish(self) -> Result<Packer, AdapterError> {
        let Some(name) = self.unbound.first().map(|&name| name.to_owned()) else {
            return Ok(self.packer);
        };
        match unsupported_kind(&name) {
            Some(what) => Err(AdapterError::UnsupportedTensor { name, what }),
            None => Err(AdapterError::UnexpectedTensor { name }),
        }
    }
}

impl Expected {
    fn check(&self, name: &str, found: &[usize]) -> Result<(), AdapterError> {
        if found == self.shape {
            return Ok(());
        }
        let (name, expected, found) = (name.to_owned(), self.shape, found.to_vec());
        let fits = |axis| self.rank_axis == Some(axis) || found[axis] == expected[axis];
        if found.len() != 2 || (fits(0) && fits(1)) {
            return Err(AdapterError::Shape { name, expected, found });
        }
        Err(AdapterError::OtherShape { name, expected, found })
    }
}

/// What a tensor without a place is for, where PEFT has such tensors.
fn unsupported_kind(name: &str) -> Option<&'static str> {
    let kinds = [
        ("trainable_tokens", "a set of trained token embeddings"),
        ("lora_embedding_", "LoRA on an embedding"),
        ("embed_tokens", "a trained embedding"),
        ("lora_magnitude_vector", "DoRA's magnitude"),
        ("lora_diag", "KaSA's diagonal"),
        (".bias", "a trained bias"),
    ];
    kinds.into_iter().find(|(part, _)| name.contains(part)).map(|(_, what)| what)
}
