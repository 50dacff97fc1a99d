//! A certificate authority of one's own, and what it signs, as the files that clients and servers want.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::{fs, path::Path};

/// Who signs.
pub struct Authority {
    cert: Certificate,
    key: KeyPair,
}

impl Authority {
    /// A new one, that nobody trusts yet.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self { cert: params.self_signed(&key).unwrap(), key }
    }

    /// Writes its own certificate.
    pub fn write(&self, file: &Path) {
        fs::write(file, self.cert.pem()).unwrap();
    }

    /// Writes a certificate for a server on this machine, and its key.
    pub fn write_server(&self, cert: &Path, key: &Path) {
        self.issue(ExtendedKeyUsagePurpose::ServerAuth, cert, key);
    }

    /// Writes a certificate for a client, and its key.
    pub fn write_client(&self, cert: &Path, key: &Path) {
        self.issue(ExtendedKeyUsagePurpose::ClientAuth, cert, key);
    }

    fn issue(&self, usage: ExtendedKeyUsagePurpose, cert: &Path, key: &Path) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.distinguished_name.push(DnType::CommonName, "a test");
        let pair = KeyPair::generate().unwrap();
        let signed = params.signed_by(&pair, &self.cert, &self.key).unwrap();
        fs::write(cert, signed.pem()).unwrap();
        fs::write(key, pair.serialize_pem()).unwrap();
    }
}
