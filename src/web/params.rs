//! The parameters of a question: each is known and stands once, so that a slip of the pen is told and not passed over.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::extract::{FromRequestParts, Query as UrlQuery};
use http::request::Parts;

use super::error::WebError;
use crate::ids::UnixNanos;
use crate::store::{Query, Selector, Windows};
use crate::when::Asked;

/// Parameters of every question about a time.
const OF_QUESTION: [&str; 6] = ["from", "to", "around", "width", "kind", "where"];
/// Bytes of a selector at most: its regular expressions are compiled.
const MAX_SELECTOR: usize = 4096;

/// The parameters of a URL.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    map: BTreeMap<String, String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = WebError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params, WebError> {
        let pairs = UrlQuery::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let UrlQuery(pairs) = pairs.map_err(|error| WebError::bad(format!("the URL's parameters: {error}")))?;
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            if map.insert(name.clone(), value).is_some() {
                return Err(WebError::bad(format!("the parameter {name:?} stands twice; leave one away")));
            }
        }
        Ok(Params { map })
    }
}

impl Params {
    /// The value of a parameter; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.map.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Takes a parameter away.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.map.remove(name)
    }

    /// Says a parameter in the words of another one.
    pub(super) fn set(&mut self, name: &str, value: String) {
        self.map.insert(name.to_owned(), value);
    }

    /// Refuses parameters that nobody reads: all but those of every question and these.
    pub(super) fn expect(&self, more: &[&str]) -> Result<(), WebError> {
        self.expect_only(&[&OF_QUESTION, more].concat())
    }

    /// Refuses parameters that nobody reads: all but these.
    pub(super) fn expect_only(&self, known: &[&str]) -> Result<(), WebError> {
        let known = || known.iter().copied();
        match self.map.keys().find(|name| !known().any(|known| known == **name)) {
            Some(name) => {
                let known: Vec<&str> = known().collect();
                Err(WebError::bad(format!("there is no parameter {name:?}; there are {}", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// The question of a time, a kind and a selection.
    pub(super) fn query(&self, windows: &Windows) -> Result<Query, WebError> {
        self.query_of(windows, ["from", "to", "around", "width"])
    }

    /// As [`Params::query`], where the time has other names.
    pub(super) fn query_of(&self, windows: &Windows, names: [&str; 4]) -> Result<Query, WebError> {
        let [from, to, around, width] = names.map(|name| self.get(name));
        let asked = Asked { from, to, around, width };
        let range = match windows.file_range() {
            Some(range) if asked.is_empty() => range,
            _ => asked.range(UnixNanos::from(SystemTime::now())).map_err(WebError::bad)?,
        };
        let kind = self.get("kind").map(str::to_owned);
        Ok(Query { range, kind, selector: selector(self.get("where").unwrap_or_default())? })
    }
}

/// Reads a selector of bounded size.
pub(super) fn selector(text: &str) -> Result<Selector, WebError> {
    if text.len() > MAX_SELECTOR {
        return Err(WebError::bad(format!("a selector has at most {MAX_SELECTOR} bytes; this one has {}", text.len())));
    }
    Selector::parse(text).map_err(|error| WebError::bad(error.to_string()))
}
