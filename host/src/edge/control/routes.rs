//! What can be asked: a table of routes, which grows by [`Routes::with`].
//!
//! A handler gets the whole call and answers it; one that waits has a thread of its own meanwhile. Who may call was decided
//! before.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What a call is meant to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Look.
    Get,
    /// Change something.
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

/// How long a handler may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandlerPace {
    /// It answers from what is in memory.
    AtOnce,
    /// It waits for the job, or works. The process does not end before it is answered.
    Waits,
    /// The same, and it is heard however many others wait: it ends what they wait for.
    WaitsAlways,
}

/// One call.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// What was sent along.
    pub body: Vec<u8>,
    /// Whether it came by the socket in the data folder, so from a user who may write there.
    pub is_local: bool,
}

impl HttpRequest {
    /// What was sent along, as the handler's own type; nothing is as good as `{}`.
    ///
    /// # Errors
    /// When it is something else: nothing was done.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpRefusal> {
        let body: &[u8] = match self.body.is_empty() {
            true => b"{}",
            false => &self.body,
        };
        // A struct would be read from a list, too.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(HttpRefusal::bad_request(
                "this is no request: it is no JSON object",
            ));
        }
        serde_json::from_slice(body)
            .map_err(|error| HttpRefusal::bad_request(format!("this is no request: {error}")))
    }
}

/// What a handler answers.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpReply {
    /// JSON.
    Json(Value),
    /// Text for Prometheus.
    Metrics(String),
}

/// Why a call is not answered as it was wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRefusal {
    /// The status of HTTP.
    pub status: u16,
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl HttpRefusal {
    /// With all its parts.
    #[must_use]
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// The call makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "bad-request", message)
    }

    /// It makes sense, but not as the job stands.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "conflict", message)
    }

    /// It was tried, and failed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(500, "failed", message)
    }

    /// As it is sent.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message } })
    }
}

/// Answers calls.
pub type Handler = Arc<dyn Fn(&HttpRequest) -> Result<HttpReply, HttpRefusal> + Send + Sync>;

/// One thing that can be asked.
#[derive(Clone)]
pub struct Route {
    /// To look or to change.
    pub method: Method,
    /// The whole path.
    pub path: &'static str,
    /// What it does, in a line, for the list of routes.
    pub about: &'static str,
    /// How long it may take.
    pub pace: HandlerPace,
    /// What answers.
    pub handler: Handler,
}

/// All that can be asked.
#[derive(Clone, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// With one more.
    #[must_use]
    pub fn with(mut self, route: Route) -> Self {
        self.0.push(route);
        self
    }

    /// With one more that answers JSON.
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
            handler: Arc::new(move |call| answer(call).map(HttpReply::Json)),
        })
    }

    /// What there is.
    #[must_use]
    pub fn index(&self) -> Value {
        let routes = self.0.iter().map(|route| {
            json!({ "method": route.method.name(), "path": route.path, "about": route.about })
        });
        json!({ "floodmark": env!("CARGO_PKG_VERSION"), "routes": routes.collect::<Value>() })
    }

    /// Finds a route.
    ///
    /// # Errors
    /// When there is none.
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
                "there is nothing at this path; there are {}",
                all.join(", ")
            );
            return Err(HttpRefusal::new(404, "unknown-route", message));
        }
        let mut fitting = here.iter();
        match fitting.find(|route| route.method.name() == method) {
            Some(route) => Ok(route),
            None => {
                let takes: Vec<_> = here.iter().map(|route| route.method.name()).collect();
                let message = format!("`{path}` takes {}", takes.join(" and "));
                Err(HttpRefusal::new(405, "wrong-method", message))
            }
        }
    }
}
