//! Serves one connection: reads one call within limits, answers it, and closes.
//!
//! - A request reaches the job only after it was read completely and accepted by the `guard`.
//! - A client that is slow, sends too much or does not speak HTTP is refused, and holds its connection for a few
//!   seconds at most.
//! - A call that waits has a thread of its own; a client that disconnects meanwhile leaves nothing behind. A route may say
//!   what follows then (`Route::gone`).

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep, timeout};

use super::guard::Guard;
use super::routes::{HandlerPace, HttpRefusal, HttpReply, HttpRequest, Route, Routes};
use super::serve::{Busy, OpenCalls};

/// Longest time for a head, and then for a body, to arrive.
const READ_MAX: Duration = Duration::from_secs(5);
/// Longest time to write an answer, from the moment the client stops accepting bytes.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Largest head, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Largest number of headers.
const HEADERS_MAX: usize = 64;
/// How often a call that waits looks whether its client is still there.
const PEER_EVERY: Duration = Duration::from_millis(250);
/// Bytes that are still read and dropped after an answer, so that the answer arrives before the connection is closed.
const LEFT_BYTES_MAX: u64 = 256 << 10;
const LEFT_MAX: Duration = Duration::from_secs(1);

/// A socket or TCP stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// State shared by all connections of a door.
pub(super) struct ConnectionContext {
    pub(super) guard: Guard,
    pub(super) routes: Arc<Routes>,
    pub(super) open: Arc<OpenCalls>,
}

/// Tells whether a client is gone. A client of the socket that has closed only its own side still reads; of a client over
/// TCP that cannot be told, so it counts as there.
pub(super) struct Peer(Option<tokio::net::UnixStream>);

impl Peer {
    /// The client at the other end of a stream.
    pub(super) fn of(stream: UnixStream) -> io::Result<Self> {
        Ok(Self(Some(tokio::net::UnixStream::from_std(stream)?)))
    }

    /// A client of which nothing can be told.
    pub(super) fn unknown() -> Self {
        Self(None)
    }

    async fn is_gone(&self) -> bool {
        let Some(stream) = &self.0 else {
            return false;
        };
        let ready = timeout(Duration::ZERO, stream.ready(Interest::WRITABLE)).await;
        matches!(ready, Ok(Ok(ready)) if ready.is_write_closed())
    }
}

/// Serves one connection to its end.
pub(super) async fn talk(mut stream: Box<dyn Stream>, peer: &Peer, desk: Arc<ConnectionContext>) {
    let heard = AtomicBool::new(false);
    // The process does not end before the answer is sent.
    let busy = Mutex::new(None);
    let service = service_fn(|request| {
        heard.store(true, Ordering::Relaxed);
        answer(request, &desk, &busy, peer)
    });
    let io = Io {
        stream: &mut stream,
        heard: &heard,
        stalled: None,
    };
    let served = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(READ_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served
        && !heard.load(Ordering::Relaxed)
    {
        refuse(&mut stream, &of_no_http(&error)).await;
    }
    drop(busy);
    close(stream).await;
}

/// Refuses a client without reading its request.
pub(super) async fn turn_away(mut stream: Box<dyn Stream>) {
    let message = "too many connections; try again in a moment";
    refuse(&mut stream, &HttpRefusal::new(503, "busy", message)).await;
    close(stream).await;
}

async fn refuse(stream: &mut Box<dyn Stream>, refusal: &HttpRefusal) {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let body = refusal.json().to_string();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len(),
    );
    // A client that does not read gets no answer.
    let _ = timeout(READ_MAX, stream.write_all(text.as_bytes())).await;
}

/// Closes a connection after its answer has arrived: closing it with unread bytes would discard the answer.
async fn close(mut stream: Box<dyn Stream>) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut left = stream.take(LEFT_BYTES_MAX);
    let drained = async {
        let mut piece = [0; 4096];
        while left.read(&mut piece).await.is_ok_and(|len| len > 0) {}
    };
    let _ = timeout(LEFT_MAX, drained).await;
}

fn of_no_http(error: &hyper::Error) -> HttpRefusal {
    if error.is_timeout() {
        let message = format!("the request did not arrive within {} s", READ_MAX.as_secs());
        return HttpRefusal::new(408, "too-slow", message);
    }
    if error.is_parse_too_large() {
        let message = format!(
            "the head of a request has at most {HEADERS_MAX} headers and {} KiB",
            HEAD_BYTES_MAX >> 10
        );
        return HttpRefusal::new(431, "too-large", message);
    }
    HttpRefusal::new(
        400,
        "no-http",
        format!("this is not an HTTP/1.1 request: {error}"),
    )
}

