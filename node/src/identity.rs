//! The node's key: made on the first start, never shown, never sent.

use std::io::{self, Write as _};
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use protocol::NodeId;
use protocol::link::node_id;

use crate::NodeError;

const FILE: &str = "node.key";

/// Who this node is.
pub struct Identity {
    key: SigningKey,
    node: NodeId,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.node)
    }
}

impl Identity {
    /// Reads the key in `directory`, or makes one there from `fresh`, 32 random bytes.
    ///
    /// # Errors
    /// [`NodeError::Disk`], [`NodeError::Key`], [`NodeError::KeyExposed`].
    pub fn open(directory: &Path, fresh: [u8; 32]) -> Result<Self, NodeError> {
        let path = directory.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let secret = bytes.try_into().map_err(|_| NodeError::Key(path.clone()))?;
                must_be_private(&path)?;
                Ok(Self::from_secret(&secret))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(directory, &fresh).map_err(NodeError::disk(&path))?;
                Ok(Self::from_secret(&fresh))
            }
            Err(error) => Err(NodeError::disk(&path)(error)),
        }
    }

    /// The identity of this ed25519 secret key.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(secret);
        let node = node_id(key.verifying_key().as_bytes());
        Self { key, node }
    }

    /// The node's id.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The public half of the key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Signs `payload`.
    pub fn sign(&self, payload: &[u8]) -> [u8; 64] {
        self.key.sign(payload).to_bytes()
    }
}

/// Writes beside the file, syncs, renames: a crash leaves a whole key or none.
fn create(directory: &Path, secret: &[u8; 32]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let staged = directory.join("node.key.new");
    match std::fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&staged)?;
    file.write_all(secret)?;
    file.sync_all()?;
    std::fs::rename(&staged, directory.join(FILE))?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(unix)]
fn must_be_private(path: &Path) -> Result<(), NodeError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_err(NodeError::disk(path))?.permissions().mode();
    let for_others = mode & 0o077;
    if for_others == 0 { Ok(()) } else { Err(NodeError::KeyExposed(path.to_owned())) }
}

#[cfg(not(unix))]
fn must_be_private(_path: &Path) -> Result<(), NodeError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_is_private_and_survives_a_restart() {
        let home = tempfile::tempdir().expect("a directory");
        let first = Identity::open(home.path(), [1; 32]).expect("a key is made");
        let again = Identity::open(home.path(), [2; 32]).expect("the key is read");
        assert_eq!(first.node(), again.node());
        assert_eq!(again.node(), Identity::from_secret(&[1; 32]).node());
        let mode = std::fs::metadata(home.path().join(FILE)).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_or_exposed_key_is_refused_and_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(FILE);
        std::fs::write(&path, b"short").expect("it is written");
        let refused = Identity::open(home.path(), [1; 32]).expect_err("not a key");
        assert!(matches!(refused, NodeError::Key(_)), "{refused:?}");

        std::fs::write(&path, [3; 32]).expect("it is written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is changed");
        let refused = Identity::open(home.path(), [1; 32]).expect_err("others can read it");
        assert!(matches!(refused, NodeError::KeyExposed(_)), "{refused:?}");
        assert_eq!(std::fs::read(&path).expect("it is there"), [3; 32]);
    }
}
