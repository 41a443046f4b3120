//! What all requests share: the windows, and how much may be done at once.
//!
//! A question goes through [`App::answer`]: a cache of whole answers first, where equal questions that come together are worked out once;
//! then a place among those that may work; then a thread of its own. Who goes away withdraws the question.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Cursor, Read, Write};
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
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::WebError;
use super::guard::Guard;
use super::info::{Info, Known};
use crate::ids::UnixNanos;
use crate::store::{Limits, Plan, Query, Row, StoreError, Windows, series};

/// Questions that are worked on at once. Each adds up windows on as many threads as there are cores.
const WORKERS: usize = 2;
/// Bytes of an answer at most, as it is sent.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes of an answer at most for someone who takes no compression.
const MAX_INFLATED: u64 = 1 << 30;
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
    /// Bytes of the body without that.
    pub(super) length: u64,
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
        let length = body.len() as u64;
        Answer { content_type, body: body.into(), gzipped: false, length, file: None }
    }

    /// JSON, made by a writer: its bytes are never there whole, but compressed.
    pub(super) fn json(write: impl FnOnce(&mut dyn Write) -> Result<(), WebError>) -> Result<Answer, WebError> {
        Answer::compressed("application/json", write)
    }

    pub(super) fn compressed(
        content_type: &'static str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), WebError>,
    ) -> Result<Answer, WebError> {
        let mut counted = Counted { gzip: GzEncoder::new(Vec::new(), Compression::fast()), length: 0 };
        write(&mut counted)?;
        let Counted { gzip, length } = counted;
        let body = gzip.finish().map_err(|error| WebError::from(crate::encode::EncodeError::from(error)))?;
        Ok(Answer { content_type, body: body.into(), gzipped: true, length, file: None })
    }

    pub(super) fn named(self, file: String) -> Answer {
        Answer { file: Some(file), ..self }
    }

    /// Refuses to send what is too large, compressed or not.
    fn refuse_large(&self, as_is: bool) -> Result<(), WebError> {
        let (body, most) = (self.body.len() as u64, MAX_ANSWER as u64);
        let (length, most, mend) = if as_is || body > most {
            (body, most, "ask for less time")
        } else {
            (self.length, MAX_INFLATED, "take gzip (curl --compressed), or ask for less time")
        };
        if length <= most {
            return Ok(());
        }
        let (length, most) = (length >> 20, most >> 20);
        let message = format!("the answer has {length} MB, and {most} MB are sent at most; {mend}");
        Err(WebError::new(StatusCode::UNPROCESSABLE_ENTITY, message))
    }
}

/// Counts the bytes that are compressed.
struct Counted {
    gzip: GzEncoder<Vec<u8>>,
    length: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.gzip.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.gzip.flush()
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

    /// Whether the index of some windows, or the last window of a kind, has a label.
    pub(super) fn knows_label(&self, rows: &[Row], key: &str) -> Result<bool, WebError> {
        Ok(series::tells(rows, key) || Info::of(self)?.labels().into_iter().any(|known| known == key))
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

    async fn send(&self, headers: &HeaderMap, answer: &Answer, tag: &str) -> Result<Response, WebError> {
        let as_is = !answer.gzipped || takes_gzip(headers);
        answer.refuse_large(as_is)?;
        // What is inflated on the way takes a chunk of room besides its compressed bytes.
        let kilobytes = u32::try_from((answer.body.len() + CHUNK) >> 10).unwrap_or(u32::MAX);
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
        Ok(self.finish(response, tag, Body::new(Sending::new(answer, as_is, room))))
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
    bytes: Source,
    /// Bytes that are still to be sent.
    left: u64,
    _room: OwnedSemaphorePermit,
}

/// Where the bytes of a body come from.
enum Source {
    AsIs(Bytes),
    /// For who takes no compression: a chunk after the other, when the socket takes it.
    Inflated(Box<GzDecoder<Cursor<Bytes>>>),
}

impl Source {
    fn next(&mut self, length: usize) -> io::Result<Bytes> {
        match self {
            Source::AsIs(bytes) => Ok(bytes.split_to(length.min(bytes.len()))),
            Source::Inflated(gzip) => {
                let mut chunk = vec![0; length];
                gzip.read_exact(&mut chunk)?;
                Ok(chunk.into())
            }
        }
    }
}

impl Sending {
    fn new(answer: &Answer, as_is: bool, room: OwnedSemaphorePermit) -> Sending {
        let bytes = answer.body.clone();
        let (bytes, left) = if as_is {
            (Source::AsIs(bytes), answer.body.len() as u64)
        } else {
            (Source::Inflated(Box::new(GzDecoder::new(Cursor::new(bytes)))), answer.length)
        };
        Sending { bytes, left, _room: room }
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = self.left.min(CHUNK as u64);
        let chunk = self.bytes.next(usize::try_from(length).unwrap_or(CHUNK));
        // After a failure there is nothing more; the client sees that the body is not whole.
        self.left = if chunk.is_ok() { self.left - length } else { 0 };
        Poll::Ready(Some(chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn sent(answer: &Answer, as_is: bool) -> Vec<u8> {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let body = Sending::new(answer, as_is, room);
        let (length, runtime) = (body.left, tokio::runtime::Builder::new_current_thread().build().unwrap());
        let bytes = runtime.block_on(body.collect()).unwrap().to_bytes().to_vec();
        assert_eq!(bytes.len() as u64, length);
        bytes
    }

    #[test]
    fn a_body_is_sent_whole_as_it_is_and_inflated() {
        for length in [0, 1, CHUNK, 3 * CHUNK + 7] {
            let text: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let answer = Answer::json(|out| out.write_all(&text).map_err(|error| WebError::failed(error.to_string())));
            let answer = answer.unwrap();
            assert_eq!(sent(&answer, false), text, "{length}");
            assert_eq!(sent(&answer, true), answer.body, "{length}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_with_what_mends_it() {
        let answer = Answer::json(|_| Ok(())).unwrap();
        let large = Answer { length: MAX_INFLATED + 1, ..answer.clone() };
        assert_eq!((answer.refuse_large(false), large.refuse_large(true)), (Ok(()), Ok(())));
        let error = large.refuse_large(false).unwrap_err();
        assert!(error.status == StatusCode::UNPROCESSABLE_ENTITY && error.message.contains("gzip"), "{error:?}");
        let large = Answer::plain("text/plain", vec![0; MAX_ANSWER + 1]);
        assert_eq!(large.refuse_large(true).unwrap_err().status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}