/// Answers one call.
async fn answer(
    request: Request<Incoming>,
    desk: &ConnectionContext,
    busy: &Mutex<Option<Arc<Busy>>>,
    peer: &Peer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let reply = match admit(request, desk).await {
        Ok((route, call)) if route.pace == HandlerPace::AtOnce => (route.handler)(&call),
        Ok((route, call)) => wait(route, call, desk, busy, peer).await,
        Err(refusal) => Err(refusal),
    };
    let (status, kind, body) = match &reply {
        Ok(HttpReply::Json(value)) => (200, "application/json", value.to_string()),
        Ok(HttpReply::Metrics(text)) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            (200, kind, text.clone())
        }
        Err(refusal) => (
            refusal.status,
            "application/json",
            refusal.json().to_string(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut set =
        |name, value| headers.insert(name, hyper::header::HeaderValue::from_static(value));
    set(CONTENT_TYPE, kind);
    set(CACHE_CONTROL, "no-store");
    set(hyper::header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if status == 401 {
        set(WWW_AUTHENTICATE, "Bearer");
    }
    Ok(response)
}

/// Checks and reads a call.
async fn admit(
    request: Request<Incoming>,
    desk: &ConnectionContext,
) -> Result<(Route, HttpRequest), HttpRefusal> {
    desk.guard.check(&request)?;
    let path = request.uri().path();
    let route = match (request.method().as_str(), path) {
        ("GET" | "HEAD", "/v1") => None,
        (method, path) => Some(desk.routes.find(method, path)?.clone()),
    };
    let route = route.unwrap_or_else(|| index(&desk.routes));
    let body = read(request.into_body()).await?;
    let is_local = desk.guard.is_local();
    let number = desk.open.number();
    let call = HttpRequest {
        body,
        is_local,
        number,
    };
    Ok((route, call))
}

/// The route that lists all routes.
fn index(routes: &Arc<Routes>) -> Route {
    let routes = Arc::clone(routes);
    Route {
        method: super::routes::Method::Get,
        path: "/v1",
        about: "the list of all routes",
        pace: HandlerPace::AtOnce,
        gone: None,
        handler: Arc::new(move |_| Ok(HttpReply::Json(routes.index()))),
    }
}

async fn read(body: Incoming) -> Result<Vec<u8>, HttpRefusal> {
    let too_large = || {
        let message = format!("a request has at most {} KiB", BODY_BYTES_MAX >> 10);
        HttpRefusal::new(413, "too-large", message)
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match timeout(READ_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(HttpRefusal::bad_request(
            "the body of the request is incomplete",
        )),
        Err(_) => {
            let message = format!("the request did not arrive within {} s", READ_MAX.as_secs());
            Err(HttpRefusal::new(408, "too-slow", message))
        }
    }
}

/// Handles a call on a thread of its own.
#[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
async fn wait(
    route: Route,
    call: HttpRequest,
    desk: &ConnectionContext,
    busy: &Mutex<Option<Arc<Busy>>>,
    peer: &Peer,
) -> Result<HttpReply, HttpRefusal> {
    let is_always_heard = route.pace == HandlerPace::WaitsAlways;
    let Some(working) = OpenCalls::begin(&desk.open, is_always_heard) else {
        let message =
            "too many requests are waiting for this job; try again when it has answered some";
        return Err(HttpRefusal::new(503, "busy", message));
    };
    let working = Arc::new(working);
    *busy.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&working));
    let (sender, mut receiver) = oneshot::channel();
    let (mut gone, number) = (route.gone.clone(), call.number);
    std::thread::spawn(move || {
        let reply = (route.handler)(&call);
        // The client may have disconnected.
        let _ = sender.send(reply);
        drop(working);
    });
    let message = "the answer was lost: this is a bug in floodmark";
    let lost = |_| Err(HttpRefusal::new(500, "defect", message));
    loop {
        if let Ok(reply) = timeout(PEER_EVERY, &mut receiver).await {
            return reply.unwrap_or_else(lost);
        }
        if gone.is_some()
            && peer.is_gone().await
            && let Some(gone) = gone.take()
        {
            // It may wait for the job.
            std::thread::spawn(move || gone(number));
        }
    }
}

/// A stream, wrapped for the HTTP server.
///
/// - Until a call was accepted, writes are dropped: errors of the server itself are not JSON.
/// - Writes to a client that does not read time out.
/// - Only the owner closes it.
struct Io<'a> {
    stream: &'a mut Box<dyn Stream>,
    heard: &'a AtomicBool,
    /// Started when the client stops accepting bytes.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Io<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Io<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.heard.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut *self.stream).poll_write(context, bytes);
        if written.is_pending() {
            let limit = self
                .stalled
                .get_or_insert_with(|| Box::pin(sleep(WRITE_MAX)));
            if limit.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
