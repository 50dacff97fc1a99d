//! Who may do what: accounts, credentials, tokens and rights. It knows no HTTP framework, no registry and no
//! command line; [`Access`] is what they ask.
//!
//! ```text
//!   Access ─┬─ source     which address a request comes from, behind trusted proxies
//!           ├─ throttle   failed logins make the next one wait, per source
//!           ├─ accounts   who there is: `users` (own format) and an htpasswd file, read anew when they change
//!           ├─ verifier   is the password right? hashed off the runtime, bounded, remembered for a minute
//!           ├─ tokens     bearer tokens: signed, short-lived, for what their scopes say
//!           └─ policy     user, repository, right ──► yes or no; the only place where that is decided
//! ```
//!
//! What a request proves makes a [`Principal`]; [`Access::decide`] says what becomes of it. No secret has a
//! `Debug` or a `Display` that shows it.

mod access;
mod accounts;
mod claims;
mod clock;
mod credentials;
mod error;
pub mod htpasswd;
mod keys;
mod password;
mod pattern;
mod policy;
mod principal;
mod rights;
mod scope;
mod selection;
mod source;
mod tag_pattern;
mod throttle;
mod tokens;
pub mod users;
mod verifier;
mod watched;

pub use access::{Access, Challenge, Config};
pub use credentials::{Credentials, Secret};
pub use error::{Error, LoginError};
pub use pattern::Pattern;
pub use policy::{Groups, Policy, PolicyError, Rule};
pub use principal::{Decision, Principal};
pub use rights::{Right, Rights};
pub use scope::{Grant, Scope};
pub use selection::{Fits, Selection};
pub use source::Proxies;
pub use tag_pattern::TagPattern;
pub use tokens::{Issued, SERVICE};
