//! Keys: of signatures, and of what is only compared within the process.

use crate::Error;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// 256 random bits, or bits derived from such.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The one in a file, which is made if it is not there, for its owner only.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(Error::io("reading", path, error)),
        };
        let malformed = || Error::Malformed {
            path: path.to_owned(),
            detail: "which holds the key of tokens, is damaged: remove it, and everybody logs in again".into(),
        };
        let bytes = from_hex(text.trim()).ok_or_else(malformed)?;
        Ok(Self(bytes))
    }

    fn create(path: &Path) -> Result<Self, Error> {
        let key = Self::random();
        // Under its name only when it is whole.
        let new = path.with_extension("new");
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let written = written.and_then(|mut file| {
            file.write_all(format!("{}\n", to_hex(&key.0)).as_bytes())?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&new, path)).map_err(|error| Error::io("writing", path, error))?;
        Ok(key)
    }

    /// Another one for another purpose.
    pub fn derive(&self, purpose: &str) -> Self {
        Self(self.mac([purpose.as_bytes()]))
    }

    fn hmac(&self) -> Hmac<Sha256> {
        // A key shorter than a block is filled up with zeros (RFC 2104).
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        KeyInit::new(&block.into())
    }

    /// The HMAC-SHA256 of these parts, whose lengths count.
    pub fn mac<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut mac = self.hmac();
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The HMAC-SHA256 of one message as it is, as JWS has it.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        let mut mac = self.hmac();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    /// Whether a signature is that of a message; takes the same time either way.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let mut mac = self.hmac();
        mac.update(message);
        mac.verify_slice(signature).is_ok()
    }
}

/// Lower-case hex.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes of hex.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    // A sign is a digit to the standard library's parser.
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_for_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token-key");
        let key = Key::load_or_create(&path).expect("made");
        assert_eq!(Key::load_or_create(&path).expect("read"), key);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!format!("{key:?}").contains(&to_hex(&key.0)[..8]));
        fs::write(&path, "short").expect("written");
        assert!(Key::load_or_create(&path).is_err_and(|error| error.to_string().contains("remove it")));
    }

    #[test]
    fn macs_depend_on_key_and_parts() {
        let key = Key::random();
        let mac = key.mac([&b"ab"[..], b"c"]);
        assert_ne!(mac, key.mac([&b"a"[..], b"bc"]));
        assert_ne!(mac, key.derive("other").mac([&b"ab"[..], b"c"]));
        assert!(key.signed(b"m", &key.sign(b"m")) && !key.signed(b"n", &key.sign(b"m")) && !key.signed(b"m", b""));
        assert_eq!(from_hex(&to_hex(&mac)), Some(mac));
        assert_eq!((from_hex("00"), from_hex(&"zz".repeat(32)), from_hex(&"+1".repeat(32))), (None, None, None));
    }
}
