//! Who may do what. Loopback is not trusted blindly: a web page or a reverse proxy on this machine
//! also calls from there (DNS rebinding, forwarded requests).

use super::{
    cors::Origin,
    fault::{ApiError, Fault},
};
use axum::http::{HeaderMap, Method, Uri, header, uri::Authority};
use cidery_core::Scope;
use std::net::{IpAddr, SocketAddr};

/// The one who calls.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Whether the connection comes from this machine.
    pub loopback: bool,
}

impl Caller {
    /// By the connection's other end; without one (a router driven in process) it is the owner.
    pub fn at(address: Option<SocketAddr>) -> Self {
        Self { loopback: address.is_none_or(|address| address.ip().to_canonical().is_loopback()) }
    }

    /// Whose eyes read the local store when a foreign name is served.
    pub fn scope(self) -> Scope {
        if self.loopback { Scope::Owner } else { Scope::Public }
    }

    /// Refuses writes from elsewhere: with no users configured they come from this machine only.
    pub fn check_method(self, method: &Method) -> Result<(), ApiError> {
        if self.loopback || matches!(*method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        Err(ApiError::new(
            Fault::Denied,
            "no users are configured, so pushes and deletes are accepted from this machine only (127.0.0.1)",
        ))
    }
}

/// Refuses requests that did not come straight from a client that meant this registry, or from a page of
/// one of the `pages`.
pub fn check_headers(
    caller: Caller,
    uri: &Uri,
    headers: &HeaderMap,
    allowed: &[String],
    pages: &[Origin],
) -> Result<(), ApiError> {
    let denied = |message: String| Err(ApiError::new(Fault::Denied, message));
    // A name in `Host` that nobody configured is how DNS rebinding looks. IP literals can't be rebound,
    // but from loopback only loopback ones are expected.
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("").to_owned());
    for host in host.into_iter().chain(uri.authority().map(Authority::to_string)) {
        if !host_allowed(&host, caller, allowed) {
            return denied(format!(
                "this registry does not answer to the name {:?}: use localhost, or add it to the allowed hosts",
                host.chars().take(80).collect::<String>()
            ));
        }
    }
    let origin = headers.get(header::ORIGIN);
    let trusted = origin.is_some_and(|origin| pages.iter().any(|page| page.is(origin)));
    if let Some(origin) = origin.filter(|_| !trusted) {
        let origin = origin.to_str().unwrap_or("");
        let own = origin.split_once("://").is_some_and(|(_, host)| host_allowed(host, caller, allowed));
        if !own {
            return denied("requests of web pages from elsewhere are refused (Origin)".into());
        }
    }
    // Images and the like, which a page loads without an Origin. Only browsers send this: `none` is the
    // person at the address bar.
    if let Some(site) = headers.get("sec-fetch-site").filter(|_| !trusted)
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return denied("requests of web pages from elsewhere are refused (Sec-Fetch-Site)".into());
    }
    if caller.loopback
        && let Some(name) = headers.keys().map(header::HeaderName::as_str).find(|name| is_forwarding(name))
    {
        return denied(format!(
            "a request that a proxy on this machine forwarded ({name}) cannot be taken for the owner's: \
             its real caller is unknown"
        ));
    }
    Ok(())
}

fn is_forwarding(name: &str) -> bool {
    name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
}

fn host_allowed(host: &str, caller: Caller, allowed: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    if let Ok(ip) = name.parse::<IpAddr>()
        && (ip.to_canonical().is_loopback() || !caller.loopback)
    {
        return true;
    }
    allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, host: &str, more: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        if !host.is_empty() {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        for (name, value) in more {
            headers.insert(*name, value.parse().unwrap());
        }
        let caller = Caller::at(Some(address.parse().unwrap()));
        let allowed = ["registry.lan".to_owned(), "other.lan:5000".to_owned()];
        let pages = ["https://ui.example".parse().unwrap()];
        check_headers(caller, &Uri::from_static("/v2/"), &headers, &allowed, &pages).is_ok()
    }

    const LOOPBACK: &str = "127.0.0.1:1";
    const ELSEWHERE: &str = "192.0.2.7:1";

    #[test]
    fn only_known_hosts_are_answered() {
        for good in ["localhost:5000", "LOCALHOST", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "registry.lan:80", ""]
        {
            assert!(check(LOOPBACK, good, &[]), "{good}");
        }
        for bad in
            ["evil.example", "evil.example:5000", "192.0.2.1:5000", "localhost.evil.example", "a@localhost", "x y"]
        {
            assert!(!check(LOOPBACK, bad, &[]), "{bad}");
        }
        assert!(check(LOOPBACK, "other.lan:5000", &[]) && !check(LOOPBACK, "other.lan:5001", &[]));
        assert!(check(ELSEWHERE, "192.0.2.1:5000", &[]) && !check(ELSEWHERE, "evil.example:5000", &[]));
        assert!(check("[::ffff:127.0.0.1]:1", "localhost", &[]));
    }

    #[test]
    fn pages_and_proxies_are_refused() {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-host", "localhost"),
            ("x-real-ip", "1.2.3.4"),
        ] {
            assert!(!check(LOOPBACK, "localhost:5000", &[(name, value)]), "{name}");
        }
        for site in ["cross-site", "same-site", "", "something-new"] {
            assert!(!check(LOOPBACK, "localhost:5000", &[("sec-fetch-site", site)]), "{site}");
            assert!(!check(ELSEWHERE, "192.0.2.1", &[("sec-fetch-site", site)]), "{site}");
        }
        for site in ["same-origin", "none"] {
            assert!(check(LOOPBACK, "localhost:5000", &[("sec-fetch-site", site)]), "{site}");
        }
        assert!(check(LOOPBACK, "localhost:5000", &[("origin", "http://localhost:5000")]));
        assert!(check(ELSEWHERE, "192.0.2.1", &[("x-forwarded-for", "1.2.3.4")]));
        let page = |origin| check(LOOPBACK, "localhost:5000", &[("origin", origin), ("sec-fetch-site", "cross-site")]);
        assert!(page("https://ui.example"));
        assert!(!page("http://ui.example") && !page("https://ui.example:8443") && !page("https://ui.example.evil"));
        assert!(!check(ELSEWHERE, "192.0.2.1", &[("origin", "https://evil.example")]));
    }

    #[test]
    fn only_this_machine_writes() {
        let elsewhere = Caller::at(Some(ELSEWHERE.parse().unwrap()));
        assert!(elsewhere.check_method(&Method::GET).is_ok());
        for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE] {
            assert!(elsewhere.check_method(&method).is_err());
            assert!(Caller::at(Some(LOOPBACK.parse().unwrap())).check_method(&method).is_ok());
        }
        assert_eq!((elsewhere.scope(), Caller::at(None).scope()), (Scope::Public, Scope::Owner));
    }
}
