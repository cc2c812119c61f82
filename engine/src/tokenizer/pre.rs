//! Cutting text into words before BPE merges inside of each.
//! Owns: the splitting rules by GGUF's names for them. Never: merging.
//! Source: `llm_tokenizer_bpe` in llama.cpp's `llama-vocab.cpp`.
//!
//! The published rules are backtracking expressions whose one look-ahead, `\s+(?!\S)|\s+`, leaves
//! the last space of a run to the word after it. That step is done by hand here, so the
//! expressions run in time linear in the text, whatever the text is.

use regex::Regex;

use super::TokenizerError;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const DIGITS_3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const DIGITS_1: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";

/// Which trailing white space of a match is left to the next word.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    /// None: the rule has no look-ahead.
    Nothing,
    /// The last character of a run of white space that a word follows.
    LastSpace,
    /// The same, but line ends are words of their own.
    LastSpaceUnlessNewline,
}

#[derive(Debug)]
struct Stage {
    words: Regex,
    leaves: Leaves,
}

/// The splitting rules of one tokenizer: each stage cuts the pieces of the stage before it.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    stages: Vec<Stage>,
    /// A word that is a token as a whole is not merged from its bytes.
    pub(super) whole_words: bool,
}

impl PreTokenizer {
    /// The rules that GGUF calls `name`.
    pub(super) fn named(name: &str) -> Result<Self, TokenizerError> {
        use Leaves::{LastSpace, LastSpaceUnlessNewline, Nothing};
        let (rules, whole_words): (&[(&str, Leaves)], bool) = match name {
            "gpt-2" | "gpt2" | "phi-2" | "olmo" | "jais" | "mpt" | "jina-en" | "jina-v2-code" => {
                (&[(GPT2, LastSpace)], false)
            }
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
                (&[(r"\p{N}", Nothing), (GPT2, LastSpace)], false)
            }
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral" => {
                (&[(DIGITS_3, LastSpaceUnlessNewline)], true)
            }
            "dbrx" | "smaug-bpe" => (&[(DIGITS_3, LastSpaceUnlessNewline)], false),
            "qwen2" | "deepseek-r1-qwen" | "stablelm2" => {
                (&[(DIGITS_1, LastSpaceUnlessNewline)], false)
            }
            "tekken" => (&[(TEKKEN, LastSpaceUnlessNewline)], true),
            "default" => (
                &[
                    (PUNCTUATION, Nothing),
                    (GPT2, LastSpace),
                    (r"\p{N}+", Nothing),
                    ("[0-9][0-9][0-9]", Nothing),
                ],
                false,
            ),
            unknown => return Err(TokenizerError::PreTokenizer { pre: unknown.to_owned() }),
        };
        let compile = |&(rule, leaves): &(&str, Leaves)| Stage {
            words: Regex::new(rule).expect("the rules above are valid expressions"),
            leaves,
        };
        Ok(Self { stages: rules.iter().map(compile).collect(), whole_words })
    }

    /// The words of `text`, in order; together they are the text.
    pub(super) fn words<'t>(&self, text: &'t str) -> Vec<&'t str> {
        self.stages.iter().fold(vec![text], |pieces, stage| {
            let mut words = Vec::with_capacity(pieces.len());
            for piece in pieces {
                stage.cut(piece, &mut words);
            }
            words
        })
    }
}

impl Stage {
    fn cut<'t>(&self, text: &'t str, words: &mut Vec<&'t str>) {
        let mut at = 0;
        while at < text.len() {
            let Some(found) = self.words.find_at(text, at) else {
                words.push(&text[at..]);
                return;
            };
            if found.start() > at {
                words.push(&text[at..found.start()]);
            }
            at = found.start() + self.kept(found.as_str(), &text[found.end()..]);
            words.push(&text[found.start()..at]);
        }
    }

    /// How many bytes of `word` stay with it, given the text after it.
    fn kept(&self, word: &str, after: &str) -> usize {
        let last = word.chars().next_back().expect("no rule matches nothing");
        let is_run = match self.leaves {
            Leaves::Nothing => false,
            Leaves::LastSpace => last.is_whitespace(),
            Leaves::LastSpaceUnlessNewline => last.is_whitespace() && !matches!(last, '\r' | '\n'),
        };
        let rest = word.len() - last.len_utf8();
        if is_run && rest > 0 && !after.is_empty() { rest } else { word.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        PreTokenizer::named(name).expect("known").words(text)
    }

    #[test]
    fn a_run_of_spaces_leaves_its_last_one_to_the_word() {
        assert_eq!(words("gpt-2", "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(words("gpt-2", "a \n b"), ["a", " \n", " b"]);
        assert_eq!(words("gpt-2", "\nb"), ["\n", "b"]);
        assert_eq!(words("gpt-2", "a\u{3000}\u{3000}b"), ["a", "\u{3000}", "\u{3000}", "b"]);
    }

    #[test]
    fn line_ends_are_words_where_the_rules_say_so() {
        assert_eq!(words("qwen2", "a \n b"), ["a", " \n", " b"]);
        assert_eq!(words("qwen2", "a\n\n  b"), ["a", "\n\n", " ", " b"]);
        assert_eq!(words("qwen2", "!!\n\nb"), ["!!\n\n", "b"]);
    }

    #[test]
    fn digits_are_cut_as_each_tokenizer_wants() {
        assert_eq!(words("smollm", "in 2024"), ["in", " ", "2", "0", "2", "4"]);
        assert_eq!(words("qwen2", " 2024"), [" ", "2", "0", "2", "4"]);
        assert_eq!(words("llama-bpe", "20245"), ["202", "45"]);
        assert_eq!(words("gpt-2", " 2024"), [" 2024"]);
    }

    #[test]
    fn contractions_keep_their_apostrophe() {
        assert_eq!(words("gpt-2", "it's IT'S"), ["it", "'s", " IT", "'", "S"]);
        assert_eq!(words("llama-bpe", "it's IT'S"), ["it", "'s", " IT", "'S"]);
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let error = PreTokenizer::named("viking").unwrap_err();
        assert_eq!((error.code(), error.to_string().contains("viking")), ("tokenizer_pre", true));
    }

    #[test]
    fn a_megabyte_of_spaces_takes_linear_time() {
        let text = " ".repeat(1 << 20) + "x";
        assert_eq!(words("llama-bpe", &text).len(), 2);
    }
}
