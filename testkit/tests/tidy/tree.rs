//! The repository as files.

use std::path::{Path, PathBuf};

/// One text file, by its path from the repository's root.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Whether it is Rust that ships: not a test, an example or a build script.
    pub(crate) fn ships(&self) -> bool {
        let dev = ["testkit/", "bench/"].iter().any(|folder| self.path.starts_with(folder));
        self.is_code() && !dev
    }

    /// Whether it is Rust code of a crate and no test.
    pub(crate) fn is_code(&self) -> bool {
        let test = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        let rust = Path::new(&self.path).extension().is_some_and(|ending| ending == "rs");
        rust && self.path.contains("/src/") && !test
    }

    /// Its lines with their numbers, without comments and without the tests at its end.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let lines = self.text[..tests].lines().enumerate();
        lines
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at + 1, line))
    }

    /// `path:line: text` of the lines that hold one of `needles`.
    pub(crate) fn find(&self, needles: &[&str]) -> Vec<String> {
        let held = |line: &str| needles.iter().any(|needle| line.contains(needle));
        let found = self.lines().filter(|(_, line)| held(line));
        found.map(|(at, line)| format!("{}:{at}: {}", self.path, line.trim())).collect()
    }
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.expect("testkit lies in the repository").to_owned()
}

/// Every file with one of these endings, without what is built, hidden or linked from elsewhere.
pub(crate) fn files(endings: &[&str]) -> Vec<File> {
    let root = root();
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.retain(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)));
    paths.sort();
    let read = |path: PathBuf| File {
        text: std::fs::read_to_string(&path).expect("source is UTF-8"),
        path: path.strip_prefix(&root).expect("it was found there").display().to_string(),
    };
    paths.into_iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let (name, kind) = (entry.file_name(), entry.file_type().expect("it was just listed"));
        let name = name.to_string_lossy();
        let skipped = name.starts_with('.') || matches!(&*name, "target" | "node_modules");
        if kind.is_dir() && !skipped {
            walk(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Fails with all that was found.
pub(crate) fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}
