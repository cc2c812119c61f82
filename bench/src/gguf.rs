//! Writes honest GGUF files of version 3.
//! Owns: the format and four encodings of tensors. Never: what a model needs in its file.
//! Source: the GGUF specification in ggml, `docs/gguf.md`; `block_q4_1` and
//! `block_q8_0` of `ggml-common.h`.

use half::f16;

const ALIGNMENT: usize = 32;
/// Values of a block of either quantised encoding.
const BLOCK: usize = 32;

/// How a tensor's values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 32 times 4 bits with a common scale and least value; rows must be a multiple of 32 long.
    Q4_1,
    /// 32 bytes with a common scale; rows must be a multiple of 32 long.
    Q8_0,
}

impl Encoding {
    const fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_1 => 3,
            Self::Q8_0 => 8,
        }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            Self::Q4_1 => values.chunks_exact(BLOCK).flat_map(q4_1).collect(),
            Self::Q8_0 => values.chunks_exact(BLOCK).flat_map(q8_0).collect(),
        }
    }
}

fn q4_1(values: &[f32]) -> Vec<u8> {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (largest - least) / 15.0;
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    let quant = |value: f32| ((value - least) * inverse).round() as u8;
    let (low, high) = values.split_at(BLOCK / 2);
    let pairs = low.iter().zip(high).map(|(low, high)| quant(*low) | quant(*high) << 4);
    let header = [scale, least].map(|value| f16::from_f32(value).to_le_bytes());
    header.into_iter().flatten().chain(pairs).collect()
}

fn q8_0(values: &[f32]) -> Vec<u8> {
    let largest = values.iter().fold(0_f32, |most, value| most.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    let quants = values.iter().map(|value| ((value * inverse).round() as i8).cast_unsigned());
    f16::from_f32(scale).to_le_bytes().into_iter().chain(quants).collect()
}

/// A GGUF file in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gguf {
    pairs: Vec<Vec<u8>>,
    table: Vec<Vec<u8>>,
    data: Vec<u8>,
}

impl Gguf {
    /// Adds a text.
    #[must_use]
    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.pair(key, 8, &text(value))
    }

    /// Adds an unsigned integer.
    #[must_use]
    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.pair(key, 4, &value.to_le_bytes())
    }

    /// Adds a number.
    #[must_use]
    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.pair(key, 6, &value.to_le_bytes())
    }

    /// Adds a truth value.
    #[must_use]
    pub(crate) fn bool(self, key: &str, value: bool) -> Self {
        self.pair(key, 7, &[value.into()])
    }

    /// Adds a list of text.
    #[must_use]
    pub(crate) fn texts(self, key: &str, values: &[String]) -> Self {
        let items = values.iter().flat_map(|value| text(value)).collect();
        self.array(key, 8, values.len(), items)
    }

    /// Adds a list of integers.
    #[must_use]
    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Self {
        let items = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 5, values.len(), items)
    }

    /// Adds a tensor; `shape` has the innermost dimension last, as everywhere but in the file.
    #[must_use]
    pub(crate) fn tensor(
        mut self,
        name: &str,
        shape: &[usize],
        kept: Encoding,
        values: &[f32],
    ) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values of {name}");
        let mut entry = text(name);
        entry.extend((shape.len() as u32).to_le_bytes());
        entry.extend(shape.iter().rev().flat_map(|&size| (size as u64).to_le_bytes()));
        entry.extend(kept.code().to_le_bytes());
        entry.extend((self.data.len() as u64).to_le_bytes());
        self.table.push(entry);
        self.data.extend(kept.encode(values));
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.table.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        out.extend(self.pairs.concat());
        out.extend(self.table.concat());
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(&self.data);
        out
    }

    fn pair(mut self, key: &str, code: u32, value: &[u8]) -> Self {
        self.pairs.push([&text(key), &code.to_le_bytes()[..], value].concat());
        self
    }

    fn array(self, key: &str, code: u32, length: usize, items: Vec<u8>) -> Self {
        let head = [&code.to_le_bytes()[..], &(length as u64).to_le_bytes()].concat();
        self.pair(key, 9, &[head, items].concat())
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f32> {
        (0..32).map(|at| (at as f32 - 16.0) / 8.0).collect()
    }

    fn half(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    #[test]
    fn a_q8_0_block_gives_back_its_values_to_half_a_step() {
        let block = Encoding::Q8_0.encode(&values());
        assert_eq!(block.len(), 34);
        let scale = half(&block);
        for (value, &quant) in values().iter().zip(&block[2..]) {
            let back = f32::from(quant.cast_signed()) * scale;
            assert!((back - value).abs() <= scale * 0.6, "{value} came back as {back}");
        }
    }

    #[test]
    fn a_q4_1_block_gives_back_its_values_to_half_a_step() {
        let block = Encoding::Q4_1.encode(&values());
        assert_eq!(block.len(), 20);
        let (scale, least) = (half(&block), half(&block[2..]));
        let quants = block[4..].iter().map(|pair| pair & 15);
        let quants = quants.chain(block[4..].iter().map(|pair| pair >> 4));
        for (value, quant) in values().iter().zip(quants) {
            let back = f32::from(quant) * scale + least;
            assert!((back - value).abs() <= scale * 0.6, "{value} came back as {back}");
        }
    }
}
