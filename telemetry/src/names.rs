//! Names of spans' attributes: OpenTelemetry's, and ours where it has none.
//! Source: OpenTelemetry semantic conventions v1.41.1, "GenAI" (status: development), "HTTP", "Error".
//! Newer releases move and rename the GenAI part, so nothing else spells these names.

/// `gen_ai.provider.name`: the convention has no value for servers like this one.
pub const PROVIDER: &str = "firmament";

/// What was asked for: `chat`, `text_completion`, `embeddings`.
pub const OPERATION: &str = "gen_ai.operation.name";
/// Who answers.
pub const PROVIDER_NAME: &str = "gen_ai.provider.name";
/// The model that was asked for; with an adapter its name, which says more than the base's.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// Most tokens of the answer.
pub const MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// The sampling temperature.
pub const TEMPERATURE: &str = "gen_ai.request.temperature";
/// The nucleus.
pub const TOP_P: &str = "gen_ai.request.top_p";
/// How many of the likeliest tokens are kept.
pub const TOP_K: &str = "gen_ai.request.top_k";
/// The seed.
pub const SEED: &str = "gen_ai.request.seed";
/// How many answers.
pub const CHOICE_COUNT: &str = "gen_ai.request.choice.count";
/// The model that answered: the firmware's id.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Why the answers ended.
pub const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Seconds to the first piece of the answer.
pub const TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// Tokens of the prompt.
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Tokens of the answers.
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Tokens of the prompt that were in the cache.
pub const CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// What form the answer has.
pub const OUTPUT_TYPE: &str = "gen_ai.output.type";

/// The request's method.
pub const HTTP_METHOD: &str = "http.request.method";
/// The route's pattern, never the path that was asked for.
pub const HTTP_ROUTE: &str = "http.route";
/// The answer's status.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// Which error.
pub const ERROR_TYPE: &str = "error.type";

/// The request as its caller and the log know it.
pub const REQUEST_ID: &str = "firmament.request.id";
/// How the request ended: the label of `firmament_gateway_requests_total`.
pub const OUTCOME: &str = "firmament.outcome";
/// Names of the adapters.
pub const ADAPTER_NAME: &str = "firmament.adapter.name";
/// Their generations.
pub const ADAPTER_GENERATION: &str = "firmament.adapter.generation";
/// The firmware that they change.
pub const ADAPTER_BASE: &str = "firmament.adapter.base";
/// Which try this is, from 1.
pub const ATTEMPT: &str = "firmament.attempt";
/// Why an attempt goes on with what another began.
pub const MIGRATION_REASON: &str = "firmament.migration.reason";
/// Which node.
pub const NODE_ID: &str = "firmament.node.id";
/// What the node is.
pub const NODE_KIND: &str = "firmament.node.kind";
/// Why that node.
pub const PLACEMENT_REASON: &str = "firmament.placement.reason";
/// How many nodes there were to choose from.
pub const CANDIDATES: &str = "firmament.candidates";
/// What was in the way of one of them.
pub const VERDICT: &str = "firmament.verdict";
/// What a request may cost, in tokens.
pub const COST_TOKENS: &str = "firmament.cost.tokens";
/// Tokens generated so far, at an event.
pub const TOKENS: &str = "firmament.tokens";
