//! What is answered instead of an answer: a status, and a sentence that says what failed, why, and what mends it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::encode::EncodeError;
use crate::store::series::SeriesError;
use crate::store::{CompareSidesError, QueryError, StoreError};

/// A refusal or a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebError {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl WebError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> WebError {
        WebError { status, message: message.into() }
    }

    /// The question means nothing.
    pub(super) fn bad(message: impl Into<String>) -> WebError {
        WebError::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is nothing of what was asked for.
    pub(super) fn nothing(message: impl Into<String>) -> WebError {
        WebError::new(StatusCode::NOT_FOUND, message)
    }

    /// There is too much to do already.
    pub(super) fn busy(message: impl Into<String>) -> WebError {
        WebError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// It is nobody's fault but ours, or the disk's.
    pub(super) fn failed(message: impl Into<String>) -> WebError {
        WebError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> WebError {
        WebError::failed(error.to_string())
    }
}

impl From<QueryError> for WebError {
    fn from(error: QueryError) -> WebError {
        let status = match error {
            QueryError::Late { .. } | QueryError::Withdrawn => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::Large { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            QueryError::Merge { .. } | QueryError::Unreadable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        WebError::new(status, error.to_string())
    }
}

impl From<SeriesError> for WebError {
    fn from(error: SeriesError) -> WebError {
        match error {
            SeriesError::Cost(error) => error.into(),
            SeriesError::Large => WebError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            _ => WebError::bad(error.to_string()),
        }
    }
}

impl From<CompareSidesError> for WebError {
    fn from(error: CompareSidesError) -> WebError {
        let message = error.to_string();
        match error {
            CompareSidesError::Query { source, .. } => WebError { message, ..source.into() },
            CompareSidesError::NoWindow { .. } => WebError::nothing(message),
            CompareSidesError::Compare(_) => WebError::bad(message),
            _ => WebError::failed(message),
        }
    }
}

impl From<EncodeError> for WebError {
    fn from(error: EncodeError) -> WebError {
        let status = match error {
            EncodeError::Value(_) => StatusCode::BAD_REQUEST,
            EncodeError::Check(_) | EncodeError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        WebError::new(status, error.to_string())
    }
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"rprof\""));
        }
        response
    }
}
