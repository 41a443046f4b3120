//! What all requests share: the windows, and how much may be done at once.
//!
//! A question goes through [`App::answer`]: a cache of whole answers first, where equal questions that come together are worked out once;
//! then a place among those that may work; then a thread of its own. Who goes away withdraws the question.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::WebError;
use super::guard::Guard;
use super::info::Known;
use crate::ids::UnixNanos;
use crate::store::{Limits, Plan, Query, StoreError, Windows};

/// Questions that are worked on at once. Each adds up windows on as many threads as there are cores.
const WORKERS: usize = 2;
/// Bytes of an answer at most, as it is sent.
const MAX_ANSWER: usize = 64 << 20;
/// Answers that are being sent may have so many kilobytes together: slow clients hold theirs for long.
const SENDING: usize = 256 << 10;
/// How long a question waits for its turn, and an answer for room to be sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are handed to the socket at once.
const CHUNK: usize = 64 << 10;
/// An answer that is kept costs this besides its bytes.
const OVERHEAD: usize = 256;

/// What answers may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// How long one may take.
    pub time: Duration,
    /// How much time one may be about.
    pub range: Duration,
    /// Distinct stacks that each thread holds meanwhile.
    pub stacks: usize,
    /// Bytes of answers that are kept for the next who asks.
    pub cache: u64,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs {
            time: Duration::from_secs(60),
            range: Duration::from_secs(400 * 86_400),
            stacks: 1_000_000,
            cache: 64 << 20,
        }
    }
}

/// What all requests share.
pub(super) struct App {
    pub(super) windows: Windows,
    pub(super) guard: Guard,
    pub(super) known: Known,
    costs: Costs,
    working: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    cache: Cache<String, Arc<Answer>, ByBytes>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// Whether the body is compressed on top of what it is.
    pub(super) gzipped: bool,
    /// The name that a browser gives the file; none to show it.
    pub(super) file: Option<String>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<String, Arc<Answer>> for ByBytes {
    fn weight(&self, key: &String, answer: &Arc<Answer>) -> u64 {
        (key.len() + answer.body.len() + OVERHEAD) as u64
    }
}

impl Answer {
    /// An answer that is compressed by itself.
    pub(super) fn plain(content_type: &'static str, body: Vec<u8>) -> Answer {
        Answer { content_type, body: body.into(), gzipped: false, file: None }
    }

    /// JSON, made by a writer: its bytes are never there whole, but compressed.
    pub(super) fn json(write: impl FnOnce(&mut dyn Write) -> Result<(), WebError>) -> Result<Answer, WebError> {
        Answer::compressed("application/json", write)
    }

    pub(super) fn compressed(
        content_type: &'static str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), WebError>,
    ) -> Result<Answer, WebError> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        write(&mut gzip)?;
        let body = gzip.finish().map_err(|error| WebError::from(crate::encode::EncodeError::from(error)))?;
        Ok(Answer { content_type, body: body.into(), gzipped: true, file: None })
    }

    pub(super) fn named(self, file: String) -> Answer {
        Answer { file: Some(file), ..self }
    }

    /// The bytes as someone who takes no compression wants them.
    fn inflated(&self) -> Result<Bytes, WebError> {
        let mut bytes = Vec::new();
        let read = GzDecoder::new(&*self.body).take(16 * MAX_ANSWER as u64).read_to_end(&mut bytes);
        read.map_err(|error| WebError::from(crate::encode::EncodeError::from(error)))?;
        Ok(bytes.into())
    }
}

/// What a question is worked out with.
pub(super) struct Work {
    pub(super) app: Arc<App>,
    pub(super) limits: Limits,
}

impl Work {
    pub(super) fn windows(&self) -> &Windows {
        &self.app.windows
    }

    /// The windows that answer a question; there is at least one.
    pub(super) fn plan(&self, query: &Query) -> Result<Plan, WebError> {
        let plan = self.plan_or_empty(query)?;
        if plan.rows.is_empty() {
            return Err(WebError::nothing(self.windows().nothing(query, &plan)));
        }
        Ok(plan)
    }

