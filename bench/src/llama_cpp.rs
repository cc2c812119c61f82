//! llama.cpp's own benchmarks, run from a build that the caller has.

use std::path::{Path, PathBuf};
use std::process::Command;

use engine::firmware::{FirmwareDir, PartRole};
use serde::Deserialize;

use crate::BenchError;

/// The file that llama.cpp shall run: a firmware's backbone.
pub(crate) fn model_of(firmware: &FirmwareDir) -> PathBuf {
    let backbone = firmware.manifest().parts_of(PartRole::Backbone).next();
    backbone.map(|part| firmware.part_path(part)).unwrap_or_default()
}

/// A folder with `llama-bench` and `llama-batched-bench`.
pub(crate) struct LlamaCpp {
    folder: PathBuf,
    model: PathBuf,
    threads: usize,
}

#[derive(Deserialize)]
struct BenchLine {
    n_prompt: usize,
    avg_ts: f64,
}

#[derive(Deserialize)]
struct BatchedLine {
    pl: usize,
    speed_tg: f64,
}

impl LlamaCpp {
    pub(crate) fn new(folder: &Path, model: &Path, threads: usize) -> Self {
        Self { folder: folder.to_owned(), model: model.to_owned(), threads }
    }

    /// Prompt tokens per second, reading `tokens` at once, the mean of `repeats`, with the better of
    /// its two ways of attention.
    pub(crate) fn prefill(&self, tokens: usize, repeats: usize) -> Result<f64, BenchError> {
        let speeds = ["on", "off"].map(|flash| self.prefill_once(tokens, repeats, flash));
        speeds.into_iter().try_fold(0.0, |best: f64, speed| Ok(best.max(speed?)))
    }

    fn prefill_once(&self, tokens: usize, repeats: usize, flash: &str) -> Result<f64, BenchError> {
        let (text, repeats) = (tokens.to_string(), repeats.to_string());
        let arguments = ["-p", &text, "-n", "0", "-r", &repeats, "-fa", flash, "-o", "jsonl"];
        let out = self.run("llama-bench", &arguments)?;
        let lines = parse::<BenchLine>(&out);
        lines
            .into_iter()
            .find(|line| line.n_prompt == tokens)
            .map(|line| line.avg_ts)
            .ok_or(BenchError::ProgramOutput("llama-bench"))
    }

    /// Generated tokens per second over all of `streams`, with the better of its two ways of
    /// attention.
    pub(crate) fn decode(
        &self,
        streams: usize,
        prompt: usize,
        tokens: usize,
    ) -> Result<f64, BenchError> {
        let speeds = ["on", "off"].map(|flash| self.batched(streams, prompt, tokens, flash));
        speeds.into_iter().try_fold(0.0, |best: f64, speed| Ok(best.max(speed?)))
    }

    fn batched(
        &self,
        streams: usize,
        prompt: usize,
        tokens: usize,
        flash: &str,
    ) -> Result<f64, BenchError> {
        let numbers = [streams, prompt, tokens].map(|number| number.to_string());
        let [streams_text, prompt, tokens] = &numbers;
        let arguments = [
            "-c",
            "4096",
            "-b",
            "2048",
            "-ub",
            "512",
            "-npp",
            prompt,
            "-ntg",
            tokens,
            "-npl",
            streams_text,
            "-fa",
            flash,
            "--output-format",
            "jsonl",
        ];
        let out = self.run("llama-batched-bench", &arguments)?;
        let lines = parse::<BatchedLine>(&out);
        lines
            .into_iter()
            .find(|line| line.pl == streams)
            .map(|line| line.speed_tg)
            .ok_or(BenchError::ProgramOutput("llama-batched-bench"))
    }

    fn run(&self, program: &'static str, arguments: &[&str]) -> Result<String, BenchError> {
        let output = Command::new(self.folder.join(program))
            .arg("-m")
            .arg(&self.model)
            .args(["-t", &self.threads.to_string()])
            .args(arguments)
            .output()
            .map_err(|source| BenchError::Program { program, source })?;
        if !output.status.success() {
            let source = std::io::Error::other(output.status.to_string());
            return Err(BenchError::Program { program, source });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The JSON objects among the lines.
fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> Vec<T> {
    text.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
}
