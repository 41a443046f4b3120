//! Who may ask. Everything is refused that a page of another site could make a browser send (its `Host` after DNS was rebound,
//! its `Origin`, its `Sec-Fetch-Site`), and, where a token is needed, everything without it.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use subtle::ConstantTimeEq;

use super::error::WebError;

/// Letters of a token at least: 96 bits, if they are chosen by chance.
const MIN_TOKEN: usize = 16;
/// Bytes of a token's file at most.
const MAX_TOKEN: u64 = 4096;
/// Where a browser hands in the token and gets a cookie for it.
pub(super) const SESSION: &str = "/api/session";

/// What whoever asks has to know.
#[derive(Clone)]
pub struct Token(String);

/// Why a file is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read or made.
    #[error("cannot {verb} the token {path}: {source}")]
    Io {
        /// What failed.
        verb: &'static str,
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("others than its owner may read the token {path}; mend it by: chmod 600 {path}")]
    Open {
        /// The file.
        path: String,
    },
    /// It is too short to keep anybody out, or not made of letters that a header can hold.
    #[error(
        "{path} holds no token of at least {MIN_TOKEN} printable letters without blanks; remove the file, and rprof makes a good one"
    )]
    Weak {
        /// The file.
        path: String,
    },
}

impl Token {
    /// Reads the token of a file, which must be its owner's alone; makes one by chance where there is no file.
    ///
    /// # Errors
    /// [`TokenError`] if it cannot be read or made, others can read it, or it is too short.
    pub fn of_file(path: &Path) -> Result<Token, TokenError> {
        let name = || path.display().to_string();
        let io = |verb| move |source| TokenError::Io { verb, path: path.display().to_string(), source };
        let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        if let Ok(file) = &mut made {
            let token = URL_SAFE_NO_PAD.encode(random().map_err(io("make"))?);
            writeln!(file, "{token}").map_err(io("write"))?;
            return Ok(Token(token));
        }
        let file = std::fs::File::open(path).map_err(io("read"))?;
        let data = file.metadata().map_err(io("read"))?;
        if data.is_file() && data.mode() & 0o077 != 0 {
            return Err(TokenError::Open { path: name() });
        }
        let mut text = String::new();
        file.take(MAX_TOKEN).read_to_string(&mut text).map_err(io("read"))?;
        let token = text.trim_end();
        let good = token.len() >= MIN_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
        if good { Ok(Token(token.to_owned())) } else { Err(TokenError::Weak { path: name() }) }
    }

    /// The part of an address that hands the token to the page: behind `#`, so that it is in no log.
    #[must_use]
    pub fn fragment(&self) -> String {
        format!("#token={}", self.0)
    }

    /// Whether two texts are the same, in a time that does not tell where they differ.
    fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    Ok(bytes)
}

/// Decides who may ask.
pub(super) struct Guard {
    token: Option<Token>,
    /// The value of the cookie that a browser gets for the token: another one after each start.
    session: Token,
    /// The cookie's name. Cookies do not tell ports apart, so the name does.
    cookie: String,
    hosts: Vec<String>,
}

impl Guard {
    /// A guard who lets in by a token, or everybody without one, under the names of this machine itself and `hosts`.
    pub(super) fn new(token: Option<Token>, hosts: Vec<String>, port: u16) -> std::io::Result<Guard> {
        let session = Token(URL_SAFE_NO_PAD.encode(random()?));
        Ok(Guard { token, session, cookie: format!("rprof_{port}"), hosts })
    }

    /// Refuses what must not be answered. What the page is made of holds no data, and needs no token.
    pub(super) fn check(&self, parts: &Parts, is_public: bool) -> Result<(), WebError> {
        let path = parts.uri.path();
        let lower = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
        if lower.split(['/', '\\']).any(|part| part == "..") {
            return Err(WebError::bad("a path with .. leads nowhere here"));
        }
        let host = self.host(parts)?;
        self.origin(parts, host)?;
        if is_public || self.is_known(&parts.headers) {
            return Ok(());
        }
        let mend =
            "send it as the header \"Authorization: Bearer TOKEN\", or open the address that ends with #token=TOKEN";
        Err(WebError::new(StatusCode::UNAUTHORIZED, format!("this server answers only who has its token; {mend}")))
    }

