//! The table of routes, which [`Routes::with`] extends.
//!
//! A handler gets the whole call and answers it; a handler that waits has a thread of its own. The `guard` has accepted
//! the client before.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The error code for a call that is invalid, whatever the job does.
pub const BAD_REQUEST: &str = "bad-request";

/// The method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads, and changes nothing.
    Get,
    /// Changes something.
    Post,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// The time that a handler takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandlerPace {
    /// Answers from memory.
    AtOnce,
    /// Waits for the job, or computes. The process does not end before it has answered.
    Waits,
    /// Like `Waits`, and accepted however many others wait: it ends what they wait for.
    WaitsAlways,
}

/// One call.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The body as it was sent, not yet parsed.
    pub body: Vec<u8>,
    /// Whether it came through the socket in the data folder, and so from a user who may write there.
    pub is_local: bool,
    /// Its number, which no other call of this server has.
    pub number: u64,
}

impl HttpRequest {
    /// The body as the handler's own type; an empty body counts as `{}`.
    ///
    /// # Errors
    /// When the body is anything else: nothing was done.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpRefusal> {
        let body: &[u8] = match self.body.is_empty() {
            true => b"{}",
            false => &self.body,
        };
        // Serde would also read a struct from a list.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(HttpRefusal::bad_request(
                "the request body must be a JSON object",
            ));
        }
        serde_json::from_slice(body)
            .map_err(|error| HttpRefusal::bad_request(format!("invalid request: {error}")))
    }
}

/// The answer of a handler.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpReply {
    /// A JSON document.
    Json(Value),
    /// Text for Prometheus.
    Metrics(String),
}

/// The reason why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRefusal {
    /// The HTTP status code of the answer.
    pub status: u16,
    /// A word for programs, such as `busy`.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl HttpRefusal {
    /// A refusal from its parts.
    #[must_use]
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// The call is invalid.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, BAD_REQUEST, message)
    }

    /// The call is valid, but the job's state does not allow it.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "conflict", message)
    }

    /// The call was tried, and failed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(500, "failed", message)
    }

    /// The refusal as it is sent.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message } })
    }
}

/// Answers calls of a route.
pub type Handler = Arc<dyn Fn(&HttpRequest) -> Result<HttpReply, HttpRefusal> + Send + Sync>;

/// Is called once with the number of a call that waits, if its client has disconnected. The call may be over by then.
pub type ClientGone = Arc<dyn Fn(u64) + Send + Sync>;

/// A method and path with its handler.
#[derive(Clone)]
pub struct Route {
    /// The method; a HEAD request counts as a GET request.
    pub method: Method,
    /// The whole path.
    pub path: &'static str,
    /// A short description, for the list of routes.
    pub about: &'static str,
    /// The time that the handler takes.
    pub pace: HandlerPace,
    /// What follows if the client disconnects while it waits.
    pub gone: Option<ClientGone>,
    /// What computes the answer.
    pub handler: Handler,
}

/// All routes of a server.
#[derive(Clone, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// Adds a route.
    #[must_use]
    pub fn with(mut self, route: Route) -> Self {
        self.0.push(route);
        self
    }

    /// Adds a route that answers JSON.
    #[must_use]
    pub fn with_json(
        self,
        (method, path): (Method, &'static str),
        about: &'static str,
        pace: HandlerPace,
        answer: impl Fn(&HttpRequest) -> Result<Value, HttpRefusal> + Send + Sync + 'static,
    ) -> Self {
        self.with(Route {
            method,
            path,
            about,
            pace,
            gone: None,
            handler: Arc::new(move |call| answer(call).map(HttpReply::Json)),
        })
    }

    /// The list of routes.
    #[must_use]
    pub fn index(&self) -> Value {
        let routes = self.0.iter().map(|route| {
            json!({ "method": route.method.name(), "path": route.path, "about": route.about })
        });
        json!({ "floodmark": env!("CARGO_PKG_VERSION"), "routes": routes.collect::<Value>() })
    }

    /// Finds the route for a method and path.
    ///
    /// # Errors
    /// When there is no such route.
    pub fn find(&self, method: &str, path: &str) -> Result<&Route, HttpRefusal> {
        // A HEAD request is answered as a GET request; the server leaves the body out.
        let method = if method == "HEAD" { "GET" } else { method };
        let here: Vec<_> = self.0.iter().filter(|route| route.path == path).collect();
        if here.is_empty() {
            let all = self.0.iter();
            let all: Vec<_> = all
                .map(|route| format!("{} {}", route.method.name(), route.path))
                .collect();
            let message = format!(
                "there is nothing at this path; the routes are {}",
                all.join(", ")
            );
            return Err(HttpRefusal::new(404, "unknown-route", message));
        }
        let mut fitting = here.iter();
        match fitting.find(|route| route.method.name() == method) {
            Some(route) => Ok(route),
            None => {
                let takes: Vec<_> = here.iter().map(|route| route.method.name()).collect();
                let message = format!("`{path}` accepts only {}", takes.join(" and "));
                Err(HttpRefusal::new(405, "wrong-method", message))
            }
        }
    }
}
