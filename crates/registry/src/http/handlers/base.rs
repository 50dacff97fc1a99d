//! `/v2/`

use crate::http::{fault::Reply, reply};
use axum::response::IntoResponse;

/// Says that the API is here, and that the login was right, if there was one.
pub fn get() -> Reply {
    Ok(reply::Base.into_response())
}
