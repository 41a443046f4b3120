//! The server of one directory or file: the page, its API, pprof over HTTP, and the read side of Pyroscope's API.
//!
//! It only reads. Whoever may ask is decided in one place (`guard`), and what an answer may cost in another (`app`): work that
//! takes long runs on threads of its own, so many at a time, until a deadline, and is kept in a cache bounded in bytes.

mod api;
mod app;
mod diff;
mod error;
mod export;
mod guard;
mod heatmap;
mod info;
mod page;
mod params;
mod pyroscope;
mod server;

pub use app::Costs;
pub use guard::{Token, TokenError};
pub use server::{Address, Listen, Options, ServeError, serve};