    /// The windows that a series is made of; there is at least one.
    pub(super) fn plan_of_series(&self, query: &Query) -> Result<Plan, WebError> {
        let plan = query.plan(&self.windows().rows_for_series(query)?);
        if plan.rows.is_empty() {
            return Err(WebError::nothing(self.windows().nothing(query, &plan)));
        }
        Ok(plan)
    }

    /// As [`Work::plan`], where nothing is an answer too.
    pub(super) fn plan_or_empty(&self, query: &Query) -> Result<Plan, WebError> {
        Ok(query.plan(&self.windows().rows(query)?))
    }
}

/// Withdraws a question when whoever asked goes away.
struct Withdraw(Arc<AtomicBool>);

impl Drop for Withdraw {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl App {
    pub(super) fn new(windows: Windows, guard: Guard, costs: Costs) -> App {
        // Some hundred answers of the page's size; the weight decides.
        let cache = Cache::with_weighter(1024, costs.cache, ByBytes);
        let semaphore = |places| Arc::new(Semaphore::new(places));
        let (working, sending) = (semaphore(WORKERS), semaphore(SENDING));
        App { windows, guard, known: Known::default(), costs, working, sending, cache }
    }

    /// Refuses a time that is longer than one answer may be about.
    pub(super) fn allow(&self, range: &Range<UnixNanos>) -> Result<(), WebError> {
        let asked = range.end.0.saturating_sub(range.start.0).unsigned_abs();
        if u128::from(asked) > self.costs.range.as_nanos() {
            let days = self.costs.range.as_secs() / 86_400;
            return Err(WebError::bad(format!(
                "an answer is about {days} days at most (--max-range); ask for less time"
            )));
        }
        Ok(())
    }

    /// Answers a question from the cache, or by working it out. `asked` tells it from all others, but for what is in the windows of
    /// `about`: what is recorded meanwhile is another answer.
    pub(super) async fn answer(
        self: &Arc<App>,
        headers: &HeaderMap,
        asked: String,
        about: Vec<Range<UnixNanos>>,
        work: impl FnOnce(&Work) -> Result<Answer, WebError> + Send + 'static,
    ) -> Result<Response, WebError> {
        for range in &about {
            self.allow(range)?;
        }
        self.answer_unbounded(headers, asked, about, work).await
    }

    /// As [`App::answer`], of any time: what is told by the names of windows alone.
    pub(super) async fn answer_unbounded(
        self: &Arc<App>,
        headers: &HeaderMap,
        asked: String,
        about: Vec<Range<UnixNanos>>,
        work: impl FnOnce(&Work) -> Result<Answer, WebError> + Send + 'static,
    ) -> Result<Response, WebError> {
        let stamps = self.stamps(about).await?;
        let key = format!("{asked} {stamps:x?}");
        let tag = tag(&key);
        if headers.get_all(header::IF_NONE_MATCH).iter().any(|known| known.as_bytes() == tag.as_bytes()) {
            return Ok(self.finish(Response::builder().status(StatusCode::NOT_MODIFIED), &tag, Body::empty()));
        }
        let found = self.cache.get_or_insert_async(&key, async { self.work(work).await.map(Arc::new) });
        let answer = found.await?;
        self.send(headers, &answer, &tag).await
    }

