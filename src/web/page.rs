//! The page's files, and the way in for a browser where a token is needed: who has shown it gets a cookie.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};

use super::app::App;
use super::error::WebError;
use super::guard::SESSION;
use crate::encode::page::{ASSETS, Asset, asset};

/// The page that asks for the token, and its script, which takes it from the address.
static DOOR: Asset =
    Asset { name: "door.html", content_type: "text/html; charset=utf-8", text: include_str!("page/door.html") };
static DOOR_SCRIPT: Asset =
    Asset { name: "door.js", content_type: "text/javascript; charset=utf-8", text: include_str!("page/door.js") };

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(index)).route(SESSION, post(session)).route("/{*name}", get(file))
}

/// Whether a path is of the page itself, or of what makes a browser known: both hold nothing of the windows.
pub(super) fn is_public(path: &str) -> bool {
    let name = path.trim_start_matches('/');
    name.is_empty() || name == DOOR_SCRIPT.name || ASSETS.iter().any(|asset| asset.name == name)
}

/// The page, or the door to it.
async fn index(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    match asset("").filter(|_| app.guard.is_known(&headers)) {
        Some(page) => show(page),
        None => show(&DOOR),
    }
}

async fn file(State(app): State<Arc<App>>, headers: HeaderMap, Path(name): Path<String>) -> Result<Response, WebError> {
    if name == DOOR_SCRIPT.name {
        return Ok(show(&DOOR_SCRIPT));
    }
    match asset(&name) {
        Some(page) if page.name == "index.html" => Ok(index(State(app), headers).await),
        Some(asset) => Ok(show(asset)),
        None => Err(WebError::nothing(format!("there is no /{name}; docs/serve.md lists what there is"))),
    }
}

/// Whoever comes here has shown the token to the guard.
async fn session(State(app): State<Arc<App>>) -> Response {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, app.guard.cookie())]).into_response()
}

fn show(asset: &'static Asset) -> Response {
    ([(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, "no-cache")], asset.text).into_response()
}
