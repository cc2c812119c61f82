//! What browsers are told about pages of other origins.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::CorsLayer;

/// How long a browser remembers the answer.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Lets pages of these origins call and read the headers that replies carry.
pub fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let named = |names: &[&'static str]| -> Vec<HeaderName> {
        names.iter().copied().map(HeaderName::from_static).collect()
    };
    let mut asked = vec![AUTHORIZATION, CONTENT_TYPE];
    asked.extend(named(&[
        "x-request-id",
        "x-firmament-placement",
        "x-firmament-resumable",
        "last-event-id",
    ]));
    let told = named(&[
        "x-request-id",
        "x-firmament-placement",
        "x-firmament-reason",
        "x-firmament-adapter-generation",
        "retry-after",
        "openai-processing-ms",
        "openai-version",
        "x-ratelimit-limit-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-requests",
        "x-ratelimit-reset-tokens",
    ]);
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(asked)
        .expose_headers(told)
        .max_age(REMEMBERED)
}
