//! Writes GGUF and safetensors files, honest ones and liars.

/// A GGUF file in the making; every field can be made to lie.
pub(super) struct Gguf {
    pub(super) version: u32,
    pub(super) tensor_count: Option<u64>,
    pub(super) key_count: Option<u64>,
    pub(super) alignment: usize,
    pub(super) pairs: Vec<Vec<u8>>,
    pub(super) tensors: Vec<Tensor>,
    pub(super) data: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dimensions: Vec<u64>,
    pub(super) dtype: u32,
    pub(super) offset: u64,
}

pub(super) fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

impl Gguf {
    pub(super) fn empty() -> Self {
        Self {
            version: 3,
            tensor_count: None,
            key_count: None,
            alignment: 32,
            pairs: Vec::new(),
            tensors: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Two F32 tensors, `a` of 2 x 4 and `b` of 8, and some metadata.
    pub(super) fn valid() -> Self {
        let tokens = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text(b"x"), &text(b"yz")];
        let numbers = [&5_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &(-7_i32).to_le_bytes()];
        Self::empty()
            .pair("general.architecture", 8, &text(b"llama"))
            .pair("llama.block_count", 4, &2_u32.to_le_bytes())
            .pair("flag", 7, &[1])
            .pair("epsilon", 6, &1e-5_f32.to_le_bytes())
            .pair("tokens", 9, &tokens.concat())
            .pair("numbers", 9, &numbers.concat())
            .tensor("a", &[4, 2], 0, 0)
            .tensor("b", &[8], 0, 32)
            .data((0..64).collect())
    }

    pub(super) fn pair(mut self, key: &str, code: u32, value: &[u8]) -> Self {
        self.pairs.push([&text(key.as_bytes()), &code.to_le_bytes()[..], value].concat());
        self
    }

    pub(super) fn tensor(mut self, name: &str, dims: &[u64], dtype: u32, offset: u64) -> Self {
        let (name, dimensions) = (name.to_owned(), dims.to_vec());
        self.tensors.push(Tensor { name, dimensions, dtype, offset });
        self
    }

    pub(super) fn data(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.key_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        out.extend(self.pairs.concat());
        for tensor in &self.tensors {
            out.extend(text(tensor.name.as_bytes()));
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            out.extend(tensor.dimensions.iter().flat_map(|size| size.to_le_bytes()));
            out.extend(tensor.dtype.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }
}

/// A safetensors file from its header's text and its data.
pub(super) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [text(header.as_bytes()).as_slice(), data].concat()
}
