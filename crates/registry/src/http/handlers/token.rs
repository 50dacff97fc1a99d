//! `/token`: bearer tokens, by GET (distribution, "Token Authentication Specification") and by POST (the same,
//! "OAuth2 Token Authentication"). Nobody is refused for what he may not: his token is for less then.

use super::read;
use crate::http::{
    Context, auth,
    fault::{ApiError, Fault, Reply},
    query::Query,
    reply,
};
use axum::{body::Body, response::IntoResponse};
use cidery_access::{Access, Principal, Scope, Secret};

/// The largest form.
const MAX_FORM: usize = 16 << 10;

/// For whoever the request's Basic credentials prove, or for nobody in particular.
pub fn get(cx: &Context) -> Reply {
    let (access, who) = accounts(cx)?;
    if who.grants.is_some() {
        let message = "a bearer token gets no other one: send a user name and password";
        return Err(auth::with_basic(ApiError::new(Fault::Unauthorized, message)));
    }
    let offline = cx.query.get("offline_token").is_some_and(|asked| matches!(asked, "true" | "1"));
    issue(cx, access, who, &cx.query, offline)
}

/// For a password or a refresh token in a form.
pub async fn post(cx: &Context, body: Body) -> Reply {
    let (access, _) = accounts(cx)?;
    let too_large = || ApiError::new(Fault::BadRequest, format!("a form may have {MAX_FORM} bytes"));
    let form = read(cx, body, MAX_FORM, too_large).await?;
    let form = Query::parse(std::str::from_utf8(&form).map_err(|_| Fault::BadRequest)?);
    let missing = |what: &str| ApiError::new(Fault::BadRequest, format!("the form has no {what}"));
    auth::check_private(access, &cx.caller)?;
    let (who, offline) = match form.get("grant_type") {
        Some("password") => {
            let user = form.get("username").ok_or_else(|| missing("username"))?;
            let password = Secret::new(form.get("password").ok_or_else(|| missing("password"))?);
            (access.log_in(user, &password, cx.caller.source).await, form.get("access_type") == Some("offline"))
        }
        Some("refresh_token") => {
            let token = Secret::new(form.get("refresh_token").ok_or_else(|| missing("refresh_token"))?);
            (access.refresh(&token).await, false)
        }
        _ => {
            return Err(ApiError::new(Fault::BadRequest, "grant_type is password or refresh_token"));
        }
    };
    let who = who.map_err(|error| auth::with_basic(error.into()))?;
    let mut response = issue(cx, access, &who, &form, offline)?;
    // Who logged in is known only now.
    response.extensions_mut().insert(who);
    Ok(response)
}

fn issue(cx: &Context, access: &Access, who: &Principal, asked: &Query, offline: bool) -> Reply {
    let scopes = Scope::read(asked.all("scope"));
    let canonical = |name: &str| Some(cx.registry.name(name).ok()?.full());
    let issued = access.issue(who, &scopes, offline, canonical);
    let issued = issued.map_err(|error| ApiError::from(Fault::Internal).because(error))?;
    Ok(reply::Token(issued).into_response())
}

fn accounts(cx: &Context) -> Result<(&Access, &Principal), ApiError> {
    let nobody = || ApiError::new(Fault::NotFound, "nobody needs a token here: there are no accounts");
    cx.registry.config.access.as_deref().zip(cx.who.as_ref()).ok_or_else(nobody)
}
