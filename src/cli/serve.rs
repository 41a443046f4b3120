//! `rprof serve`: the page and its API over HTTP.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::input::{self, RecordingArgs};
use super::show;
use super::values::Size;
use crate::store::{self, Windows};
use crate::web::{self, Address, Costs, Listen, Options, ServeError, Token};
use crate::when;

/// Serve a page of what was recorded: time line, heat map, flame graphs, comparisons; and APIs for pprof and Grafana
///
/// It only reads. On 127.0.0.1 everybody on this machine may ask; beyond that, who has the token.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Ends on Ctrl-C. docs/serve.md has the API, and how Grafana and go tool pprof read from here.")]
pub struct ServeArgs {
    /// A directory of windows, or one profile (pprof, folded stacks, perf.data); without, where `record --continuous` writes
    pub path: Option<PathBuf>,
    /// Where to listen; port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4040", conflicts_with = "unix")]
    pub listen: SocketAddr,
    /// Listen on a socket in the file system instead, for its owner alone
    #[arg(long, value_name = "SOCKET")]
    pub unix: Option<PathBuf>,
    /// Answer only who has the token in this file, which is made if it is not there; needed beyond 127.0.0.1
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// A name by which the server is known besides localhost and addresses; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// How long one answer may take
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = when::duration)]
    pub timeout: Duration,
    /// How much time one answer may be about
    #[arg(long, value_name = "DURATION", default_value = "400d", value_parser = when::duration)]
    pub max_range: Duration,
    /// How much memory is kept for answers that are asked for again
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    cache: Size,
    /// How a perf.data file is read
    #[command(flatten)]
    pub recording: RecordingArgs,
}

/// Serves until a signal ends it.
///
/// # Errors
/// If there is nothing to serve, or the address cannot be had.
pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let path = args.path.clone().unwrap_or_else(store::default_directory);
    let windows = open(args, &path)?;
    let listen = args.unix.clone().map_or(Listen::Tcp(args.listen), Listen::Unix);
    let token = args.token.as_deref().map(Token::of_file).transpose()?;
    let costs = Costs { time: args.timeout, range: args.max_range, cache: args.cache.0, ..Costs::default() };
    let options = Options { listen, token: token.clone(), hosts: args.host.clone(), costs };
    let name = windows.name();
    web::serve(windows, options, |address| tell(&name, address, token.as_ref(), args.token.as_deref())).map_err(
        |error| match error {
            ServeError::Unguarded(_) => super::usage(error),
            error => error.into(),
        },
    )
}

fn open(args: &ServeArgs, path: &Path) -> anyhow::Result<Windows> {
    let is_file = input::is_recording(path) || path.is_file() || path == Path::new("-");
    if is_file {
        let profile = input::read(path, &args.recording, true)?;
        return Ok(Windows::of(&path.display().to_string(), profile));
    }
    let opened = Windows::open(path);
    if args.path.is_some() {
        return Ok(opened?);
    }
    opened.context("nothing was recorded there yet; name the directory, or run: rprof record -a --continuous")
}

/// Says where the page is. The token is shown to a terminal alone: what is written elsewhere may be a log.
fn tell(name: &str, address: &Address, token: Option<&Token>, file: Option<&Path>) {
    let mut out = io::stdout().lock();
    let address = match address {
        Address::Tcp(address) => format!("http://{address}/"),
        Address::Unix(path) => format!("the socket {}", path.display()),
    };
    let fragment = token.filter(|_| out.is_terminal()).map(Token::fragment).unwrap_or_default();
    // Whoever closed the output does not want to know.
    let _ = writeln!(out, "rprof: {} is served at {address}{fragment}", show::printable(name));
    if let Some(file) = file.filter(|_| fragment.is_empty()) {
        let _ = writeln!(out, "rprof: the token is in {}", file.display());
    }
    let _ = out.flush();
}