    /// Whether who asks has the token, or needs none.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        self.token.as_ref().is_none_or(|token| {
            let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
            let shown = text(header::AUTHORIZATION).and_then(credentials);
            let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
            let mut cookies = cookies.flat_map(|value| value.split(';')).filter_map(|one| one.trim().split_once('='));
            shown.is_some_and(|shown| token.is(&shown))
                || cookies.any(|(name, value)| name == self.cookie && self.session.is(value))
        })
    }

    /// The cookie for who has shown the token. No script can read it, and no other site makes a browser send it.
    pub(super) fn cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.session.0)
    }

    /// The name that the request came in by. A name of the DNS may lead here without being ours, an address or `localhost` cannot.
    fn host<'a>(&self, parts: &'a Parts) -> Result<&'a str, WebError> {
        let mut named = parts.headers.get_all(header::HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else {
            return Err(WebError::bad("a request has one Host"));
        };
        let host = host.to_str().map_err(|_| WebError::bad("the Host is no name"))?;
        let authority: Authority = host.parse().map_err(|_| WebError::bad("the Host is no name"))?;
        // A Host has no user (RFC 9110, 7.2): what stands before the @ could look like the name to others on the way.
        if host.contains('@') {
            return Err(WebError::bad("a Host holds a name and a port, and no user"));
        }
        // A target may name the host too (GET http://HOST/PATH); a client then sends the same one as Host (RFC 9112, 3.2.2).
        let target = parts.uri.authority().map(Authority::as_str);
        if target.is_some_and(|target| !target.eq_ignore_ascii_case(host)) {
            return Err(WebError::bad("the request names one host in its target and another as its Host"));
        }
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_ours = name == "localhost"
            || name.ends_with(".localhost")
            || bare.parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(&name));
        if is_ours {
            return Ok(host);
        }
        let message = format!("this server is not known as {name:?}; if it is meant to be: rprof serve --host {name}");
        Err(WebError::new(StatusCode::MISDIRECTED_REQUEST, message))
    }

    /// A page of another origin may lead here by a link, and make nothing else of us.
    fn origin(&self, parts: &Parts, host: &str) -> Result<(), WebError> {
        let foreign = || WebError::new(StatusCode::FORBIDDEN, "a page of another site may not ask this server");
        if let Some(origin) = parts.headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let same = ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host));
            if !same {
                return Err(foreign());
            }
        }
        let hint =
            |name: &'static str| parts.headers.get(HeaderName::from_static(name)).and_then(|value| value.to_str().ok());
        let followed = hint("sec-fetch-mode") == Some("navigate") && parts.method == Method::GET;
        let framed = hint("sec-fetch-dest").is_some_and(|dest| dest != "document");
        match hint("sec-fetch-site") {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) if followed && !framed => Ok(()),
            Some(_) => Err(foreign()),
        }
    }
}

/// The secret of `Bearer SECRET`, or the password of `Basic`, which is what a URL can hold and some clients only send.
fn credentials(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(Some(Token("0123456789abcdef".into())), vec!["profiles.example".into()], 4040).unwrap()
    }

    fn parts(path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn status(path: &str, headers: &[(&str, &str)]) -> u16 {
        guard().check(&parts(path, headers), false).map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    const TOKEN: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

    #[test]
    fn only_names_of_this_server_are_answered() {
        let ours =
            ["localhost:4040", "127.0.0.1", "[::1]:4040", "10.0.0.7:80", "rprof.localhost", "Profiles.Example:443"];
        for host in ours {
            assert_eq!(status("/api/info", &[("host", host), TOKEN]), 200, "{host}");
        }
        for (host, refused) in [("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.evil.example", 421)]
        {
            assert_eq!(status("/api/info", &[("host", host), TOKEN]), refused, "{host}");
        }
        assert_eq!(status("/api/info", &[TOKEN]), 400);
        assert_eq!(status("/api/info", &[("host", "localhost"), ("host", "evil.example"), TOKEN]), 400);
    }

    #[test]
    fn a_target_that_names_a_host_names_that_of_the_header() {
        let asked = |target: &str, host: &str| status(target, &[("host", host), TOKEN]);
        assert_eq!(asked("http://localhost:4040/api/info", "localhost:4040"), 200);
        assert_eq!(asked("http://LOCALHOST:4040/api/info", "localhost:4040"), 200);
        assert_eq!(asked("http://evil.example/api/info", "evil.example"), 421);
        for target in
            ["http://evil.example/", "http://localhost:4041/", "http://localhost/", "http://me@localhost:4040/"]
        {
            assert_eq!(asked(target, "localhost:4040"), 400, "{target}");
        }
        for host in ["me@localhost", "evil.example@localhost:4040", "me:secret@127.0.0.1", "@localhost"] {
            assert_eq!(asked("/api/info", host), 400, "{host}");
        }
    }

    #[test]
    fn pages_of_others_may_only_link() {
        let from = |more: &[(&str, &str)]| status("/api/info", &[&[("host", "localhost:4040"), TOKEN], more].concat());
        assert_eq!(from(&[("origin", "http://localhost:4040"), ("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(from(&[("origin", "http://localhost:8080")]), 403);
        assert_eq!(from(&[("origin", "null")]), 403);
        assert_eq!(from(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]), 403);
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(from(&link), 200);
        let frame = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        assert_eq!(from(&frame), 403);
    }

    #[test]
    fn the_token_is_asked_for() {
        let with = |value: &str| status("/api/info", &[("host", "localhost"), ("authorization", value)]);
        assert_eq!(status("/api/info", &[("host", "localhost")]), 401);
        assert_eq!(with("Bearer 0123456789abcdeX"), 401);
        assert_eq!(with("Bearer 0123456789abcdef0"), 401);
        assert_eq!(with(&format!("Basic {}", STANDARD.encode("me:0123456789abcdef"))), 200);
        let guard = guard();
        let cookie = guard.cookie();
        let cookie = cookie.split(';').next().unwrap();
        let known = |cookie: &str| guard.is_known(&parts("/", &[("cookie", cookie)]).headers);
        assert!(known(cookie) && known(&format!("a=b; {cookie}")) && !known(&cookie.replace("4040", "4041")));
        assert!(!known("rprof_4040=0123456789abcdef"));
    }

    #[test]
    fn paths_do_not_climb() {
        for path in ["/../etc/passwd", "/a/%2e%2E/b", "/..%2fetc", "/a\\..\\b", "/%2e%2e"] {
            assert_eq!(status(path, &[("host", "localhost"), TOKEN]), 400, "{path}");
        }
        assert_eq!(status("/a..b/...", &[("host", "localhost"), TOKEN]), 200);
    }
}
