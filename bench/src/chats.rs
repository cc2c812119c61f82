//! Answers of a chat: some that repeat what they were given, some that do not.

use std::time::Instant;

use engine::Engine;
use protocol::{ChatMessage, ChatRole, GenerateWork, Prompt, Sampling, ToolChoice};

use crate::BenchError;
use crate::cpu::{finish, first_token, start, work};

/// What callers ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chats {
    pub(crate) name: &'static str,
    temperature: f32,
    texts: &'static [&'static str],
}

const ANSWER_TOKENS: usize = 160;

impl Chats {
    /// Quoting, extracting, editing.
    pub(crate) const REPEATING: Self = Self {
        name: "decode, repeating chats",
        temperature: 0.0,
        texts: &[
            "Repeat the following text exactly, word for word:\n\n\
             The harbour of the old town was built for small boats. Twice a day the water leaves it, \
             and the boats lie on the mud until the tide comes back. In the year 1887 the council paid \
             for a longer pier, so that steamers could land at any hour. The steamers are gone, but the \
             pier is still there, and every evening a few people walk to its end to look at the islands. \
             On clear days they can see the lighthouse of the third island, which is forty kilometres \
             away. The keeper of the museum says that the lighthouse has not been lit since 1961.",
            "Change the city of Tomasz Nowak to Warsaw in this JSON and print all of it:\n\n\
             {\"orders\": [\n  {\"id\": 1017, \"customer\": \"Maria Jensen\", \"city\": \"Aarhus\", \"items\": \
             [{\"sku\": \"A-100\", \"quantity\": 2}, {\"sku\": \"B-220\", \"quantity\": 1}]},\n  {\"id\": 1018, \
             \"customer\": \"Tomasz Nowak\", \"city\": \"Gdansk\", \"items\": [{\"sku\": \"C-310\", \"quantity\": \
             4}]},\n  {\"id\": 1019, \"customer\": \"Ines Duarte\", \"city\": \"Porto\", \"items\": [{\"sku\": \
             \"A-100\", \"quantity\": 1}, {\"sku\": \"D-999\", \"quantity\": 3}]}\n]}",
            "Rename the method `total` to `count` in this code and print the whole code:\n\n\
             ```python\nclass Inventory:\n    def __init__(self, path):\n        self.path = Path(path)\n        \
             self.articles = {}\n\n    def load(self):\n        with self.path.open() as file:\n            \
             self.articles = json.load(file)\n\n    def save(self):\n        with self.path.open(\"w\") as \
             file:\n            json.dump(self.articles, file)\n\n    def add(self, name, count):\n        \
             self.articles[name] = self.articles.get(name, 0) + count\n\n    def total(self):\n        \
             return sum(self.articles.values())\n```",
            "Extract the sender's name, address, phone number, order number and the product from this \
             mail:\n\nSubject: Order 88231 arrived damaged\n\nHello, my order 88231 (two blue ceramic lamps, \
             model L-204) arrived on Tuesday 14 March and one of the lamps was broken. The parcel was \
             delivered to 12 Harbour Street, Bristol BS1 4QA. Please send a replacement or refund 39.90 \
             pounds to my account. You can call me at +44 117 496 0123. Regards, Karen Smith",
        ],
    };
    /// Questions whose answers are not in them.
    pub(crate) const OPEN: Self = Self {
        name: "decode, open chats",
        temperature: 0.7,
        texts: &[
            "Write a short story about a lighthouse keeper who finds a letter.",
            "Explain gravity to a ten-year-old.",
            "I have a job interview tomorrow and feel nervous. What should I do?",
            "Why did the Roman Empire fall?",
        ],
    };

    /// Generated tokens per second of one answer after the other, each from its first token on.
    pub(crate) fn decode(&self, engine: &Engine) -> Result<f64, BenchError> {
        let (mut tokens, mut seconds) = (0, 0.0);
        for text in self.texts {
            let mut stream = start(engine, self.work(text))?;
            first_token(&mut stream)?;
            let generated = engine.stats().generated_tokens_total;
            let before = Instant::now();
            finish(&mut stream)?;
            seconds += before.elapsed().as_secs_f64();
            tokens += engine.stats().generated_tokens_total - generated;
        }
        Ok(tokens as f64 / seconds)
    }

    fn work(&self, text: &str) -> GenerateWork {
        let message = ChatMessage {
            role: ChatRole::User,
            content: text.to_owned(),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        };
        let (tools, tool_choice) = (Vec::new(), ToolChoice::None);
        let prompt = Prompt::Chat { messages: vec![message], tools, tool_choice, calls_max: 0 };
        let sampling =
            Sampling { temperature: self.temperature, top_p: 0.95, ..Sampling::greedy() };
        GenerateWork { sampling, ignore_eos: false, ..work(prompt, ANSWER_TOKENS) }
    }
}
