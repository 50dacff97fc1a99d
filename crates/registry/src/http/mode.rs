//! What this registry does not do for anybody: deletes or writes, where the configuration says so.

use super::{
    fault::{ApiError, Fault},
    route::Route,
};
use crate::Config;
use axum::http::{HeaderValue, Method, header};

/// Refuses writes of a registry that is read-only, and deletes where they are off (405, distribution-spec, "Content
/// Management"). Cancelling an upload deletes nothing that was acknowledged.
pub fn check(config: &Config, route: &Route, method: &Method) -> Result<(), ApiError> {
    // What the path does not answer at all is said as everywhere.
    if !route.allow().split(", ").any(|allowed| allowed == method.as_str()) {
        return Ok(());
    }
    // Who gets a token writes nothing.
    let writes = !matches!(*method, Method::GET | Method::HEAD) && *route != Route::Token;
    let deletes = *method == Method::DELETE && matches!(route, Route::Manifest { .. } | Route::Blob { .. });
    let refused = |message: &'static str, allow: &'static str| {
        Err(ApiError::new(Fault::MethodNotAllowed, message).with(header::ALLOW, HeaderValue::from_static(allow)))
    };
    match route {
        _ if config.read_only && writes => refused("this registry is read-only", "GET, HEAD"),
        Route::Manifest { .. } if deletes && !config.deletes => {
            refused("deletes are turned off on this registry", "GET, HEAD, PUT")
        }
        Route::Blob { .. } if deletes && !config.deletes => {
            refused("deletes are turned off on this registry", "GET, HEAD")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &Config) -> Vec<(&'static str, &'static str)> {
        let mut refused = Vec::new();
        for path in
            ["/token", "/v2/", "/v2/a/manifests/1", "/v2/a/blobs/b", "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/u"]
        {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
                let route = Route::parse(path).unwrap();
                if check(config, &route, &method.parse().unwrap()).is_err() {
                    refused.push((method, path));
                }
            }
        }
        refused
    }

    #[test]
    fn what_is_refused() {
        let (manifest, blob, upload) = ("/v2/a/manifests/1", "/v2/a/blobs/b", "/v2/a/blobs/uploads/u");
        assert_eq!(refused(&Config::default()), []);
        let no_deletes = Config { deletes: false, ..Config::default() };
        assert_eq!(refused(&no_deletes), [("DELETE", manifest), ("DELETE", blob)]);
        let read_only = Config { read_only: true, ..Config::default() };
        let all = [
            ("PUT", manifest),
            ("DELETE", manifest),
            ("DELETE", blob),
            ("POST", "/v2/a/blobs/uploads/"),
            ("PUT", upload),
            ("PATCH", upload),
            ("DELETE", upload),
        ];
        assert_eq!(refused(&read_only), all);
    }
}
