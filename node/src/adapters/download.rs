//! Manifests and blobs from the gateway, never more than was announced.

use protocol::{AdapterManifest, Digest, GenerationId, WorkError};
use reqwest::StatusCode;

use super::cache::{Pinned, Staged};
use super::unavailable;
use crate::http::Gateway;

/// Longest manifest.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024;

/// What opens the gateway's manifests and blobs: one link's session.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) gateway: Gateway,
    pub(crate) token: String,
}

impl Session {
    /// The manifest whose digest is `generation`.
    pub(super) async fn manifest(
        &self,
        generation: GenerationId,
    ) -> Result<AdapterManifest, WorkError> {
        let mut bytes = Vec::new();
        let path = format!("generations/{generation}");
        self.get(&path, MANIFEST_BYTES_MAX, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        if Digest::of(&bytes) != generation.0 {
            return Err(unavailable("the adapter's manifest does not match its digest"));
        }
        let manifest: AdapterManifest = serde_json::from_slice(&bytes)
            .map_err(|_| unavailable("the adapter's manifest cannot be read"))?;
        if manifest.id() != generation {
            return Err(unavailable("the adapter's manifest is not in canonical form"));
        }
        Ok(manifest)
    }

    /// Fills `staged` with the blob `digest` of exactly `size_bytes`.
    pub(super) async fn blob(
        &self,
        digest: Digest,
        size_bytes: u64,
        mut staged: Staged,
    ) -> Result<Pinned, WorkError> {
        let path = format!("blobs/{digest}");
        self.get(&path, size_bytes, |piece| staged.write(piece)).await?;
        keep(staged).await
    }

    /// Whether the gateway still has a file or manifest of this digest. Anything but its plain no is
    /// a yes: what is not known to be gone stays.
    pub(super) async fn has(&self, digest: Digest) -> bool {
        for path in [format!("blobs/{digest}"), format!("generations/{digest}")] {
            let request = self.gateway.client.head(self.gateway.address(&path));
            let asked = in_time(request.bearer_auth(&self.token).send()).await;
            if !asked.is_ok_and(|reply| reply.status() == StatusCode::NOT_FOUND) {
                return true;
            }
        }
        false
    }

    async fn get(
        &self,
        path: &str,
        limit_bytes: u64,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), WorkError> {
        let address = self.gateway.address(path);
        let request = self.gateway.client.get(address).bearer_auth(&self.token);
        let mut reply = in_time(request.send()).await?;
        if !reply.status().is_success() {
            let status = reply.status().as_u16();
            return Err(unavailable(format!("the gateway answered {status} for the adapter")));
        }
        let mut got = 0;
        while let Some(piece) = in_time(reply.chunk()).await? {
            got += piece.len() as u64;
            if got > limit_bytes {
                return Err(unavailable("a file of the adapter is longer than its manifest says"));
            }
            take(&piece).map_err(|_| unavailable("the adapter cache cannot be written"))?;
        }
        Ok(())
    }
}

/// Keeps a whole file, on a blocking thread: it waits for the disk.
pub(super) async fn keep(staged: Staged) -> Result<Pinned, WorkError> {
    let kept = tokio::task::spawn_blocking(|| staged.keep()).await;
    kept.expect("keeping a file does not panic").map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            unavailable("a file of the adapter does not match its digest")
        }
        _ => unavailable("the adapter cache cannot be written"),
    })
}

async fn in_time<T>(
    exchange: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, WorkError> {
    let got = tokio::time::timeout(Gateway::READ_STALL_MAX, exchange).await;
    got.ok().and_then(Result::ok).ok_or_else(|| unavailable("the adapter could not be fetched"))
}
