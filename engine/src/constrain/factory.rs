//! Compiles constraints for one tokenizer.

use std::sync::Arc;

use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId,
};
use llguidance::{JsonCompileOptions, ParserFactory};
use protocol::Constraint;
use serde_json::{Map, Value, json};

use super::error::one_line;
use super::{ConstrainError, Matcher, bounds};
use crate::tokenizer::Tokenizer;

/// Longer tokens are left out: the trie counts its depth in 10 bits.
const TOKEN_BYTES_MAX: usize = 1000;

/// White space between the parts of a JSON answer. Without a bound a small model may never stop
/// writing it.
const JSON_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,16}";

/// The tokens of one firmware, ready for constraints; made once, shared by all requests.
pub struct GrammarFactory(ParserFactory);

impl GrammarFactory {
    /// For a firmware's tokenizer; its structural tokens are never part of an answer.
    pub fn from_tokenizer(tokenizer: &Tokenizer) -> Result<Self, ConstrainError> {
        let token = |id| {
            let bytes = tokenizer.token_bytes(id);
            if tokenizer.is_special(id) { special(bytes) } else { bytes.to_vec() }
        };
        let tokens = (0..tokenizer.vocab_size() as u32).map(token).collect();
        Self::new(tokens, &tokenizer.ends().iter().copied().collect::<Vec<_>>())
    }

    /// For a vocabulary: the bytes of each id, those of structural tokens behind the byte 255
    /// ([`TokTrie::SPECIAL_TOKEN_MARKER`]), and the ids that end an answer.
    pub fn new(mut tokens: Vec<Vec<u8>>, ends: &[u32]) -> Result<Self, ConstrainError> {
        let refuse = |reason: &str| ConstrainError::Vocabulary { reason: reason.to_owned() };
        let Some(&end) = ends.first() else { return Err(refuse("no token ends an answer")) };
        if ends.iter().any(|&end| end as usize >= tokens.len()) {
            return Err(refuse("an end token is outside of the vocabulary"));
        }
        for bytes in &mut tokens {
            if bytes.len() > TOKEN_BYTES_MAX {
                bytes.clear();
            }
        }
        let info = TokRxInfo::new(tokens.len() as u32, end as TokenId);
        let trie = TokTrie::from(&info, &tokens).with_eos_tokens(ends);
        // Not canonical: the model, not the grammar, decides how forced text is cut into tokens.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices);
        let mut factory =
            factory.map_err(|error| ConstrainError::Vocabulary { reason: one_line(&error) })?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self(factory))
    }

    /// Compiles a constraint: milliseconds of one core at most. Call it where that is no harm.
    pub fn compile(&self, constraint: &Constraint) -> Result<Matcher, ConstrainError> {
        bounds::check(constraint)?;
        let what = bounds::name(constraint);
        let grammar = grammar(constraint);
        let grammar = grammar.map_err(|reason| ConstrainError::Unusable { what, reason })?;
        self.parser(what, TopLevelGrammar::from_grammar(grammar))
    }

    /// Compiles rules of our own (Lark) over constraints that they name as `@name`.
    pub(crate) fn compile_parts(
        &self,
        rules: &str,
        parts: &[(String, Constraint)],
    ) -> Result<Matcher, ConstrainError> {
        let what = "schema of a tool or of the answer";
        bounds::check_all(what, parts.iter().map(|(_, part)| part))?;
        let mut grammars =
            vec![GrammarWithLexer { name: None, ..GrammarWithLexer::from_lark(rules.to_owned()) }];
        for (name, part) in parts {
            let part = grammar(part);
            let part = part.map_err(|reason| ConstrainError::Unusable { what, reason })?;
            grammars.push(GrammarWithLexer { name: Some(name.clone()), ..part });
        }
        self.parser(what, TopLevelGrammar { grammars, max_tokens: None })
    }

    fn parser(
        &self,
        what: &'static str,
        grammar: TopLevelGrammar,
    ) -> Result<Matcher, ConstrainError> {
        let parser = self.0.create_parser(grammar);
        let unusable = |error| ConstrainError::Unusable { what, reason: one_line(&error) };
        Ok(Matcher::new(parser.map_err(unusable)?, self.0.tok_env().tok_trie().vocab_size()))
    }
}

impl std::fmt::Debug for GrammarFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tokens = self.0.tok_env().tok_trie().vocab_size();
        f.debug_struct("GrammarFactory").field("tokens", &tokens).finish()
    }
}

fn special(bytes: &[u8]) -> Vec<u8> {
    [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
}

fn grammar(constraint: &Constraint) -> Result<GrammarWithLexer, String> {
    Ok(match constraint {
        Constraint::JsonObject => {
            GrammarWithLexer::from_json_schema(with_options(json!({"type": "object"})))
        }
        Constraint::JsonSchema(Value::Bool(true)) => {
            GrammarWithLexer::from_json_schema(with_options(Value::Object(Map::new())))
        }
        Constraint::JsonSchema(schema) if schema.is_object() => {
            GrammarWithLexer::from_json_schema(with_options(schema.clone()))
        }
        Constraint::JsonSchema(_) => return Err("it is not an object".to_owned()),
        Constraint::Regex(text) => GrammarWithLexer::from_regex(text),
        Constraint::Lark(text) => GrammarWithLexer::from_lark(text.clone()),
    })
}

/// Sets how JSON is written, over whatever the schema itself says about that.
fn with_options(mut schema: Value) -> Value {
    let options = JsonCompileOptions {
        whitespace_pattern: Some(JSON_SPACE.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    schema
}

/// What one answer may spend. The crate's measures: 50,000 units of building fuel, 14,000 of step
/// fuel or 20,000 items take a millisecond, and a lexer state takes up to 2 kB.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_lexer_states: 10_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}
