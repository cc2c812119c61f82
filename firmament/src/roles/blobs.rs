//! Where adapters' and users' files are: in a directory, or in a bucket that speaks S3.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use store::{Blobs, Bucket, BucketKey};

use super::record::{Record, broken};
use crate::failure::Failure;
use crate::secret;

/// Settings of the blob store.
#[derive(Debug, Clone, Args)]
pub struct BlobArguments {
    /// Where adapters' and users' files are, which all gateways of a cluster share: a directory, or s3://bucket/prefix
    /// [default: in the data directory].
    #[arg(long, env = "FIRMAMENT_BLOBS", value_name = "DIR|URL")]
    blobs: Option<String>,
    /// The server of the bucket, such as `https://minio.example:9000` [default: Amazon's].
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL")]
    s3_endpoint: Option<String>,
    /// The bucket's region.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1", value_name = "NAME")]
    s3_region: String,
    /// The bucket's name is in the server's name, which --s3-endpoint then says whole, not in the path.
    #[arg(long, env = "FIRMAMENT_S3_VIRTUAL_HOST")]
    s3_virtual_host: bool,
    /// The public half of the bucket's key; without it the machine's cloud is asked for one.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true, value_name = "ID")]
    s3_key_id: Option<String>,
    /// File with the secret half of the bucket's key.
    #[arg(long, env = "FIRMAMENT_S3_SECRET_FILE", value_name = "FILE")]
    s3_secret_file: Option<PathBuf>,
    /// The secret half of the bucket's key; better in a file.
    #[arg(
        long,
        env = "AWS_SECRET_ACCESS_KEY",
        hide_env_values = true,
        conflicts_with = "s3_secret_file"
    )]
    s3_secret: Option<SecretString>,
}

impl BlobArguments {
    /// The record with its blobs where they were said to be.
    pub fn open(&self, record: Record) -> Result<Record, Failure> {
        let blobs = match said(self.blobs.as_deref()) {
            None => return Ok(record),
            Some(place) if place.starts_with("s3://") => Blobs::in_bucket(&self.bucket(place)?),
            Some(directory) => Blobs::open(directory.as_ref()),
        };
        Ok(Record { blobs: blobs.map_err(broken)?, ..record })
    }

    fn bucket(&self, place: &str) -> Result<Bucket, Failure> {
        let mut bucket: Bucket = place.parse().map_err(Failure::usage)?;
        let secret = match (&self.s3_secret, &self.s3_secret_file) {
            (Some(secret), None) if !secret.expose_secret().is_empty() => {
                Some(secret.expose_secret().to_owned())
            }
            (_, Some(path)) => Some(secret::read(path)?),
            (_, None) => None,
        };
        bucket.key = match (said(self.s3_key_id.as_deref()).map(str::to_owned), secret) {
            (Some(id), Some(secret)) => Some(BucketKey { id, secret }),
            (None, None) => None,
            _ => return Err(Failure::usage(anyhow!("a bucket's key has two halves: say both"))),
        };
        bucket.endpoint = said(self.s3_endpoint.as_deref()).map(str::to_owned);
        bucket.region.clone_from(&self.s3_region);
        bucket.virtual_hosted = self.s3_virtual_host;
        Ok(bucket)
    }
}

/// A setting that was made: a variable that is empty makes none.
fn said(setting: Option<&str>) -> Option<&str> {
    setting.filter(|setting| !setting.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Said {
        #[command(flatten)]
        blobs: BlobArguments,
    }

    fn bucket(said: &[&str]) -> Result<Bucket, Failure> {
        let place = ["gateway", "--blobs", "s3://files/here"];
        let said = Said::parse_from(place.iter().chain(said));
        said.blobs.bucket("s3://files/here")
    }

    #[test]
    fn a_key_has_two_halves_and_the_secret_one_may_be_in_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "hush\n").expect("written");
        let path = file.path().to_str().expect("a plain path");
        let whole = bucket(&["--s3-key-id", "me", "--s3-secret-file", path]).expect("a key");
        let key = whole.key.expect("it was said");
        assert_eq!((key.id.as_str(), key.secret.as_str()), ("me", "hush"));
        for half in [["--s3-key-id", "me"], ["--s3-secret", "hush"]] {
            assert!(bucket(&half).is_err(), "{half:?}");
        }
    }

    #[test]
    fn an_empty_setting_is_none() {
        let empty = bucket(&["--s3-key-id", "", "--s3-secret", "", "--s3-endpoint", ""]);
        let empty = empty.expect("there is nothing to be wrong");
        assert!(empty.key.is_none() && empty.endpoint.is_none());
    }

    #[test]
    fn what_was_said_shows_no_secret() {
        let said = Said::parse_from(["gateway", "--s3-key-id", "me", "--s3-secret", "hush"]);
        assert!(!format!("{said:?}").contains("hush"));
    }
}
