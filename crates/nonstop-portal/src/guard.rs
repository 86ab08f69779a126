//! What every request must pass, whatever page it asks for.
//!
//! The address that a connection came in on *is* the person, so a foreign page must not be able
//! to use it through the person's own browser:
//! - `Host` must be what a forwarded browser sends: `localhost`, `127.0.0.1` or `[::1]` with any
//!   port (the tunnel's near end), or the account's address. A name of somebody else that was
//!   made to point here (DNS rebinding) is refused.
//! - What changes something must come from a page of ours: `Origin`, or where a browser sends
//!   none `Referer`, must name the same host and port as `Host`; `Sec-Fetch-Site`, where sent,
//!   must say `same-origin`; and the form must carry its token (see [`crate::token`]).
//!
//! All of it is checked here, before any handler, so that no handler can forget it.

use crate::{
    app::App,
    error::{self, PageError},
    form::Fields,
    lang::{Lang, cookie},
    listen::Connection,
    token,
};
use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::Ipv4Addr, sync::Arc, time::Duration};

/// The longest form in bytes.
const FORM_BYTES: usize = 64 << 10;

/// How long a request may take, its body included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever sent a request, as far as it is known without asking the daemon.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// The connection, the proof of who it is.
    pub(crate) connection: Arc<Connection>,
    /// The language of pages.
    pub(crate) lang: Lang,
    /// The cookie that goes into tokens.
    pub(crate) cookie: String,
    /// Path and query that were asked for.
    pub(crate) path: String,
}

/// Admits a request or refuses it; makes pages of errors; sets the headers of every answer.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let known = cookie(request.headers(), token::COOKIE).filter(|text| token::is_cookie(text));
    let fresh = known.is_none();
    let visitor = Visitor {
        connection,
        lang: Lang::of(request.headers()),
        cookie: known.map_or_else(token::fresh_cookie, String::from),
        path: path_to_come_back_to(&request),
    };
    request.extensions_mut().insert(visitor.clone());
    let answer = match tokio::time::timeout(PATIENCE, admitted(&app, &visitor, request, next)).await
    {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => PageError::Slow.into_response(),
    };
    let mut response = error::page(&app, &visitor, answer);
    if fresh {
        let line =
            format!("{}={}; Path=/; HttpOnly; SameSite=Strict", token::COOKIE, visitor.cookie);
        response.headers_mut().append(header::SET_COOKIE, line.parse().expect("hex and ASCII"));
    }
    secure(response.headers_mut());
    response
}

/// Path and query of a page; of a form that is shown again, where it stands.
fn path_to_come_back_to(request: &Request) -> String {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    if request.method() == Method::POST && !path.ends_with("/new") { "/" } else { path }.into()
}

async fn admitted(
    app: &App,
    visitor: &Visitor,
    mut request: Request,
    next: Next,
) -> Result<Response, PageError> {
    let address = visitor.connection.address;
    let host = host_of(request.uri(), request.headers(), address).ok_or(PageError::Host)?;
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::POST => {
            if !same_origin(request.headers(), &host) {
                return Err(PageError::Origin);
            }
            let (parts, body) = request.into_parts();
            let bytes = to_bytes(body, FORM_BYTES).await.map_err(|_| PageError::TooLarge)?;
            let mut fields = Fields::parse(&bytes);
            let sent = fields.take("token");
            if !app.secret.is_good(&sent, &visitor.cookie, address) {
                return Err(PageError::Token);
            }
            request = Request::from_parts(parts, axum::body::Body::empty());
            request.extensions_mut().insert(fields);
        }
        _ => return Err(PageError::Bad),
    }
    Ok(next.run(request).await)
}

/// The `Host` that was asked for, in lower case, if it is one of this portal's.
fn host_of(uri: &Uri, headers: &HeaderMap, address: Ipv4Addr) -> Option<String> {
    // A whole URI is what a proxy is asked; we are none.
    if uri.authority().is_some() {
        return None;
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    let host = host.to_str().ok()?.to_ascii_lowercase();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok_and(|_| !port.starts_with('+')) => name,
        _ => host.as_str(),
    };
    let own = matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        || name.parse::<Ipv4Addr>().is_ok_and(|named| named == address);
    own.then_some(host)
}

/// Whether a changing request comes from a page at `host`.
fn same_origin(headers: &HeaderMap, host: &str) -> bool {
    let one = |name: HeaderName| {
        headers.get(name).map(|value| value.to_str().unwrap_or("").to_ascii_lowercase())
    };
    let ours = format!("http://{host}");
    let from_us = match (one(header::ORIGIN), one(header::REFERER)) {
        (Some(origin), _) => origin == ours,
        (None, Some(referer)) => {
            referer == ours || referer.strip_prefix(&ours).is_some_and(|rest| rest.starts_with('/'))
        }
        (None, None) => false,
    };
    let fetched =
        one(HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin");
    from_us && fetched
}

fn secure(headers: &mut HeaderMap) {
    let all = [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
             frame-ancestors 'none'; base-uri 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        // Not `no-referrer`: browsers would send `Origin: null` with our own forms.
        ("referrer-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=(), usb=()"),
    ];
    for (name, value) in all {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // Only the stylesheet and the mark say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(n, v): &(&'static str, &str)| {
            (HeaderName::from_static(n), v.parse().expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn host(text: &str) -> bool {
        let uri = Uri::from_static("/");
        host_of(&uri, &headers(&[("host", text)]), Ipv4Addr::new(127, 64, 0, 1)).is_some()
    }

    #[test]
    fn only_names_that_a_forwarded_browser_sends_are_ours() {
        for good in ["localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]:80", "127.64.0.1:8080"] {
            assert!(host(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example:8000",
            "127.0.0.1.evil.example",
            "127.64.0.2:8080",
            "localhost:x",
            "localhost:+80",
            "user@localhost:80",
            "::1",
            "127.1",
        ] {
            assert!(!host(bad), "{bad}");
        }
        let mut two = headers(&[("host", "localhost")]);
        two.append("host", HeaderValue::from_static("evil.example"));
        assert_eq!(host_of(&Uri::from_static("/"), &two, [127, 64, 0, 1].into()), None);
        let proxied = Uri::from_static("http://evil.example/");
        let own = headers(&[("host", "localhost")]);
        assert_eq!(host_of(&proxied, &own, [127, 64, 0, 1].into()), None);
    }

    #[test]
    fn a_form_of_another_origin_is_refused() {
        let from = |pairs: &[(&'static str, &str)]| same_origin(&headers(pairs), "localhost:8000");
        assert!(from(&[("origin", "http://localhost:8000")]));
        assert!(from(&[("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")]));
        assert!(from(&[("referer", "http://localhost:8000/requests/new")]));
        for bad in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "https://localhost:8000")],
            &[("origin", "http://localhost:9000")],
            &[("origin", "http://localhost:80000")],
            &[("referer", "http://localhost:8000.evil.example/")],
            &[("origin", "http://evil.example"), ("referer", "http://localhost:8000/")],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", "http://localhost:8000"), ("sec-fetch-site", "same-site")],
        ] {
            assert!(!from(bad), "{bad:?}");
        }
    }
}
