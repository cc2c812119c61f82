//! Certificates of authorities made here, and handshakes in memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use tempfile::TempDir;

use super::*;
use crate::{Pinned, Trust, fault};

const DAY: Duration = Duration::from_hours(24);

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn issued(&self, issued: &Issued) -> [PathBuf; 2] {
        [self.put("server.crt", &issued.chain), self.put("server.key", &issued.key)]
    }

    fn authorities(&self, authority: &Authority) -> Authorities {
        Authorities::read(&self.put("ca.crt", authority.certificate())).expect("it was made so")
    }
}

fn authority() -> Authority {
    Authority::make(SystemTime::now()).expect("there is randomness")
}

fn issue(authority: &Authority, host: &str) -> Issued {
    authority.issue(&[host.to_owned()], DAY, SystemTime::now()).expect("issued")
}

fn serve(files: &Files, issued: &Issued) -> Arc<ServerCertificate> {
    let [certificate, key] = files.issued(issued);
    ServerCertificate::read(&certificate, &key, None, SystemTime::now()).expect("in order")
}

fn refused(files: &[PathBuf; 2], authorities: Option<Authorities>, now: SystemTime) -> TlsError {
    let [certificate, key] = files;
    ServerCertificate::read(certificate, key, authorities, now).expect_err("it is refused")
}

/// A handshake to its end; the client's complaint if it has one.
fn shake(trust: &Trust, server: &Arc<ServerCertificate>, host: &str) -> Result<(), String> {
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let client = ClientConnection::new(Arc::new(trust.client()), name);
    let mut client = client.expect("a client");
    let mut server = ServerConnection::new(server.listener()).expect("a server");
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory takes all");
        }
        server.read_tls(&mut wire.as_slice()).expect("memory gives all");
        let _ = server.process_new_packets(); // the client's complaint is the test's
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory takes all");
        }
        client.read_tls(&mut wire.as_slice()).expect("memory gives all");
        let done = client.process_new_packets();
        done.map_err(|error| fault(&error).expect("it is TLS that failed"))?;
    }
    Ok(())
}

#[test]
fn a_fingerprint_is_enough_to_know_the_server_and_to_learn_its_authority() {
    let (files, authority) = (Files::new(), authority());
    let server = serve(&files, &issue(&authority, "gateway-1"));
    let pinned = Pinned::new(authority.fingerprint(), None);
    let trust = Trust::pinned(Arc::clone(&pinned));
    assert_eq!(pinned.authority(), None);
    shake(&trust, &server, "gateway-1").expect("its authority is pinned");
    let learned = pinned.authority().expect("the server showed it");
    assert_eq!(learned, files.authorities(&authority));
    // A server that does not show it is known by what was learned.
    let alone = issue(&authority, "gateway-2");
    let leaf = alone.chain.split_inclusive("-----END CERTIFICATE-----\n").next().expect("one");
    let server = serve(&files, &Issued { chain: leaf.to_owned(), key: alone.key });
    for pinned in [pinned, Pinned::new(authority.fingerprint(), Some(&learned))] {
        shake(&Trust::pinned(pinned), &server, "gateway-2").expect("its authority is known");
    }
    let stranger = Trust::pinned(Pinned::new(authority.fingerprint(), None));
    let unknown = shake(&stranger, &server, "gateway-2").expect_err("nobody showed it");
    assert!(unknown.contains("fingerprint"), "{unknown}");
}

