//! Who the node is: an Ed25519 key in a file.

use libp2p::identity::Keypair;
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// The node's key. Its public half is the peer id.
pub struct Identity(Keypair);

impl Identity {
    /// A new one that is written nowhere.
    pub fn generate() -> Self {
        Self(Keypair::generate_ed25519())
    }

    /// Reads the key at `path`, or makes one and writes it there: atomically, durably, and readable
    /// by its owner only. The file holds the protobuf of the libp2p specs, as other nodes keep it.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => {
                let key = Keypair::from_protobuf_encoding(&bytes).map_err(|error| {
                    let text = format!("{} does not hold a private key: {error}", path.display());
                    io::Error::new(io::ErrorKind::InvalidData, text)
                })?;
                // A copy made with a careless umask is tightened rather than refused.
                if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
                    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                }
                Ok(Self(key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn create(path: &Path) -> io::Result<Self> {
        let identity = Self::generate();
        let bytes = identity.0.to_protobuf_encoding().map_err(io::Error::other)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Named after the key, so that two that start at once never write to one draft.
        let draft = path.with_extension(format!("new-{}", identity.peer_id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // A link, unlike a rename, fails if somebody else was first: then theirs is the key.
        let linked = fs::hard_link(&draft, path);
        fs::remove_file(&draft)?;
        match linked {
            Ok(()) => {
                File::open(directory)?.sync_all()?;
                Ok(identity)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load_or_create(path),
            Err(error) => Err(error),
        }
    }

    /// The peer id in base58, `12D3Koo…`.
    pub fn peer_id(&self) -> String {
        self.0.public().to_peer_id().to_base58()
    }

    pub(crate) fn into_keypair(self) -> Keypair {
        self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.peer_id())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let first = Identity::load_or_create(&path).unwrap().peer_id();
        assert!(first.starts_with("12D3Koo"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Identity::load_or_create(&path).unwrap().peer_id(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn a_damaged_key_is_an_error_and_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        fs::write(&path, b"garbage").unwrap();
        let error = Identity::load_or_create(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("identity"));
        assert_eq!(fs::read(&path).unwrap(), b"garbage");
    }

    #[test]
    fn two_that_start_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let ids: Vec<String> = std::thread::scope(|scope| {
            let make = || Identity::load_or_create(&path).unwrap().peer_id();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}
