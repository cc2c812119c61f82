//! Tokens that end a generation, by their published spellings.
//! Source: the list of end-of-generation texts in llama.cpp's `llama-vocab.cpp`; files name one
//! such token, while chat models stop at several.

const ENDS: [&str; 14] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "<eos>",
    "<|fim_pad|>",
];

/// Whether a token that is spelled `text` ends a generation.
pub(super) fn ends_generation(text: &str) -> bool {
    ENDS.contains(&text) || matches!(text, "<|repo_name|>" | "<|file_sep|>")
}
