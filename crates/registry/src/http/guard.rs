//! Where a request comes from. Loopback is not trusted blindly: a web page or a reverse proxy on this machine
//! also calls from there (DNS rebinding, forwarded requests).

use super::{
    connection::Connection,
    cors::Origin,
    fault::{ApiError, Fault},
};
use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, Method, Uri, header, request::Parts, uri::Authority},
};
use cidery_access::Access;
use cidery_core::Scope;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whether the connection comes from this machine, and from nobody behind it.
    pub loopback: bool,
    /// The address the request comes from, as far as that can be believed.
    pub source: IpAddr,
    /// The same, if it is a trusted proxy that says so.
    pub forwarded: Option<IpAddr>,
    /// Whether nobody in between can read what is sent.
    pub private: bool,
    /// Whether the client calls by HTTPS.
    pub https: bool,
    /// Under which name or address, and port, the client calls.
    pub host: Option<String>,
}

impl Caller {
    /// By the connection's other end; without one (a router driven in process) it is the owner.
    pub fn at(address: Option<SocketAddr>) -> Self {
        let source = address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip().to_canonical());
        Self { loopback: source.is_loopback(), source, forwarded: None, private: true, https: false, host: None }
    }

    /// By all that is known of a request, headers of trusted proxies included.
    pub fn of(parts: &Parts, access: Option<&Access>) -> Self {
        let mut caller = Self::at(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(other)| *other));
        let connection = parts.extensions.get::<Connection>();
        caller.private = connection.is_none_or(|connection| connection.is_private());
        caller.https = connection.is_some_and(|connection| connection.tls);
        let host = last(&parts.headers, "host").map(str::to_owned);
        caller.host = host.or_else(|| parts.uri.authority().map(Authority::to_string));
        let headers = &parts.headers;
        let forwarded = headers.keys().any(|name| is_forwarding(name.as_str()));
        let Some(proxies) = access.map(Access::proxies).filter(|proxies| forwarded && proxies.trust(caller.source))
        else {
            return caller;
        };
        caller.loopback = false;
        let chain: Vec<_> = headers.get_all("x-forwarded-for").iter().map(|text| text.to_str().unwrap_or("")).collect();
        caller.source = proxies.source(caller.source, chain.into_iter());
        caller.forwarded = Some(caller.source);
        if let Some(scheme) = last(headers, "x-forwarded-proto") {
            caller.https = scheme.eq_ignore_ascii_case("https");
        }
        // How the proxy is reached counts, not how it reaches us.
        caller.private = caller.https;
        if let Some(host) = last(headers, "x-forwarded-host") {
            caller.host = Some(host.to_owned());
        }
        caller
    }

    /// Whose eyes read the local store when a foreign name is served.
    pub fn scope(&self) -> Scope {
        if self.loopback { Scope::Owner } else { Scope::Public }
    }

    /// Refuses writes from elsewhere: with no users configured they come from this machine only.
    pub fn check_method(&self, method: &Method) -> Result<(), ApiError> {
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
    caller: &Caller,
    uri: &Uri,
    headers: &HeaderMap,
    allowed: &[String],
    pages: &[Origin],
) -> Result<(), ApiError> {
    let denied = |message: String| Err(ApiError::new(Fault::Denied, message));
    // A name in `Host` that nobody configured is how DNS rebinding looks. IP literals can't be rebound,
    // but from loopback only loopback ones are expected.
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("").to_owned());
    for host in host.into_iter().chain(uri.authority().map(Authority::to_string)).chain(caller.host.clone()) {
        if !host_allowed(&host, caller, allowed) {
            return denied(format!(
                "this registry does not answer to the name {:?}: use localhost, or add it to hosts in the \
                 configuration",
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
             its real caller is unknown, unless trusted-proxies names the proxy"
        ));
    }
    Ok(())
}

/// The last of a header's values: the one that the nearest proxy wrote.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|text| !text.is_empty())
}

fn is_forwarding(name: &str) -> bool {
    name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
}

fn host_allowed(host: &str, caller: &Caller, allowed: &[String]) -> bool {
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
        check_headers(&caller, &Uri::from_static("/v2/"), &headers, &allowed, &pages).is_ok()
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

    fn forwarded(address: &str, trusted: &str, headers: &[(&'static str, &str)]) -> Caller {
        let mut request = axum::http::Request::builder().uri("/v2/").header("host", "127.0.0.1:5000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(ConnectInfo::<SocketAddr>(address.parse().unwrap()));
        let local = "127.0.0.1:5000".parse().unwrap();
        parts.extensions.insert(Connection { local, tls: false });
        let proxies = cidery_access::Proxies::read([trusted]).unwrap();
        let access = Access::open(cidery_access::Config { proxies, ..Default::default() }).unwrap();
        Caller::of(&parts, Some(&access))
    }

    #[test]
    fn trusted_proxies_say_who_calls() {
        let headers = [
            ("x-forwarded-for", "127.0.0.1, 198.51.100.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "registry.lan"),
        ];
        let caller = forwarded(LOOPBACK, "127.0.0.0/8", &headers);
        assert_eq!((caller.loopback, caller.source), (false, "198.51.100.4".parse().unwrap()));
        assert_eq!((caller.private, caller.https, caller.host.as_deref()), (true, true, Some("registry.lan")));
        // The way to the proxy is plain, however it reaches this server.
        let plain = forwarded(LOOPBACK, "127.0.0.0/8", &headers[..1]);
        assert_eq!((plain.private, plain.https, plain.host.as_deref()), (false, false, Some("127.0.0.1:5000")));
        // Nobody else is believed, and without such headers nobody stands in between.
        let caller = forwarded(ELSEWHERE, "127.0.0.0/8", &headers);
        assert_eq!(
            (caller.source, caller.https, caller.host.as_deref()),
            ("192.0.2.7".parse().unwrap(), false, Some("127.0.0.1:5000"))
        );
        let direct = forwarded(LOOPBACK, "127.0.0.0/8", &[]);
        assert!(direct.loopback && direct.private && !direct.https);
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
