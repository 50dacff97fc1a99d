//! Bearer tokens: who gets one, for what, and what it proves when it comes back
//! (distribution, "Token Authentication Specification" and "OAuth2 Token Authentication").

use crate::{
    Error, Grant, LoginError, Principal,
    accounts::Accounts,
    claims::{self, Claims},
    clock,
    keys::{Key, to_hex},
};
use std::sync::Arc;

/// The name of the service that tokens are for and from: `service` in a challenge, `iss` and `aud` in a token.
pub const SERVICE: &str = "cidery";

/// How long a bearer token holds, in seconds.
const LIFETIME: u64 = 300;

/// How long a refresh token holds, in seconds, if the password does not change before.
const REFRESH_LIFETIME: u64 = 90 * 24 * 3600;

/// A token for a client.
#[derive(Debug)]
pub struct Issued {
    /// The bearer token.
    pub token: crate::Secret,
    /// How long it holds, in seconds.
    pub expires_in: u64,
    /// From when, in seconds since 1970.
    pub issued_at: u64,
    /// What it is for.
    pub grants: Arc<[Grant]>,
    /// What gets the next one, if it was asked for.
    pub refresh: Option<crate::Secret>,
}

/// Makes and reads them.
pub(crate) struct Tokens {
    access: Key,
    refresh: Key,
}

impl Tokens {
    pub fn new(key: &Key) -> Self {
        Self { access: key.derive("access token"), refresh: key.derive("refresh token") }
    }

    /// Makes a token for whoever proved to be `who`; with `offline` also a refresh token, unless he is nobody.
    pub fn issue(&self, who: &Principal, grants: Vec<Grant>, offline: bool) -> Result<Issued, Error> {
        let now = clock::now();
        let sign = |claims: &Claims, key| {
            claims::sign(claims, key).map(crate::Secret::new).map_err(|error| Error::Hash(error.to_string()))
        };
        let mut claims = Claims {
            iss: SERVICE.to_owned(),
            sub: who.name().unwrap_or_default().to_owned(),
            aud: SERVICE.to_owned(),
            exp: now + LIFETIME,
            nbf: now,
            iat: now,
            jti: to_hex(&rand::random::<[u8; 16]>()),
            access: grants,
            stamp: who.stamp.as_deref().map(str::to_owned),
        };
        let token = sign(&claims, &self.access)?;
        let grants = std::mem::take(&mut claims.access).into();
        claims.exp = now + REFRESH_LIFETIME;
        claims.jti = to_hex(&rand::random::<[u8; 16]>());
        let refresh = (offline && who.user.is_some()).then(|| sign(&claims, &self.refresh)).transpose()?;
        Ok(Issued { token, expires_in: LIFETIME, issued_at: now, grants, refresh })
    }

    /// Who shows a bearer token. His credential must still be good.
    pub fn verify(&self, token: &str, accounts: &Accounts) -> Result<Principal, LoginError> {
        self.read(token, &self.access, accounts)
    }

    /// Who shows a refresh token. His credential must still be good.
    pub fn verify_refresh(&self, token: &str, accounts: &Accounts) -> Result<Principal, LoginError> {
        let who = self.read(token, &self.refresh, accounts)?;
        Ok(Principal { grants: None, ..who })
    }

    fn read(&self, token: &str, key: &Key, accounts: &Accounts) -> Result<Principal, LoginError> {
        let now = clock::now();
        let claims = claims::verify(token, key, SERVICE, now).ok_or(LoginError::Token)?;
        let who = match (claims.sub.as_str(), &claims.stamp) {
            ("", None) => Principal::anonymous(),
            (user, Some(stamp)) => accounts.by_stamp(user, stamp, now).ok_or(LoginError::Token)?,
            _ => return Err(LoginError::Token),
        };
        Ok(Principal { grants: Some(claims.access.into()), ..who })
    }
}
