use engine::firmware::FirmwareDir;
use engine::{Engine, EngineConfig, LoadedFirmware};
use protocol::{Event, GenerateWork, Prompt, Work};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let (streams, prompt, answer, rounds, threads): (usize, usize, u32, usize, usize) =
        (a[1].parse()?, a[2].parse()?, a[3].parse()?, a[4].parse()?, a[5].parse()?);
    let firmware = Arc::new(LoadedFirmware::load(&FirmwareDir::open(a[0].as_ref())?)?);
    let config = EngineConfig { threads, lookup_rows: 0, ..EngineConfig::default() };
    let engine = Engine::start(firmware, config)?;
    let mut rates = Vec::new();
    for round in 0..rounds {
        let mut running = Vec::new();
        for stream in 0..streams {
            let salt = (round * 100 + stream) as u32;
            let tokens = Prompt::Tokens(
                (0..prompt as u32).map(|i| 100 + (i * 37 + salt * 131 + i * salt) % 4000).collect(),
            );
            let work = GenerateWork {
                max_tokens: Some(answer),
                ignore_eos: true,
                ..GenerateWork::greedy(tokens, "bench")
            };
            running.push(engine.submit(Work::Generate(work))?);
        }
        for stream in &mut running {
            while let Some(event) = stream.blocking_next() {
                if let Event::Text { .. } = event? {
                    break;
                }
            }
        }
        let g = engine.stats().generated_tokens_total;
        let before = Instant::now();
        for stream in &mut running {
            while let Some(event) = stream.blocking_next() {
                if let Event::Done(_) = event? {
                    break;
                }
            }
        }
        rates.push(
            (engine.stats().generated_tokens_total - g) as f64 / before.elapsed().as_secs_f64(),
        );
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{streams} streams, prompt {prompt}: median {:.1} best {:.1}",
        rates[rates.len() / 2],
        rates[rates.len() - 1]
    );
    Ok(())
}
