//! TLS for the listener: a certificate that can be replaced while it serves, and client certificates.
//!
//! Reading files, and noticing that they changed, is up to whoever embeds the registry.

use parking_lot::RwLock;
use std::{fmt, sync::Arc};
use thiserror::Error;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{Error as PemError, PemObject},
        },
        server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};

/// ALPN's names of what is spoken, the preferred one first.
pub const H2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";

/// What a listener shows to clients, and what it wants to see of them. All of it is PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate, followed by those between it and an authority that clients know.
    pub chain: Vec<u8>,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: Vec<u8>,
    /// Whether clients show certificates.
    pub clients: Option<ClientCertificates>,
}

/// Which client certificates are accepted.
#[derive(Clone)]
pub struct ClientCertificates {
    /// The authorities, one of which must have signed them.
    pub authorities: Vec<u8>,
    /// Whether a client without one is turned away.
    pub required: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let required = self.clients.as_ref().map(|clients| clients.required);
        f.debug_struct("Credentials").field("client_certificates_required", &required).finish_non_exhaustive()
    }
}

/// Why credentials cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A part is not PEM.
    #[error("the {part} is not valid PEM")]
    Pem {
        /// Which one.
        part: &'static str,
        /// What the parser says.
        #[source]
        source: PemError,
    },
    /// A part has nothing of what it is for.
    #[error("there is no certificate in the {0}")]
    Empty(&'static str),
    /// There is no key that can be used.
    #[error(
        "there is no private key in the key file that can be used; it takes PKCS#8, PKCS#1 or SEC1 in PEM, \
         decrypted (openssl pkey -in KEY -out KEY.plain)"
    )]
    NoKey(#[source] PemError),
    /// Certificate and key do not fit together, or are of a kind that is not supported.
    #[error("the certificate and its key cannot be used")]
    Pair(#[source] tokio_rustls::rustls::Error),
    /// An authority's certificate cannot be used.
    #[error("a certificate in the client CA file cannot be used")]
    Authority(#[source] tokio_rustls::rustls::Error),
    /// Client certificates cannot be checked with these authorities.
    #[error("client certificates cannot be checked by the client CA file")]
    Verifier(#[from] VerifierBuilderError),
}

/// A listener's TLS. Clones share it, so that one can be served with while another replaces the credentials.
#[derive(Clone)]
pub struct Tls {
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// With these credentials.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be used.
    pub fn new(credentials: &Credentials) -> Result<Self, TlsError> {
        Ok(Self { current: Arc::new(RwLock::new(Arc::new(server_config(credentials)?))) })
    }

    /// New connections are served with these credentials from now on; those that are open go on as they are.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be used; then the ones before stay.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), TlsError> {
        // Made first: nobody waits for it. A new configuration also remembers no session, so that a client
        // whose authority is gone cannot resume one.
        let config = Arc::new(server_config(credentials)?);
        *self.current.write() = config;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().clone())
    }
}

fn server_config(credentials: &Credentials) -> Result<ServerConfig, TlsError> {
    // Named, since there may be another one in the program, and then rustls has no default.
    let provider = Arc::new(ring::default_provider());
    let chain = certificates("certificate file", &credentials.chain)?;
    let key = PrivateKeyDer::from_pem_slice(&credentials.key).map_err(TlsError::NoKey)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let builder = match &credentials.clients {
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    Ok(config)
}

fn verifier(
    clients: &ClientCertificates,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("client CA file", &clients.authorities)? {
        roots.add(authority).map_err(TlsError::Authority)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(if clients.required { builder } else { builder.allow_unauthenticated() }.build()?)
}

fn certificates(part: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|source| TlsError::Pem { part, source })?;
    if read.is_empty() { Err(TlsError::Empty(part)) } else { Ok(read) }
}
