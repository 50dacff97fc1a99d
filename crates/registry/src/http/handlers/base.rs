//! `/v2/`

use crate::http::{fault::Reply, reply};
use axum::response::IntoResponse;

/// Says that the API is here. With no users configured nobody is asked to log in.
pub fn get() -> Reply {
    Ok(reply::Base.into_response())
}
