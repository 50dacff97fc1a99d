//! Hashes of passwords: argon2id as a PHC string, and bcrypt as htpasswd files have it.

use crate::{Error, credentials::MAX_PASSWORD};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc},
};
use std::{fmt, str::FromStr};

/// The costliest bcrypt hash that is taken: a second or two for each login.
const MAX_COST: u32 = 15;

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PasswordHash {
    /// argon2, a PHC string.
    Argon2(String),
    /// bcrypt: `$2y$`, `$2a$` or `$2b$`.
    Bcrypt(String),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2(_) => "Argon2(…)",
            Self::Bcrypt(_) => "Bcrypt(…)",
        })
    }
}

impl PasswordHash {
    /// Hashes a new password with argon2id, at the cost that its authors recommend: about 20 ms and 19 MiB.
    pub fn new(password: &str) -> Result<Self, Error> {
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(Error::Password(format!("a password has from 1 to {MAX_PASSWORD} bytes")));
        }
        let salt: [u8; 16] = rand::random();
        let hash: phc::PasswordHash = Argon2::default()
            .hash_password_with_salt(password.as_bytes(), &salt)
            .map_err(|error| Error::Hash(error.to_string()))?;
        Ok(Self::Argon2(hash.to_string()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Argon2(text) | Self::Bcrypt(text) => text,
        }
    }

    /// Whether it is that of this password. Slow on purpose.
    pub fn verify(&self, password: &str) -> bool {
        match self {
            Self::Argon2(text) => phc::PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            // Cut at 72 bytes, as every htpasswd does.
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
        }
    }
}

impl FromStr for PasswordHash {
    type Err = &'static str;

    /// Reads one; the error says what kinds there are.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("$argon2") {
            return match phc::PasswordHash::new(text) {
                Ok(_) => Ok(Self::Argon2(text.to_owned())),
                Err(_) => Err("its argon2 hash is damaged"),
            };
        }
        if !["$2y$", "$2a$", "$2b$"].iter().any(|prefix| text.starts_with(prefix)) {
            return Err("its password is not hashed with bcrypt");
        }
        let parts: bcrypt::HashParts = text.parse().map_err(|_| "its bcrypt hash is damaged")?;
        match parts.get_cost() {
            4..=MAX_COST => Ok(Self::Bcrypt(text.to_owned())),
            _ => Err("its bcrypt hash has a cost that is not from 4 to 15"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argon2id_hashes_verify() {
        let hash = PasswordHash::new("correct horse").expect("hashed");
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
        assert!(hash.verify("correct horse") && !hash.verify("correct hors") && !hash.verify(""));
        assert_ne!(hash, PasswordHash::new("correct horse").expect("hashed"));
        assert_eq!(hash.as_str().parse::<PasswordHash>().as_ref(), Ok(&hash));
        assert!(!format!("{hash:?}").contains("m=19456"));
        assert!(PasswordHash::new("").is_err() && PasswordHash::new(&"x".repeat(1025)).is_err());
    }

    #[test]
    fn bcrypt_hashes_of_htpasswd_verify() {
        // Made by `htpasswd -nbB -C 4 user secret`, and its relatives.
        let made = bcrypt::hash_with_salt("secret", 4, *b"0123456789abcdef").expect("hashed");
        for version in [bcrypt::Version::TwoY, bcrypt::Version::TwoA, bcrypt::Version::TwoB] {
            let hash: PasswordHash = made.format_for_version(version).parse().expect("bcrypt");
            assert!(hash.verify("secret") && !hash.verify("Secret"));
        }
        // The known answer of another implementation.
        let known: PasswordHash =
            "$2a$04$e9zTI9bGcDZqWdNGZOJnQOsLYQIpt/Ikc6vWWFmFzrQGhRBDWjt1u".parse().expect("bcrypt");
        assert!(!known.verify("wrong"));
    }

    #[test]
    fn other_hashes_are_refused() {
        for (text, why) in [
            ("$apr1$abc$def", "not hashed with bcrypt"),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "not hashed with bcrypt"),
            ("secret", "not hashed with bcrypt"),
            ("", "not hashed with bcrypt"),
            ("$2y$05$short", "damaged"),
            ("$argon2id$v=19$broken", "damaged"),
            ("$2y$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZabcde", "cost"),
        ] {
            let error = text.parse::<PasswordHash>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
