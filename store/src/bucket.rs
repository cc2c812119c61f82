//! A bucket that speaks S3: where it is and how it is signed for.
//! Owns: reading its address. Never: blobs' names, environment, files with secrets.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as BlobPath;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, RetryConfig};

/// A caller waits behind these: a server that stays away is an error soon.
const RETRIES_MAX: usize = 3;
const RETRYING_MAX: Duration = Duration::from_secs(15);
/// How long a server may say nothing. The whole of a file may take longer: its reader may be slow.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A bucket and the part of it that is ours.
#[derive(Debug, Clone)]
pub struct Bucket {
    name: String,
    prefix: String,
    /// The server, such as `https://minio.example:9000`; Amazon's own if absent.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Whether the bucket's name is in the server's name rather than in a request's path. An endpoint must
    /// then name the bucket.
    pub virtual_hosted: bool,
    /// Who signs; what the machine is given by its cloud if absent.
    pub key: Option<BucketKey>,
}

/// A key of a bucket. Its debug form hides the secret.
#[derive(Clone)]
pub struct BucketKey {
    /// The public half.
    pub id: String,
    /// The secret half.
    pub secret: String,
}

impl fmt::Debug for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The text is no address of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a bucket's address reads `s3://bucket` or `s3://bucket/prefix`")]
pub struct BucketAddressError;

impl FromStr for Bucket {
    type Err = BucketAddressError;

    fn from_str(text: &str) -> Result<Self, BucketAddressError> {
        let rest = text.strip_prefix("s3://").ok_or(BucketAddressError)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !(3..=63).contains(&name.len()) || !name.chars().all(plain) {
            return Err(BucketAddressError);
        }
        Ok(Self {
            name: name.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            endpoint: None,
            region: "us-east-1".to_owned(),
            virtual_hosted: false,
            key: None,
        })
    }
}

impl Bucket {
    /// Its address, for people.
    pub fn place(&self) -> String {
        format!("s3://{}/{}", self.name, self.prefix)
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Result<PrefixStore<AmazonS3>, object_store::Error> {
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRYING_MAX,
            ..RetryConfig::default()
        };
        let plain = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let options = ClientOptions::new()
            .with_timeout_disabled()
            .with_read_timeout(SILENCE_MAX)
            .with_allow_http(plain);
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&self.name)
            .with_region(&self.region)
            .with_client_options(options)
            .with_virtual_hosted_style_request(self.virtual_hosted)
            .with_retry(retry);
        let builder = match &self.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint.trim_end_matches('/')),
            None => builder,
        };
        let builder = match &self.key {
            Some(key) => builder.with_access_key_id(&key.id).with_secret_access_key(&key.secret),
            None => builder,
        };
        Ok(PrefixStore::new(builder.build()?, BlobPath::from(self.prefix.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_a_part_of_it() {
        let bucket: Bucket = "s3://adapters/firmament/blobs/".parse().expect("an address");
        assert_eq!(bucket.place(), "s3://adapters/firmament/blobs");
        assert_eq!(
            "s3://adapters".parse::<Bucket>().expect("an address").place(),
            "s3://adapters/"
        );
        for wrong in ["", "adapters", "s3://", "s3://A_b/x", "s3://a b", "https://a/b", "s3:///x"] {
            assert!(wrong.parse::<Bucket>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_does_not_show_its_secret() {
        let key = BucketKey { id: "me".to_owned(), secret: "hush".to_owned() };
        assert!(!format!("{key:?}").contains("hush"));
    }
}
