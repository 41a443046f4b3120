//! Listening, and what is done with each connection. A client that is slow to ask or to take its answer loses it after a while, so
//! that it keeps no place from others.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use nix::sys::stat::{Mode, umask};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower_http::catch_panic::CatchPanicLayer;

use super::app::{App, Costs};
use super::error::WebError;
use super::guard::{Guard, Token};
use super::{api, diff, export, page, pyroscope};
use crate::encode::page::CONTENT_SECURITY_POLICY;
use crate::store::Windows;

/// Connections at once. Others wait to be accepted.
const CONNECTIONS: usize = 256;
/// Requests that are looked at at once, besides those that wait for their answers to be taken.
const REQUESTS: usize = 64;
/// How long the head of a request may take, and a connection may lie idle.
const HEAD: Duration = Duration::from_secs(10);
/// How long the body of a request may take.
const BODY: Duration = Duration::from_secs(10);
/// How long a client may take no byte of its answer.
const STALL: Duration = Duration::from_secs(30);
/// How long one connection may last, however slowly it takes what it asked for.
const CONNECTION: Duration = Duration::from_secs(600);
/// How long a request may take besides what its answer may ([`Costs::time`]): waiting for its turn.
const WAITING: Duration = Duration::from_secs(65);
/// Bytes of a request's body at most.
const MAX_BODY: usize = 256 << 10;
/// How long connections have to end once the server is to.
const FAREWELL: Duration = Duration::from_secs(5);
/// Threads for what takes long; as many questions are worked on, and some more lists of folders.
const BLOCKING: usize = 16;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port; port 0 for any that is free.
    Tcp(SocketAddr),
    /// A socket in the file system, for its owner alone.
    Unix(PathBuf),
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and its port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: Listen,
    /// What whoever asks has to know. Beyond loopback there must be one.
    pub token: Option<Token>,
    /// Names by which the server is known besides `localhost` and addresses.
    pub hosts: Vec<String>,
    /// What answers may cost.
    pub costs: Costs,
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Everybody on the network could read everything.
    #[error(
        "{0} can be reached by others, and profiles tell much about a machine; add --token FILE (made if it is not there), \
         or listen on 127.0.0.1 or --unix SOCKET"
    )]
    Unguarded(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}{}", mend(.source))]
    Listen {
        /// The address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// Something else that the system refuses.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has it: name another with --listen 127.0.0.1:PORT (0 takes a free one)"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address",
        io::ErrorKind::PermissionDenied => "; take a port above 1023, or a socket in a folder of yours",
        io::ErrorKind::NotFound => "; make its folder first",
        _ => "",
    }
}

/// Serves until SIGINT or SIGTERM. `ready` is told the address once requests are answered.
///
/// # Errors
/// [`ServeError`] if the address cannot be had, or could be reached by others without a token.
pub fn serve(windows: Windows, options: Options, ready: impl FnOnce(&Address)) -> Result<(), ServeError> {
    if let Listen::Tcp(address) = options.listen
        && !address.ip().is_loopback()
        && options.token.is_none()
    {
        return Err(ServeError::Unguarded(address));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING)
        .thread_name("rprof-web")
        .enable_all()
        .build()?;
    let served = runtime.block_on(run(windows, options, ready));
    // What is still being worked out is of no use to anybody.
    runtime.shutdown_background();
    served
}

async fn run(windows: Windows, options: Options, ready: impl FnOnce(&Address)) -> Result<(), ServeError> {
    let Options { listen, token, hosts, costs } = options;
    let listener = Listener::bind(&listen).await?;
    let address = listener.address()?;
    let port = if let Address::Tcp(address) = &address { address.port() } else { 0 };
    let time = costs.time.saturating_add(WAITING);
    let app = Arc::new(App::new(windows, Guard::new(token, hosts, port)?, costs));
    let router = router(app, time);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    ready(&address);
    loop {
        let place = places.clone().acquire_owned();
        let accepted = async { (place.await, listener.accept().await) };
        tokio::select! {
            (place, stream) = accepted => match stream {
                Ok(stream) => {
                    let connection = connection(stream, router.clone(), &graceful);
                    tokio::spawn(async move {
                        let _place = place;
                        let _ = tokio::time::timeout(CONNECTION, connection).await;
                    });
                }
                // Without descriptors there is nothing to do but to wait for some; other failures are the client's.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(FAREWELL) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn connection(stream: Stream, router: Router, graceful: &GracefulShutdown) -> impl Future<Output = ()> + use<> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    let watched = graceful.watch(connection);
    async move {
        // A client that breaks off is no error of ours.
        let _ = watched.await;
    }
}

fn router(app: Arc<App>, time: Duration) -> Router {
    let places = Arc::new(Semaphore::new(REQUESTS));
    api::routes()
        .merge(diff::routes())
        .merge(export::routes())
        .merge(page::routes())
        .merge(pyroscope::routes())
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(move |request, next| limit(places.clone(), time, request, next)))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            WebError::failed("a fault of rprof").into_response()
        }))
        .layer(middleware::map_response(protect))
        .with_state(app)
}

/// Takes the whole request in before it takes a place among those that are looked at: who is slow to ask keeps nobody from it.
async fn limit(places: Arc<Semaphore>, time: Duration, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let message = format!("the body of a request is whole, and has at most {} KB", MAX_BODY >> 10);
            return WebError::new(StatusCode::PAYLOAD_TOO_LARGE, message).into_response();
        }
        Err(_) => {
            return WebError::new(StatusCode::REQUEST_TIMEOUT, "the request takes too long to come").into_response();
        }
    };
    let Ok(Ok(_place)) = tokio::time::timeout(WAITING, places.acquire()).await else {
        return WebError::busy("too many requests at once; ask again in a while").into_response();
    };
    let answer = tokio::time::timeout(time, next.run(Request::from_parts(parts, body.into()))).await;
    answer.unwrap_or_else(|_| WebError::busy("the answer takes too long; ask for less time").into_response())
}

async fn nowhere(request: Request) -> WebError {
    WebError::nothing(format!("there is no {}; docs/serve.md lists what there is", request.uri().path()))
}

async fn wrong_method(request: Request) -> WebError {
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    WebError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match app.guard.check(&parts, page::is_public(parts.uri.path())) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => error.into_response(),
    }
}

/// What keeps a browser from making more of an answer than it is.
async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A socket that listens. That of the file system is removed with it.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A connection of either kind.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Stream = Box<dyn Connection>;

impl Listener {
    async fn bind(listen: &Listen) -> Result<Listener, ServeError> {
        let failed = |address: String| move |source| ServeError::Listen { address, source };
        match listen {
            Listen::Tcp(address) => {
                Ok(Listener::Tcp(TcpListener::bind(address).await.map_err(failed(address.to_string()))?))
            }
            Listen::Unix(path) => {
                let shown = path.display().to_string();
                remove_stale(path).await.map_err(failed(shown.clone()))?;
                // The socket is never there for others, not even for a moment.
                let before = umask(Mode::from_bits_truncate(0o177));
                let bound = UnixListener::bind(path);
                umask(before);
                Ok(Listener::Unix(bound.map_err(failed(shown))?, path.clone()))
            }
        }
    }

    fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Listener::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Listener::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes the socket of a server that was killed. One that somebody listens on stays, and anything that is no socket.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}
