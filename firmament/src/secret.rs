//! Secrets that lie in files, as containers are given them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;

use crate::failure::Failure;

/// Far more than any secret has.
const BYTES_MAX: u64 = 64 * 1024;

/// What a file says, without the space around it.
pub fn read(path: &Path) -> Result<String, Failure> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    };
    let text = read().and_then(|text| if text.is_empty() { Err(nothing()) } else { Ok(text) });
    text.with_context(|| format!("the secret in `{}` cannot be read", path.display()))
        .map_err(|error| Failure::new(error, "see that the file is there and who may read it"))
}

fn nothing() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_text_of_its_file_and_an_empty_file_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, " hush\n").expect("written");
        assert_eq!(read(&path).expect("it is there"), "hush");
        std::fs::write(&path, "\n").expect("written");
        assert!(read(&path).expect_err("it is empty").to_string().contains("empty"));
        let missing = read(&folder.path().join("none")).expect_err("it is missing");
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
