//! A server of real windows, and a client that sends what it is told, byte by byte.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "each test uses a part, and fails by panicking")]

#[path = "../encode_support/mod.rs"]
pub(crate) mod encode_support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rprof::encode::Format;
use rprof::ids::UnixNanos;
use rprof::profile::{Label, LabelValue, Profile, StringId};
use rprof::store::{Level, Source, WindowName, Writer};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const SECOND: i64 = 1_000_000_000;
/// 2026-11-22 00:00 UTC.
pub(crate) const START: i64 = 1_795_305_600;
/// The ten minutes of [`directory`], as parameters.
pub(crate) const TIME: &str = "from=@1795305600&width=10m";
/// The sum of [`directory`]: 1 + … + 10 without 6, each 0.1 s.
pub(crate) const TOTAL: i64 = 49 * 100_000_000;

pub(crate) fn name(minute: i64) -> WindowName {
    let start = (START + minute * 60) * SECOND;
    let (start, end) = (UnixNanos(start), UnixNanos(start + 60 * SECOND));
    WindowName { host: "here".into(), kind: "cpu".into(), source: Source::Recorder, level: Level::Window, start, end }
}

/// 0.1 s of CPU in a minute, `times` over.
pub(crate) fn window(minute: i64, times: i64) -> Profile {
    let mut profile = encode_support::server_profile();
    (profile.time_nanos, profile.duration_nanos) = ((START + minute * 60) * SECOND, 60 * SECOND);
    encode_support::multiply(&mut profile, times);
    profile
}

/// The window with times: one sample each ten seconds.
pub(crate) fn timed(minute: i64) -> Profile {
    let mut profile = window(minute, 1);
    let key = profile.strings.intern("timestamp_ns");
    for (at, sample) in (0..).zip(&mut profile.samples) {
        let time = (START + minute * 60 + at * 10) * SECOND;
        sample.labels.push(Label { key, value: LabelValue::Number(time, StringId::EMPTY) });
    }
    profile
}

/// A window of so many processes, with one sample each.
pub(crate) fn processes(number: i64) -> Profile {
    let mut profile = window(0, 1);
    let (pid, sample) = (profile.strings.intern("pid"), profile.samples[0].clone());
    profile.samples = vec![sample; usize::try_from(number).unwrap()];
    for (sample, at) in profile.samples.iter_mut().zip(1..) {
        for label in sample.labels.iter_mut().filter(|label| label.key == pid) {
            label.value = LabelValue::Number(at, StringId::EMPTY);
        }
    }
    profile
}

/// A window whose samples have these values of the label `version`, in turn.
pub(crate) fn versioned(minute: i64, versions: &[&str]) -> Profile {
    let mut profile = window(minute, 1);
    let key = profile.strings.intern("version");
    let texts: Vec<StringId> = versions.iter().map(|version| profile.strings.intern(version)).collect();
    for (sample, &text) in profile.samples.iter_mut().zip(texts.iter().cycle()) {
        sample.labels.push(Label { key, value: LabelValue::Text(text) });
    }
    profile
}

pub(crate) fn write(folder: &Path, minute: i64, profile: &Profile) {
    let mut writer = Writer::open(folder, Source::Recorder).unwrap();
    writer.write(&name(minute), profile, Format::by_name("pprof").unwrap()).unwrap();
}

/// Minutes 0 to 9 without the fifth, each with as many times 0.1 s as its number and one.
pub(crate) fn directory() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), Source::Recorder).unwrap();
    for minute in (0..10).filter(|&minute| minute != 5) {
        writer.write(&name(minute), &window(minute, minute + 1), Format::by_name("pprof").unwrap()).unwrap();
    }
    folder
}

/// A server, which ends with its value.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a refusal in Connect's words.
    pub(crate) fn json_code(&self) -> Option<String> {
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        value.get("code")?.as_str().map(str::to_owned)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Starts `rprof serve PATH` on a free port.
pub(crate) fn serve(path: &Path, options: &[&str]) -> Server {
    let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
    rprof.arg("serve").arg(path).args(["--listen", "127.0.0.1:0"]).args(options).env("TZ", "UTC");
    let mut child = rprof.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("no address: {line:?}"));
    let address = address.split('/').next().unwrap().to_owned();
    Server { child, address }
}

impl Server {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        // No answer takes so long; a test that waits for ever tells nothing.
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    /// Sends a request with these lines in its head.
    pub(crate) fn ask(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
        exchange(self.connect(), method, target, headers, body, &self.address)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], &[])
    }

    pub(crate) fn json(&self, target: &str) -> Value {
        let answer = self.get(target);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }

    /// A call of Pyroscope's service.
    pub(crate) fn call(&self, method: &str, kind: &str, body: &[u8]) -> Answer {
        let target = format!("/querier.v1.QuerierService/{method}");
        self.ask("POST", &target, &[&format!("Content-Type: application/{kind}")], body)
    }

    /// The most memory that it ever had, in kilobytes.
    pub(crate) fn peak_kilobytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

pub(crate) fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    target: &str,
    headers: &[&str],
    body: &[u8],
    host: &str,
) -> Answer {
    let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|line| line.starts_with("Host:")) {
        request.push_str(&format!("Host: {host}\r\n"));
    }
    headers.iter().for_each(|line| request.push_str(&format!("{line}\r\n")));
    if !body.is_empty() || method == "POST" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    // A server that has refused already may not take the rest.
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {bytes:?}"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}
