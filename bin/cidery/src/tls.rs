//! The files that TLS is made of, read at the start and again when they change.

use anyhow::{Context, Result};
use cidery_registry::{ClientCertificates, Credentials, Tls};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where the parts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates, and whether every client must have one.
    pub clients: Option<(PathBuf, bool)>,
}

/// By what a file is known to be the same as before: device, inode, size, and when it was last changed.
type Stamp = (u64, u64, u64, i64, i64);

impl Files {
    /// Reads them, for a listener to be served with.
    pub async fn open(&self) -> Result<Tls> {
        let files = self.clone();
        spawn_blocking(move || Ok::<_, anyhow::Error>(Tls::new(&files.read()?)?)).await?.with_context(|| self.named())
    }

    /// Goes on for ever: puts new files to use soon after they changed, or at once on SIGHUP. What cannot be used is
    /// said in the log, and changes nothing.
    pub async fn watch(self, tls: Tls) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut seen = self.look().await;
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            // Before reading: what changes meanwhile is seen as changed the next time.
            let now = self.look().await;
            if !asked && now == seen {
                continue;
            }
            seen = now;
            let (files, tls) = (self.clone(), tls.clone());
            let replaced = spawn_blocking(move || Ok::<_, anyhow::Error>(tls.replace(&files.read()?)?)).await;
            match replaced.map_err(anyhow::Error::from).and_then(|replaced| replaced) {
                Ok(()) => tracing::info!("the TLS files were read again, and are in use"),
                Err(error) => {
                    let error = crate::line::one_line(&error);
                    tracing::warn!(error, "the TLS files changed and cannot be used; those before stay in use");
                }
            }
        }
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let clients = self.clients.as_ref().map(|(authorities, _)| authorities);
        [&self.cert, &self.key].into_iter().chain(clients).map(PathBuf::as_path)
    }

    fn named(&self) -> String {
        let paths: Vec<_> = self.paths().map(|path| path.display().to_string()).collect();
        format!("TLS with {}", paths.join(", "))
    }

    fn read(&self) -> Result<Credentials> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        let clients = self.clients.as_ref().map(|(authorities, required)| {
            anyhow::Ok(ClientCertificates { authorities: read(authorities)?, required: *required })
        });
        Ok(Credentials { chain: read(&self.cert)?, key: read(&self.key)?, clients: clients.transpose()? })
    }

    /// What is there now; `None` for what cannot be looked at.
    async fn look(&self) -> Vec<Option<Stamp>> {
        let files = self.clone();
        let stamp = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            // The time of the last change cannot be set by hand, as that of the last write can.
            Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
        };
        let look = spawn_blocking(move || files.paths().map(stamp).collect());
        look.await.unwrap_or_default()
    }
}
