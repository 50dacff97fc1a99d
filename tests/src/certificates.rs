//! A certificate authority of one's own, and what it signs, as the files that clients and servers want.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::{fs, path::Path};

/// Who signs.
pub struct Authority {
    cert: Certificate,
    key: KeyPair,
}

/// A certificate with its key, in PEM.
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

impl Pair {
    /// Writes both.
    pub fn write(&self, cert: &Path, key: &Path) {
        fs::write(cert, &self.cert).unwrap();
        fs::write(key, &self.key).unwrap();
    }
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

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.cert.pem()
    }

    /// Writes that.
    pub fn write(&self, file: &Path) {
        fs::write(file, self.pem()).unwrap();
    }

    /// A certificate for a server on this machine, which is called `registry.example.com` too.
    pub fn server(&self) -> Pair {
        self.issue(ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client.
    pub fn client(&self) -> Pair {
        self.issue(ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, usage: ExtendedKeyUsagePurpose) -> Pair {
        let names = ["localhost", "127.0.0.1", "registry.example.com"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        params.distinguished_name.push(DnType::CommonName, "a test");
        let pair = KeyPair::generate().unwrap();
        let signed = params.signed_by(&pair, &self.cert, &self.key).unwrap();
        Pair { cert: signed.pem(), key: pair.serialize_pem() }
    }
}
