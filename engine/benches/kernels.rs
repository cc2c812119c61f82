//! The inner loops alone: `cargo bench -p engine --features bench`. What they add up to is measured by
//! `firmament bench cpu`; these say which of them a change has touched.

use candle_core::quantized::GgmlDType;
use divan::Bencher;
use divan::counter::ItemsCount;
use engine::bench::{Attend, Product};

fn main() {
    eprintln!("instruction set: {}", engine::instruction_set());
    divan::main();
}

/// SmolLM2-135M's gate: small enough for the second cache, so that products are timed, not memory.
const GATE: [usize; 2] = [1536, 576];
/// Rows of input: one stream, some, a prompt.
const ROWS: [usize; 4] = [1, 4, 8, 64];

/// Multiplications of one thread.
fn product(bencher: Bencher<'_, '_>, dtype: GgmlDType, shape: [usize; 2], rows: usize) {
    let mut product = Product::new(dtype, shape, rows, 0, 1);
    bencher.counter(ItemsCount::new(product.products())).bench_local(|| product.run());
}

#[divan::bench(args = ROWS)]
fn q4_1(bencher: Bencher<'_, '_>, rows: usize) {
    product(bencher, GgmlDType::Q4_1, GATE, rows);
}

#[divan::bench(args = ROWS)]
fn q5_0(bencher: Bencher<'_, '_>, rows: usize) {
    product(bencher, GgmlDType::Q5_0, GATE, rows);
}

#[divan::bench(args = ROWS)]
fn q8_0(bencher: Bencher<'_, '_>, rows: usize) {
    product(bencher, GgmlDType::Q8_0, GATE, rows);
}

#[divan::bench(args = ROWS)]
fn q4_k(bencher: Bencher<'_, '_>, rows: usize) {
    product(bencher, GgmlDType::Q4K, [1536, 512], rows);
}

#[divan::bench(args = ROWS)]
fn q6_k(bencher: Bencher<'_, '_>, rows: usize) {
    product(bencher, GgmlDType::Q6K, [1536, 512], rows);
}

/// Eight rows, each with an adapter of its own, of this rank; 0 is none.
#[divan::bench(args = [0, 8, 16, 64])]
fn adapters(bencher: Bencher<'_, '_>, rank: usize) {
    let mut product = Product::new(GgmlDType::Q4_1, GATE, 8, rank, 1);
    bencher.counter(ItemsCount::new(product.products())).bench_local(|| product.run());
}

/// The last token of sequences of this length.
#[divan::bench(args = [128, 512, 2048])]
fn attend_last(bencher: Bencher<'_, '_>, tokens: usize) {
    let mut attend = Attend::new(tokens, 1, 1);
    bencher.bench_local(|| attend.run());
}

/// The last 64 tokens of sequences of this length.
#[divan::bench(args = [128, 512, 2048])]
fn attend_prompt(bencher: Bencher<'_, '_>, tokens: usize) {
    let mut attend = Attend::new(tokens, 64, 1);
    bencher.bench_local(|| attend.run());
}
