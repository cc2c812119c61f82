//! An authority of a test's own, and certificates that it issues, in files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tls::{Authorities, Authority, Trust};

const DAY: Duration = Duration::from_hours(24);

/// An authority and a folder of files.
pub struct Certificates {
    folder: TempDir,
    /// It issues the certificates.
    pub authority: Authority,
}

impl Default for Certificates {
    /// # Panics
    /// The files cannot be written.
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::make(SystemTime::now()).expect("there is randomness");
        let this = Self { folder, authority };
        std::fs::write(this.ca(), this.authority.certificate()).expect("written");
        this
    }
}

impl Certificates {
    /// The authority's file.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// Any file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whoever has a certificate of this authority.
    ///
    /// # Panics
    /// A test removed its file.
    pub fn trust(&self) -> Trust {
        Trust::authorities(&Authorities::read(&self.ca()).expect("it was written so"))
    }

    /// Writes a certificate for `hosts` that is good for a day, and its key.
    ///
    /// # Panics
    /// A host is none, or the files cannot be written.
    pub fn issue(&self, hosts: &[&str]) -> [PathBuf; 2] {
        self.issue_at(hosts, SystemTime::now())
    }

    /// The same at another time.
    ///
    /// # Panics
    /// As [`Certificates::issue`] does.
    pub fn issue_at(&self, hosts: &[&str], now: SystemTime) -> [PathBuf; 2] {
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let issued = self.authority.issue(&names, DAY, now).expect("hosts are names");
        let file = |end: &str| self.file(&format!("{}.{end}", names[0]));
        let (certificate, key) = (file("crt"), file("key"));
        std::fs::write(&certificate, issued.chain).expect("written");
        write_private(&key, &issued.key);
        [certificate, key]
    }
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    #[cfg(unix)]
    {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, private).expect("it is ours");
    }
}
