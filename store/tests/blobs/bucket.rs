//! A server that speaks S3, and what a bucket shows besides: other hands in it, and nobody who answers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use store::{Blobs, Bucket, BucketKey};

use crate::cases::LIMIT;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python-s3/bin/moto_server");
const PATIENCE: Duration = Duration::from_mins(1);

/// A server of its own on a free port, which keeps its buckets in memory.
pub struct Server {
    child: Child,
    address: String,
}

impl Server {
    pub fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        assert!(Path::new(PROGRAM).exists(), "no S3 server is installed: run `./test.sh s3` once");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(PROGRAM);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self { child, address: format!("127.0.0.1:{port}") };
        let began = Instant::now();
        while TcpStream::connect(&server.address).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "the server has ended");
            assert!(began.elapsed() < PATIENCE, "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// The name of an empty bucket and a client of it.
    pub fn bucket(&self) -> (String, Blobs) {
        let name = format!("blobs-{}", uuid::Uuid::now_v7().simple());
        self.put(&name, b"");
        let mut bucket: Bucket = format!("s3://{name}/some/where").parse().unwrap();
        bucket.endpoint = Some(format!("http://{}", self.address));
        bucket.key = Some(BucketKey { id: "id".to_owned(), secret: "hush".to_owned() });
        (name, Blobs::in_bucket(&bucket).unwrap())
    }

    /// As somebody else would who has the right to.
    fn put(&self, path: &str, bytes: &[u8]) {
        let (address, length) = (&self.address, bytes.len());
        let head = format!(
            "PUT /{path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=other/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0"
        );
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(&[head.as_bytes(), b"\r\n\r\n", bytes].concat()).unwrap();
        let mut status = [0; 12];
        connection.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200", "{path}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_object_that_somebody_changed_is_never_served_as_good_and_putting_it_again_repairs_it() {
    let server = Server::start();
    let (name, blobs) = server.bucket();
    let digest = blobs.put(Bytes::from_static(b"weights")).await.unwrap();
    let hex = digest.to_string();
    server.put(&format!("{name}/some/where/sha256/{}/{hex}", &hex[..2]), b"weightz");
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap_err().code(), "digest_mismatch");
    let read: Vec<_> = blobs.stream(&digest).await.unwrap().collect().await;
    assert_eq!(read.last().unwrap().as_ref().unwrap_err().code(), "digest_mismatch");
    blobs.put(Bytes::from_static(b"weights")).await.unwrap();
    assert_eq!(blobs.get(&digest, LIMIT).await.unwrap(), "weights");
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_soon_and_shows_no_secret() {
    let mut server = Server::start();
    let (_, blobs) = server.bucket();
    let digest = blobs.put(Bytes::from_static(b"x")).await.unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let away = tokio::time::timeout(PATIENCE, blobs.get(&digest, LIMIT)).await.expect("no hang");
    let away = away.unwrap_err();
    assert!(!format!("{away:?} {away} {blobs:?}").contains("hush"), "{away}");
}
