//! Who calls, and whether he may: asked once for each request, before any handler runs. The rules themselves are
//! `cidery_access`'s.

use super::{
    Context,
    fault::{ApiError, Fault},
    guard::Caller,
    route::{Route, TOKEN},
};
use crate::{names, registry::Inner, tree::May};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use cidery_access::{Access, Challenge, Credentials, Decision, LoginError, Principal, Right, Rights, SERVICE};
use cidery_core::{Namespace, RepositoryName, Scope};

/// Who calls; `None` as long as nobody has to log in: then it does not matter what is shown either.
pub async fn identify(
    registry: &Inner,
    caller: &Caller,
    headers: &HeaderMap,
    route: &Route,
) -> Result<Option<Principal>, ApiError> {
    let Some(access) = registry.config.access.as_deref() else { return Ok(None) };
    if !access.is_required().await {
        return Ok(None);
    }
    let Some(shown) = headers.get(header::AUTHORIZATION) else { return Ok(Some(Principal::anonymous())) };
    let challenged = |error: LoginError| {
        let invalid = (error == LoginError::Token).then_some("invalid_token");
        let wrong = matches!(error, LoginError::Wrong | LoginError::Token);
        match ApiError::from(error) {
            error if !wrong => error,
            error if *route == Route::Token => with_basic(error),
            error => error.with(header::WWW_AUTHENTICATE, challenge(access, caller, None, invalid)),
        }
    };
    let shown = shown.to_str().ok().and_then(Credentials::parse).ok_or_else(|| challenged(LoginError::Wrong))?;
    if matches!(shown, Credentials::Basic { .. }) {
        check_private(access, caller)?;
    }
    access.authenticate(&shown, caller.source).await.map(Some).map_err(challenged)
}

/// Refuses secrets that others could read on their way.
pub fn check_private(access: &Access, caller: &Caller) -> Result<(), ApiError> {
    if caller.private || access.is_insecure() {
        return Ok(());
    }
    Err(ApiError::new(
        Fault::Denied,
        "passwords and tokens are not taken over a connection that is not encrypted: use HTTPS, or set \
         insecure-auth = true where the network can be trusted; this password may have been read, change it",
    ))
}

/// Refuses what the caller may not do.
pub fn authorize(cx: &Context, route: &Route) -> Result<(), ApiError> {
    let Some((access, who)) = rules(cx) else { return Ok(()) };
    let challenged = |message: &str, scope: Option<&str>, error| {
        let challenge = challenge(access, &cx.caller, scope, error);
        Err(ApiError::new(Fault::Unauthorized, message.to_owned()).with(header::WWW_AUTHENTICATE, challenge))
    };
    let Some(name) = route.repository() else {
        return match route {
            // Whatever anybody may pull without a login: a client that is not asked never logs in.
            Route::Base if who.user.is_none() && who.grants.is_none() => challenged("log in", None, None),
            Route::Catalog => match access.decide_list(who) {
                Decision::Allowed => Ok(()),
                Decision::NeedsToken => {
                    let message = "the bearer token is not for the list of repositories";
                    challenged(message, Some("registry:catalog:*"), Some("insufficient_scope"))
                }
                _ => challenged("log in to list repositories", Some("registry:catalog:*"), None),
            },
            _ => Ok(()),
        };
    };
    let Some((rights, actions, verb)) = needed(route, &cx.method) else { return Ok(()) };
    let full = cx.registry.name(name)?.full();
    let scope = format!("repository:{name}:{actions}");
    let user = who.name().unwrap_or_default();
    match access.decide(who, &full, rights) {
        Decision::Allowed => Ok(()),
        Decision::NeedsToken => {
            let message = format!("the bearer token is not for this: it takes the scope {scope}");
            challenged(&message, Some(&scope), Some("insufficient_scope"))
        }
        Decision::NeedsLogin => challenged(&format!("log in to {verb} {name}"), Some(&scope), None),
        Decision::Denied => {
            let rights = rights.to_string().replace(',', " or ");
            Err(ApiError::new(Fault::Denied, format!("{user} may not {verb} {name}: that takes the right to {rights}")))
        }
        // The same whether it is there or not.
        Decision::Hidden => {
            let message = format!("there is no repository {name} here, or {user} may not know of it");
            Err(ApiError::new(Fault::NameUnknown, message))
        }
    }
}

