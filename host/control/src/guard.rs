//! Decides which clients may call, before anything else of a call is read.
//!
//! On addresses of this machine, every program may call, but no web page: browsers send the origin of a page, and a
//! host name that resolves to this machine shows in the header `Host`. A browser asks for permission before it sends
//! JSON to another site, and is refused.

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use hyper::{HeaderMap, Method, Request};

use super::address::Token;
use super::routes::HttpRefusal;

/// The rule of a door.
#[derive(Debug, Clone)]
pub(super) enum Guard {
    /// Only users who may write to the folder can open the socket.
    Socket,
    /// Any process that reaches the port may be a client, a web browser too.
    Tcp {
        /// The token that clients must present, if any.
        token: Option<Token>,
    },
}

impl Guard {
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Socket)
    }

    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), HttpRefusal> {
        if let Self::Tcp { token } = self {
            check_site(request, token.is_some())?;
            if let Some(token) = token {
                check_token(request.headers(), token)?;
            }
        }
        if request.method() == Method::POST {
            check_type(request.headers())?;
        }
        Ok(())
    }
}

fn check_site<B>(request: &Request<B>, has_token: bool) -> Result<(), HttpRefusal> {
    let foreign = |message: &str| Err(HttpRefusal::new(403, "foreign-site", message));
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(HttpRefusal::bad_request(
            "a request must have exactly one header `Host`",
        ));
    };
    let host = host.to_str().unwrap_or_default();
    let target = request.uri().authority().map(|target| target.as_str());
    if target.is_some_and(|target| target != host) {
        return foreign("the header `Host` is not that of the request");
    }
    // With a token, any host name is fine: a web page does not know the token.
    if !has_token && !is_here(host) {
        return foreign("the header `Host` has to be `localhost` or an address, with the port");
    }
    let is_same = |origin: &str| {
        let rest = origin.split_once("://").map(|(_, rest)| rest);
        rest == Some(host)
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    if !origins.all(|origin| origin.to_str().is_ok_and(is_same)) {
        return foreign("web pages of other sites may not control a job");
    }
    let mut sites = headers.get_all("sec-fetch-site").iter();
    if !sites.all(|site| site == "same-origin" || site == "none") {
        return foreign("web pages of other sites may not control a job");
    }
    Ok(())
}

/// Whether this is `localhost` or an IP address. Another site could make any other name resolve to this machine.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn check_token(headers: &HeaderMap, token: &Token) -> Result<(), HttpRefusal> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(first), None) = (shown.next(), shown.next()) else {
        let message = "this job requires a token: send the header `Authorization: Bearer TOKEN`";
        return Err(HttpRefusal::new(401, "no-token", message));
    };
    let bytes = first.as_bytes();
    let is_bearer = bytes
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    if is_bearer && token.is(bytes[7..].trim_ascii()) {
        return Ok(());
    }
    Err(HttpRefusal::new(
        401,
        "wrong-token",
        "this is not the token of this job",
    ))
}

fn check_type(headers: &HeaderMap) -> Result<(), HttpRefusal> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(first), None) = (types.next(), types.next()) else {
        return Err(wrong_type());
    };
    let first = first.to_str().unwrap_or_default();
    let kind = first.split(';').next().unwrap_or_default().trim();
    match kind.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(wrong_type()),
    }
}

fn wrong_type() -> HttpRefusal {
    let message = "a POST takes JSON: send the header `Content-Type: application/json`";
    HttpRefusal::new(415, "wrong-content-type", message)
}
