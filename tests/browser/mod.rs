//! Chromium without a screen, driven by chromedriver.
//!
//! ```ignore
//! let browser = Browser::start(Shade::Light).await;
//! browser.open(&url).await;
//! browser.press("/").await;
//! ```

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "every crate that uses this uses a part, and fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource, KeyAction, KeyActions, MouseActions, PointerAction};
use fantoccini::{Client, ClientBuilder};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long something may take before it is taken as broken; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(90);
/// Codes of keys that are no letters.
pub const ESCAPE: char = '\u{e00c}';
pub const ENTER: char = '\u{e007}';
pub const TAB: char = '\u{e004}';
pub const LEFT: char = '\u{e012}';
pub const UP: char = '\u{e013}';
pub const RIGHT: char = '\u{e014}';
pub const DOWN: char = '\u{e015}';

/// What the system would say of colours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shade {
    Light,
    Dark,
}

/// A browser of its own, with a profile of its own. Ends with all its processes when it is dropped.
pub struct Browser {
    driver: Child,
    pub client: Client,
    profile: TempDir,
}

impl Browser {
    pub async fn start(shade: Shade) -> Browser {
        let mut driver = Command::new("chromedriver");
        driver.args(["--port=0", "--allowed-ips=127.0.0.1"]).process_group(0);
        let mut driver = driver
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("run chromedriver, which scripts/install-test-tools installs");
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            line.contains("started successfully")
                .then(|| line.rsplit(' ').next().unwrap().trim_end_matches('.').to_owned())
        });
        let profile = tempfile::tempdir().unwrap();
        let client = connect(&port.expect("chromedriver tells its port"), &profile, shade).await;
        Browser { driver, client, profile }
    }

    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
        self.ready().await;
    }

    /// Until the page shows a profile, and has drawn it.
    pub async fn ready(&self) {
        self.until("the page", "return Boolean(window.rprof) && window.rprof.isReady()").await;
        self.drawn().await;
    }

    pub async fn drawn(&self) {
        let two_frames =
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(true)));";
        self.client.execute_async(two_frames, Vec::new()).await.unwrap();
    }

    pub async fn js(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    pub async fn text(&self, script: &str) -> String {
        self.js(script).await.as_str().unwrap_or_else(|| panic!("{script} gives no text")).to_owned()
    }

    pub async fn number(&self, script: &str) -> f64 {
        let value = self.js(script).await;
        value.as_f64().unwrap_or_else(|| panic!("{script} gives no number but {value}"))
    }

    pub async fn until(&self, what: &str, script: &str) {
        let begun = Instant::now();
        while self.client.execute(script, Vec::new()).await.ok() != Some(Value::Bool(true)) {
            if begun.elapsed() > PATIENCE {
                let shown = self.js("return document.body.innerText").await;
                panic!("waited in vain for {what}: {script}: {shown}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn press(&self, keys: &str) {
        for key in keys.chars() {
            let stroke =
                KeyActions::new("keys".into()).then(KeyAction::Down { value: key }).then(KeyAction::Up { value: key });
            self.client.perform_actions(stroke).await.unwrap();
        }
        self.drawn().await;
    }

    pub async fn press_with_shift(&self, key: char) {
        let shift = '\u{e008}';
        let keys = KeyActions::new("keys".into());
        let stroke = keys.then(KeyAction::Down { value: shift }).then(KeyAction::Down { value: key });
        let stroke = stroke.then(KeyAction::Up { value: key }).then(KeyAction::Up { value: shift });
        self.client.perform_actions(stroke).await.unwrap();
        self.drawn().await;
    }

    pub async fn point(&self, x: f64, y: f64) {
        self.client.perform_actions(MouseActions::new("mouse".into()).then(to(x, y))).await.unwrap();
        self.drawn().await;
    }

    pub async fn click_at(&self, x: f64, y: f64) {
        let press = MouseActions::new("mouse".into()).then(to(x, y)).then(PointerAction::Down { button: 0 });
        self.client.perform_actions(press.then(PointerAction::Up { button: 0 })).await.unwrap();
        self.drawn().await;
    }

    pub async fn drag(&self, from: (f64, f64), end: (f64, f64)) {
        let middle = (f64::midpoint(from.0, end.0), f64::midpoint(from.1, end.1));
        let mouse = MouseActions::new("mouse".into()).then(to(from.0, from.1)).then(PointerAction::Down { button: 0 });
        let mouse = mouse.then(to(middle.0, middle.1)).then(to(end.0, end.1)).then(PointerAction::Up { button: 0 });
        self.client.perform_actions(mouse).await.unwrap();
        self.drawn().await;
    }

    pub async fn click(&self, id: &str) {
        self.js(&format!("document.getElementById({}).click()", json!(id))).await;
        self.drawn().await;
    }

    /// The left edge, top, width and height of an element.
    pub async fn place(&self, selector: &str) -> [f64; 4] {
        let selector = json!(selector);
        let script = format!(
            "const r = document.querySelector({selector}).getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
        );
        serde_json::from_value(self.js(&script).await).unwrap()
    }

    /// Drags over an element, from one share of its width and height to another.
    pub async fn brush(&self, selector: &str, from: (f64, f64), end: (f64, f64)) {
        let [x, y, width, height] = self.place(selector).await;
        let at = |share: (f64, f64)| (x + width * share.0, y + height * share.1);
        self.drag(at(from), at(end)).await;
    }

    /// The picture of the window, as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        self.drawn().await;
        self.client.screenshot().await.unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(i32::try_from(self.driver.id()).unwrap()), Signal::SIGKILL);
        let _ = self.driver.wait();
    }
}

fn to(x: f64, y: f64) -> PointerAction {
    PointerAction::MoveTo { duration: Some(Duration::from_millis(20)), x, y }
}

async fn connect(port: &str, profile: &TempDir, shade: Shade) -> Client {
    let directory = format!("--user-data-dir={}", profile.path().display());
    let mut arguments = vec![
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1440,900",
        "--hide-scrollbars",
        &directory,
    ];
    arguments.push(if shade == Shade::Dark {
        "--blink-settings=preferredColorScheme=0"
    } else {
        "--blink-settings=preferredColorScheme=1"
    });
    let options = json!({ "args": arguments });
    let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": options });
    let Value::Object(capabilities) = capabilities else { unreachable!() };
    let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
    builder.capabilities(capabilities);
    builder.connect(&format!("http://127.0.0.1:{port}")).await.expect("chromedriver starts Chromium")
}