/// Which rights a request takes, any of them; the actions of a token for it; and what it does, in a word.
fn needed(route: &Route, method: &Method) -> Option<(Rights, &'static str, &'static str)> {
    let push = "pull,push";
    Some(match (route, method) {
        (Route::Uploads { .. } | Route::Upload { .. }, _) => (Right::Create.into(), push, "push to"),
        // Which of the two depends on what is there: `may_push`.
        (Route::Manifest { .. }, &Method::PUT) => (Rights::PUSH, push, "push to"),
        (Route::Manifest { .. } | Route::Blob { .. }, &Method::DELETE) => {
            (Right::Delete.into(), "delete", "delete from")
        }
        (_, &Method::GET | &Method::HEAD) => (Rights::PULL, "pull", "pull"),
        _ => return None,
    })
}

/// What a push to this repository may change.
pub fn may_push(cx: &Context, name: &str) -> Result<May, ApiError> {
    let Some((access, who)) = rules(cx) else { return Ok(May::default()) };
    let rights = access.allowed(who, &cx.registry.name(name)?.full());
    Ok(May { create: rights.has(Right::Create), overwrite: rights.has(Right::Overwrite) })
}

/// Whether the caller may pull from a repository of this node.
pub fn may_pull(cx: &Context, namespace: &Namespace, repository: &RepositoryName) -> bool {
    rules(cx).is_none_or(|(access, who)| access.allowed(who, &names::full_name(namespace, repository)).has(Right::Pull))
}

/// Whether the caller may know of a repository, by its full name.
pub fn is_listed(cx: &Context, full: &str) -> bool {
    rules(cx).is_none_or(|(access, who)| access.is_listed(who, full))
}

/// Whose eyes read the local store when a foreign name is served: who may pull all of this node's namespaces
/// learns nothing by naming one of their blobs in a tree of his own.
pub fn scope(cx: &Context) -> Scope {
    match rules(cx) {
        None => cx.caller.scope(),
        Some((access, who)) if access.may_pull_everything(who) => Scope::Owner,
        Some(_) => Scope::Public,
    }
}

fn rules(cx: &Context) -> Option<(&Access, &Principal)> {
    cx.registry.config.access.as_deref().zip(cx.who.as_ref())
}

/// Asks for user and password, at the one place where tokens are had.
pub fn with_basic(error: ApiError) -> ApiError {
    error.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"cidery\""))
}

/// `WWW-Authenticate` (RFC 6750 §3, with distribution's `service`). The realm is where the client found this
/// server, which only the client knows.
fn challenge(access: &Access, caller: &Caller, scope: Option<&str>, error: Option<&str>) -> HeaderValue {
    let host = caller.host.as_deref();
    let text = match (access.challenge(), host) {
        (Challenge::Bearer, Some(host)) => {
            let scheme = if caller.https { "https" } else { "http" };
            let more = [("scope", scope), ("error", error)];
            let more = more.iter().filter_map(|(key, value)| Some(format!(",{key}=\"{}\"", (*value)?)));
            format!("Bearer realm=\"{scheme}://{host}{TOKEN}\",service=\"{SERVICE}\"{}", more.collect::<String>())
        }
        // Without a Host (HTTP/1.0) there is no address to send anybody to.
        (Challenge::Basic, _) | (Challenge::Bearer, None) => "Basic realm=\"cidery\"".to_owned(),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Basic realm=\"cidery\""))
}