#[test]
fn another_authority_another_host_and_a_certificate_that_ended_are_refused_in_words() {
    let (files, own, other) = (Files::new(), authority(), authority());
    let (pin, own_file) = (own.fingerprint(), files.authorities(&own));
    let pinned = || Trust::pinned(Pinned::new(pin, None));
    let known = || Trust::authorities(&own_file);
    let server = serve(&files, &issue(&other, "gateway"));
    let said = shake(&pinned(), &server, "gateway").expect_err("the pin is another's");
    assert!(said.contains(&pin.to_string()), "{said}");
    let said = shake(&known(), &server, "gateway").expect_err("the authority is another");
    assert!(said.contains("not trusted here"), "{said}");
    // One that shows the pinned authority but has no certificate of it.
    let forged = issue(&other, "gateway");
    let leaf = forged.chain.split_inclusive("-----END CERTIFICATE-----\n").next().expect("one");
    let forged = Issued { chain: leaf.to_owned() + own.certificate(), key: forged.key };
    let said = shake(&pinned(), &serve(&files, &forged), "gateway").expect_err("it is forged");
    assert!(said.contains("certificate"), "{said}");

    let server = serve(&files, &issue(&own, "gateway"));
    for trust in [pinned(), known()] {
        shake(&trust, &server, "gateway").expect("it is the one");
        let said = shake(&trust, &server, "10.0.0.1").expect_err("the name is another");
        assert!(said.contains("another host"), "{said}");
    }

    let began = SystemTime::now() - 3 * DAY;
    let old = own.issue(&["gateway".to_owned()], DAY, began).expect("issued");
    let [certificate, key] = files.issued(&old);
    let server = ServerCertificate::read(&certificate, &key, None, began).expect("it was good");
    let said = shake(&pinned(), &server, "gateway").expect_err("its time is over");
    assert!(said.contains("expired"), "{said}");
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let (files, own, now) = (Files::new(), authority(), SystemTime::now());
    let issued = issue(&own, "gateway");
    let [certificate, key] = files.issued(&issued);
    let other = files.put("other.key", &issue(&own, "gateway").key);
    let error = refused(&[certificate.clone(), other], None, now);
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error:?}");
    let error = refused(&[key.clone(), key.clone()], None, now);
    assert!(matches!(error, TlsError::NoCertificate { .. }), "{error:?}");
    let error = refused(&[certificate.clone(), certificate.clone()], None, now);
    assert!(matches!(error, TlsError::NoKey { .. }), "{error:?}");
    let error = refused(&[files.folder.path().join("none"), key.clone()], None, now);
    assert!(matches!(error, TlsError::Read { .. }), "{error:?}");
    let files_named = [certificate, key];
    let error = refused(&files_named, None, now + 2 * DAY);
    assert!(matches!(error, TlsError::Expired { .. }), "{error:?}");
    let error = refused(&files_named, None, now - DAY);
    assert!(matches!(error, TlsError::NotYet { .. }), "{error:?}");
    let error = refused(&files_named, Some(files.authorities(&authority())), now);
    assert!(matches!(error, TlsError::OtherAuthority { .. }), "{error:?}");
    assert!(error.to_string().contains("server.crt"), "{error}");
    let [certificate, key] = files_named;
    let own = Some(files.authorities(&own));
    let server = ServerCertificate::read(&certificate, &key, own, now).expect("in order");
    server.must_name("gateway").expect("it is made out to it");
    let error = server.must_name("10.0.0.1").expect_err("it is not");
    assert!(matches!(error, TlsError::OtherName { .. }), "{error:?}");
}

#[test]
fn a_renewed_certificate_is_taken_and_a_broken_one_leaves_the_old_in_use() {
    let (files, own) = (Files::new(), authority());
    let server = serve(&files, &issue(&own, "gateway"));
    let pinned = Trust::pinned(Pinned::new(own.fingerprint(), None));
    let (first, now) = (server.leaf(), SystemTime::now());
    assert!(!server.renew(now).expect("the same files"));
    files.put("server.crt", &issue(&own, "gateway").chain);
    let error = server.renew(now).expect_err("the key is still the old one's");
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error:?}");
    assert_eq!(server.leaf(), first);
    shake(&pinned, &server, "gateway").expect("the old one serves");
    let renewed = own.issue(&["gateway".to_owned()], 2 * DAY, now).expect("issued");
    files.issued(&renewed);
    assert!(server.renew(now).expect("a new one"));
    assert_ne!(server.leaf(), first);
    assert!(server.expires() > now + DAY + DAY / 2);
    shake(&pinned, &server, "gateway").expect("the new one serves");
}

#[test]
fn a_process_knows_its_own_server_by_any_name_and_no_other() {
    let (files, other_files, own) = (Files::new(), Files::new(), authority());
    let server = serve(&files, &issue(&own, "gateway"));
    let other = serve(&other_files, &issue(&own, "gateway"));
    shake(&server.itself(), &server, "127.0.0.1").expect("it is its own");
    let said = shake(&server.itself(), &other, "gateway").expect_err("it is another");
    assert!(said.contains("this process"), "{said}");
}

#[test]
fn an_authority_is_read_back_from_its_files_and_issues_as_before() {
    let (files, made) = (Files::new(), authority());
    let (certificate, key) =
        (files.put("ca.crt", made.certificate()), files.put("ca.key", &made.key()));
    let again = Authority::read(&certificate, &key).expect("in order");
    assert_eq!(again.fingerprint(), made.fingerprint());
    assert_eq!(files.authorities(&made).to_pem(), made.certificate());
    let server = serve(&files, &issue(&again, "gateway"));
    shake(&Trust::pinned(Pinned::new(made.fingerprint(), None)), &server, "gateway").expect("one");
    let other = files.put("other.key", &authority().key());
    let error = Authority::read(&certificate, &other).err().expect("not its key");
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error:?}");
    for wrong in ["", "two words", "a_b!", "http://gateway"] {
        let now = SystemTime::now();
        assert!(made.issue(&[wrong.to_owned()], DAY, now).is_err(), "{wrong}");
    }
}
