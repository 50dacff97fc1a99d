//! Signed tokens: JWTs with HMAC-SHA256 (RFC 7515, RFC 7519), made and read by this program alone. So there is
//! one header, compared byte for byte, and nothing in a token chooses how it is checked.

use crate::{Grant, keys::Key};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The longest token that is read.
const MAX_TOKEN: usize = 12 << 10;

/// How far the clock may be set back, in seconds, before tokens seem to come from the future.
const SETBACK: u64 = 60;

/// What a token says (RFC 7519 §4.1; distribution, "Token Authentication Implementation").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub iss: String,
    /// The user; empty for who did not log in.
    pub sub: String,
    pub aud: String,
    pub exp: u64,
    pub nbf: u64,
    pub iat: u64,
    pub jti: String,
    #[serde(default)]
    pub access: Vec<Grant>,
    /// Ties it to the credential it was issued for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
}

/// Signs.
pub(crate) fn sign(claims: &Claims, key: &Key) -> Result<String, serde_json::Error> {
    let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?);
    let message = format!("{HEADER}.{body}");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    Ok(format!("{message}.{signature}"))
}

/// Reads what was signed with the key, and holds at a time, in seconds since 1970.
pub(crate) fn verify(token: &str, key: &Key, issuer: &str, now: u64) -> Option<Claims> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let body = message.strip_prefix(HEADER)?.strip_prefix('.')?;
    if !key.signed(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?) {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
    let holds = claims.nbf <= now + SETBACK && now < claims.exp && claims.iss == issuer && claims.aud == issuer;
    holds.then_some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claims() -> Claims {
        Claims {
            iss: "cidery".into(),
            sub: "alice".into(),
            aud: "cidery".into(),
            exp: 1300,
            nbf: 1000,
            iat: 1000,
            jti: "1".into(),
            access: vec![Grant::catalog()],
            stamp: None,
        }
    }

    #[test]
    fn the_header_is_what_it_says() {
        let header = URL_SAFE_NO_PAD.decode(HEADER).expect("base64");
        assert_eq!(header, br#"{"alg":"HS256","typ":"JWT"}"#);
    }

    #[test]
    fn tokens_hold_for_a_time_and_a_key() {
        let key = Key::random();
        let token = sign(&claims(), &key).expect("signed");
        assert_eq!(token.split('.').count(), 3);
        for (now, holds) in [(939, false), (940, true), (1299, true), (1300, false)] {
            assert_eq!(verify(&token, &key, "cidery", now).is_some(), holds, "{now}");
        }
        assert_eq!(verify(&token, &key, "cidery", 1000), Some(claims()));
        assert_eq!(verify(&token, &Key::random(), "cidery", 1000), None);
        assert_eq!(verify(&token, &key, "another", 1000), None);
    }

    #[test]
    fn no_other_algorithm_is_believed() {
        let key = Key::random();
        let token = sign(&claims(), &key).expect("signed");
        let body = token.split('.').nth(1).expect("a body");
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
        for forged in
            [format!("{none}.{body}."), format!("{none}.{body}"), format!("{HEADER}.{body}."), body.to_owned()]
        {
            assert_eq!(verify(&forged, &key, "cidery", 1000), None, "{forged}");
        }
        let message = format!("{none}.{body}");
        let signed = format!("{message}.{}", URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())));
        assert_eq!(verify(&signed, &key, "cidery", 1000), None);
    }

    proptest! {
        #[test]
        fn a_changed_token_is_no_token(at in 0usize..200, byte in "[A-Za-z0-9_-]") {
            let key = Key::random();
            let token = sign(&claims(), &key).expect("signed");
            let at = at % token.len();
            let changed = format!("{}{byte}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert_eq!(verify(&changed, &key, "cidery", 1000), None);
        }

        #[test]
        fn any_text_is_refused(text in "\\PC{0,80}") {
            prop_assert_eq!(verify(&text, &Key::random(), "cidery", 1000), None);
        }
    }
}
