//! Connect's unary calls over HTTP/1.1, <https://connectrpc.com/docs/protocol>: a message in the body, protobuf or JSON, gzipped or
//! not; a failure is JSON with a code.

use std::io::Read;

use axum::Json;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use flate2::read::GzDecoder;
use http::{HeaderMap, StatusCode, header};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::encode::EncodeError;
use crate::web::app::Answer;
use crate::web::error::WebError;

/// Bytes of a message at most, once it is inflated.
const MAX_MESSAGE: u64 = 4 << 20;

/// How messages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Json,
    Proto,
}

/// A failure in Connect's words.
#[derive(Debug)]
pub(super) struct ConnectError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ConnectError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ConnectError {
        ConnectError { status, code, message: message.into() }
    }
}

impl ConnectError {
    /// A procedure that the service does not have. Servers of Connect answer with 404, which clients read as `unimplemented`:
    /// <https://connectrpc.com/docs/protocol/#http-to-error-code>.
    pub(super) fn unknown_procedure(method: &str) -> ConnectError {
        let message = format!("{method} is not answered here; docs/serve.md lists what is");
        ConnectError::new(StatusCode::NOT_FOUND, "unimplemented", message)
    }
}

impl From<WebError> for ConnectError {
    fn from(error: WebError) -> ConnectError {
        let code = match error.status {
            StatusCode::BAD_REQUEST => "invalid_argument",
            StatusCode::UNAUTHORIZED => "unauthenticated",
            StatusCode::FORBIDDEN => "permission_denied",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::NOT_IMPLEMENTED => "unimplemented",
            StatusCode::UNPROCESSABLE_ENTITY => "resource_exhausted",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "internal",
        };
        let status = if code == "resource_exhausted" { StatusCode::TOO_MANY_REQUESTS } else { error.status };
        ConnectError::new(status, code, error.message)
    }
}

impl IntoResponse for ConnectError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "code": self.code, "message": self.message }))).into_response()
    }
}

impl Codec {
    /// The codec of a request, which is that of its answer too.
    pub(super) fn of(headers: &HeaderMap) -> Result<Codec, ConnectError> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json" => Ok(Codec::Json),
            "application/proto" => Ok(Codec::Proto),
            other => {
                let message = format!(
                    "messages are application/proto or application/json, not {other:?} (gRPC and streams are not answered)"
                );
                Err(ConnectError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown", message))
            }
        }
    }

    /// Reads a message.
    pub(super) fn read<T: Message + Default + DeserializeOwned>(
        self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<T, ConnectError> {
        let body = inflated(headers, body)?;
        let problem = match self {
            Codec::Proto => match T::decode(&*body) {
                Ok(message) => return Ok(message),
                Err(error) => error.to_string(),
            },
            Codec::Json => {
                let text = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &*body };
                match serde_json::from_slice(text) {
                    Ok(message) => return Ok(message),
                    Err(error) => error.to_string(),
                }
            }
        };
        Err(WebError::bad(format!("the message cannot be read: {problem}")).into())
    }

    /// Writes an answer.
    pub(super) fn write<T: Message + Serialize>(self, message: &T) -> Result<Answer, WebError> {
        match self {
            Codec::Proto => self.bytes(&message.encode_to_vec()),
            Codec::Json => Answer::json(|out| {
                serde_json::to_writer(out, message).map_err(|error| EncodeError::Io(error.into()).into())
            }),
        }
    }

    /// A message that is written already.
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<Answer, WebError> {
        let kind = if self == Codec::Json { "application/json" } else { "application/proto" };
        Answer::compressed(kind, |out| out.write_all(bytes).map_err(|error| EncodeError::Io(error).into()))
    }
}

fn inflated(headers: &HeaderMap, body: Bytes) -> Result<Bytes, ConnectError> {
    let coding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match coding.trim() {
        "" | "identity" => Ok(body),
        "gzip" => {
            let mut bytes = Vec::new();
            let read = GzDecoder::new(&*body).take(MAX_MESSAGE + 1).read_to_end(&mut bytes);
            read.map_err(|error| WebError::bad(format!("the gzip data is damaged: {error}")))?;
            if bytes.len() as u64 > MAX_MESSAGE {
                let message = format!("a message has at most {} MB", MAX_MESSAGE >> 20);
                return Err(ConnectError::new(StatusCode::TOO_MANY_REQUESTS, "resource_exhausted", message));
            }
            Ok(bytes.into())
        }
        other => {
            let message = format!("bodies are gzip or as they are, not {other:?}");
            Err(ConnectError::new(StatusCode::NOT_IMPLEMENTED, "unimplemented", message))
        }
    }
}