    /// Works something out, on a thread of its own, when it has its turn.
    pub(super) async fn work<T: Send + 'static>(
        self: &Arc<App>,
        work: impl FnOnce(&Work) -> Result<T, WebError> + Send + 'static,
    ) -> Result<T, WebError> {
        let turn = tokio::time::timeout(PATIENCE, self.working.clone().acquire_owned());
        let Ok(Ok(turn)) = turn.await else {
            return Err(WebError::busy("others ask for much at the moment; ask again in a while"));
        };
        let withdrawn = Arc::new(AtomicBool::new(false));
        let guard = Withdraw(withdrawn.clone());
        let deadline = Instant::now().checked_add(self.costs.time);
        let limits = Limits { deadline, stacks: Some(self.costs.stacks), withdrawn: Some(withdrawn) };
        let work_with = Work { app: self.clone(), limits };
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&work_with)
        });
        let answer = done.await.unwrap_or_else(|error| Err(WebError::failed(format!("a fault of rprof: {error}"))));
        drop(guard);
        answer
    }

    /// What tells whether the windows of some times are still those: their names, since no file is ever written anew.
    async fn stamps(self: &Arc<App>, about: Vec<Range<UnixNanos>>) -> Result<Vec<u64>, WebError> {
        let app = self.clone();
        let stamp = move |range: &Range<UnixNanos>| -> Result<u64, StoreError> {
            let mut hasher = DefaultHasher::new();
            (range.start.0, range.end.0).hash(&mut hasher);
            app.windows.names(range)?.hash(&mut hasher);
            Ok(hasher.finish())
        };
        let stamps = tokio::task::spawn_blocking(move || about.iter().map(stamp).collect::<Result<_, _>>());
        Ok(stamps.await.map_err(|error| WebError::failed(format!("a fault of rprof: {error}")))??)
    }

    async fn send(&self, headers: &HeaderMap, answer: &Arc<Answer>, tag: &str) -> Result<Response, WebError> {
        if answer.body.len() > MAX_ANSWER {
            let (size, most) = (answer.body.len() >> 20, MAX_ANSWER >> 20);
            let message = format!("the answer has {size} MB, and {most} MB are sent at most; ask for less time");
            return Err(WebError::new(StatusCode::UNPROCESSABLE_ENTITY, message));
        }
        let as_is = !answer.gzipped || takes_gzip(headers);
        let body = if as_is { answer.body.clone() } else { inflated(answer.clone()).await? };
        let kilobytes = u32::try_from(body.len() >> 10).unwrap_or(u32::MAX).clamp(1, SENDING as u32);
        let room = tokio::time::timeout(PATIENCE, self.sending.clone().acquire_many_owned(kilobytes)).await;
        let Ok(Ok(room)) = room else {
            return Err(WebError::busy("too much is being sent to slow clients; ask again in a while"));
        };
        let mut response = Response::builder().header(header::CONTENT_TYPE, answer.content_type);
        if answer.gzipped {
            response = response.header(header::VARY, "Accept-Encoding");
        }
        if answer.gzipped && as_is {
            response = response.header(header::CONTENT_ENCODING, "gzip");
        }
        if let Some(file) = &answer.file {
            response = response.header(header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file}\""));
        }
        Ok(self.finish(response, tag, Body::new(Sending { rest: body, _room: room })))
    }

    fn finish(&self, response: http::response::Builder, tag: &str, body: Body) -> Response {
        let mut response = response.body(body).unwrap_or_default();
        if let Ok(tag) = HeaderValue::from_str(tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        response
    }
}

async fn inflated(answer: Arc<Answer>) -> Result<Bytes, WebError> {
    let inflated = tokio::task::spawn_blocking(move || answer.inflated()).await;
    inflated.map_err(|error| WebError::failed(format!("a fault of rprof: {error}")))?
}

/// The validator of an answer; another version of rprof may answer otherwise.
fn tag(key: &str) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, env!("CARGO_PKG_VERSION"), key).hash(&mut hasher);
        hasher.finish()
    };
    format!("W/\"{:016x}{:016x}\"", half(0), half(1))
}

/// Whether a client takes gzip: it names it, and not with the quality 0.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = quality.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
        name.trim() == "gzip" && !refused
    })
}

/// A body that holds its room until it is sent, or the client is gone.
struct Sending {
    rest: Bytes,
    _room: OwnedSemaphorePermit,
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
