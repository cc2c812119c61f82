//! Firmware: the immutable set of files that makes a foundation model.
//! Owns: the manifest, its id, verification, the built-in manifests. Never: networks, loading.

mod directory;
mod error;
mod manifest;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

pub use directory::{FirmwareDir, MANIFEST_FILE, QuickCheck, digest_file};
pub use error::FirmwareError;
pub use manifest::{
    MANIFEST_BYTES_MAX, Manifest, PackageMember, Part, PartRole, Source, TemplateSource,
    TokenizerSource,
};

/// A firmware that this build knows by name.
#[derive(Debug)]
pub struct Builtin {
    /// The manifest as it is written to disk.
    pub text: &'static str,
    /// The same, parsed.
    pub manifest: Manifest,
}

/// The firmwares that this build knows; the first is the default.
pub fn builtin() -> &'static [Builtin] {
    static BUILTIN: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
        let parse = |text| {
            let manifest = Manifest::parse(text).expect("built-in manifests are tested");
            Builtin { text, manifest }
        };
        [
            include_str!("../../firmwares/smollm2-135m-instruct.toml"),
            include_str!("../../firmwares/qwen2.5-coder-0.5b.toml"),
            include_str!("../../firmwares/gemma-3-270m.toml"),
        ]
        .map(parse)
        .into()
    });
    &BUILTIN
}
