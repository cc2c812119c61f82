//! By what this node knows its gateway: a file that it was given, the pin of its join token, or what it
//! kept of an earlier link.
//! Owns: that choice, and the file in which the authority is kept. Never: dialling.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::link::JoinToken;
use tls::{Authorities, Pinned, Trust};

use crate::config::GatewayTrust;
use crate::{NodeConfig, NodeError};

const FILE: &str = "gateway-ca.pem";

/// What the node goes by.
pub(crate) struct Known {
    trust: Option<Trust>,
    learned: Learned,
    file: PathBuf,
}

/// What is to be kept once a gateway was linked to.
enum Learned {
    Nothing,
    Given(Authorities),
    /// Known in full only after a handshake.
    Pinned(Arc<Pinned>),
}

impl Known {
    /// What was given goes before what was kept: it is the newer word of whoever runs this node.
    ///
    /// # Errors
    /// [`NodeError::OtherPin`], [`NodeError::Authority`].
    pub(crate) fn open(config: &NodeConfig) -> Result<Self, NodeError> {
        let file = config.data_dir.join(FILE);
        let pin = config.join_token.as_ref().and_then(JoinToken::pin);
        let (trust, learned) = match (&config.gateway_trust, pin) {
            (Some(GatewayTrust::Itself(trust)), _) => (Some(trust.clone()), Learned::Nothing),
            (Some(GatewayTrust::Authorities(given)), pin) => {
                if pin.is_some_and(|pin| given.with(pin).is_none()) {
                    return Err(NodeError::OtherPin);
                }
                (Some(Trust::authorities(given)), Learned::Given(given.clone()))
            }
            (None, Some(pin)) => {
                let pinned = Pinned::new(pin, kept(&file)?.as_ref());
                (Some(Trust::pinned(Arc::clone(&pinned))), Learned::Pinned(pinned))
            }
            (None, None) => (kept(&file)?.as_ref().map(Trust::authorities), Learned::Nothing),
        };
        Ok(Self { trust, learned, file })
    }

    /// Whom the node believes; nothing if it goes by the system's authorities, or by none on plain HTTP.
    pub(crate) const fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// Keeps what a link has shown to be right, for the time when the join token is gone.
    ///
    /// # Errors
    /// [`NodeError::Disk`].
    pub(crate) fn keep(&self) -> Result<(), NodeError> {
        let right = match &self.learned {
            Learned::Nothing => None,
            Learned::Given(given) => Some(given.clone()),
            Learned::Pinned(pinned) => pinned.authority(),
        };
        let Some(right) = right else { return Ok(()) };
        let text = right.to_pem();
        if std::fs::read_to_string(&self.file).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        write(&self.file, &text).map_err(NodeError::disk(&self.file))
    }
}

fn kept(file: &Path) -> Result<Option<Authorities>, NodeError> {
    if !file.exists() {
        return Ok(None);
    }
    Authorities::read(file).map(Some).map_err(|source| NodeError::Authority { source })
}

/// Writes beside the file and renames: a crash leaves the old one or the new one.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let staged = file.with_extension("pem.new");
    let mut staging = std::fs::File::create(&staged)?;
    staging.write_all(text.as_bytes())?;
    staging.sync_all()?;
    std::fs::rename(&staged, file)
}
