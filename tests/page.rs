//! The page in a real browser, as one file and behind `rprof serve`: what it shows is what the profile holds. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod browser;
mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use browser::{Browser, DOWN, ENTER, ESCAPE, LEFT, RIGHT, Shade};
use common::programs::{self, c};
use common::recording::{ON_ANY_DISK, rprof, text};
use rprof::encode;
use rprof::profile::{LabelValue, Profile, Sample, TIME_LABEL};
use serde_json::Value;
use tempfile::TempDir;

/// The name of a function of phases.c that would run if the page took it for HTML.
const SCRIPT: &str = "\"<img src=x onerror=hacked()></script><script>hacked()</script>\"";
/// Whether anything of a profile became a part of the page.
const IS_CLEAN: &str =
    "return !document.querySelector('img') && typeof hacked === 'undefined' && document.scripts.length <= 3";

/// The boxes of a comparison whose colour is not that of what became of their function.
const MISCOLOURED: &str = "const ways = { red: ['up', 'new', 'shifted'], blue: ['down', 'gone', 'shifted'] }; \
    return rprof.drawn().filter((box) => { \
        const way = box.color.endsWith(' 25)') ? 'red' : box.color.endsWith(' 255)') ? 'blue' : null; \
        return way && !(box.verdict.significant && ways[way].includes(box.verdict.verdict)); \
    }).map((box) => box.name).join()";

/// A recording of phases.c with the times of its samples.
struct Recording {
    _folder: TempDir,
    page: PathBuf,
    profile: Profile,
    column: usize,
}

impl Recording {
    fn shared() -> &'static Recording {
        static RECORDING: OnceLock<Recording> = OnceLock::new();
        RECORDING.get_or_init(|| Recording::new("4"))
    }

    fn new(seconds: &str) -> Recording {
        let folder = tempfile::tempdir().unwrap();
        let (file, page) = (folder.path().join("profile.pb.gz"), folder.path().join("profile.html"));
        let program = c("phases.c", &["-O1"]);
        let mut record = rprof();
        record.args(["record", "-F", "499", "--timestamps", "-o", text(&file), "--", text(&program), seconds]);
        succeed(&mut record);
        succeed(rprof().args(["convert", text(&file), text(&page)]));
        let profile = encode::read_file(&file).unwrap();
        let column = profile.column(None).unwrap();
        Recording { _folder: folder, page, profile, column }
    }

    fn url(&self) -> String {
        format!("file://{}", self.page.display())
    }

    /// The sum of the samples that are wanted.
    fn sum(&self, wanted: impl Fn(&Profile, &Sample) -> bool) -> f64 {
        let samples = self.profile.samples.iter().filter(|sample| wanted(&self.profile, sample));
        samples.map(|sample| sample.values[self.column] as f64).sum()
    }

    fn total(&self) -> f64 {
        self.sum(|_, _| true)
    }

    /// The sum of a range in seconds since 1970.
    fn sum_of_time(&self, from: f64, to: f64) -> f64 {
        self.sum(|profile, sample| {
            let time = number(profile, sample, TIME_LABEL) as f64 / 1e9;
            time >= from && time < to
        })
    }
}

/// `rprof serve` of a directory.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(store: &Path) -> Server {
        let mut serve = rprof();
        serve.arg("serve").arg(store).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut process = serve.spawn().unwrap();
        let line = BufReader::new(process.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let url = line.rsplit(' ').next().unwrap().to_owned();
        Server { process, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory of windows of a second, recorded from phases.c, behind `rprof serve`.
struct Served {
    store: TempDir,
    server: Server,
}

impl Served {
    fn start() -> Served {
        let store = Served::record();
        let server = Server::start(store.path());
        Served { store, server }
    }

    /// Its own directory, so that each test has one that nobody else changes.
    fn record() -> TempDir {
        static RECORDED: OnceLock<TempDir> = OnceLock::new();
        let recorded = RECORDED.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let running = programs::run(&c("phases.c", &["-O1"]), &["10"]);
            let mut record = rprof();
            record.args([
                "record",
                "--continuous",
                "--window",
                "1s",
                "--timestamps",
                "-F",
                "499",
                "--max-overhead",
                "100%",
            ]);
            record.args(ON_ANY_DISK);
            succeed(record.args(["-o", text(folder.path()), "-p", &running.pid().to_string()]));
            folder
        });
        let copy = tempfile::tempdir().unwrap();
        succeed(Command::new("cp").arg("-r").arg(format!("{}/.", recorded.path().display())).arg(copy.path()));
        copy
    }

    /// What `rprof query` tells of a range.
    fn query(&self, range: &[&str]) -> Value {
        let output =
            rprof().arg("query").arg(self.store.path()).args(["--json", "-n", "0"]).args(range).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn query_total(&self, from: f64, to: f64) -> f64 {
        self.query(&["--from", &format!("@{from:.6}"), "--to", &format!("@{to:.6}")])["total"].as_f64().unwrap()
    }
}

/// A browser that shows the page of a server with its time line.
async fn browse(server: &Server) -> Browser {
    let browser = Browser::start(Shade::Light).await;
    browser.open(&server.url).await;
    browser.until("the time line", "return Boolean(document.querySelector('#timeline .u-over'))").await;
    browser
}

/// The files of windows, by their time.
fn windows_of(store: &Path) -> Vec<PathBuf> {
    let output = Command::new("find").arg(store).args(["-name", "*.pb.gz"]).output().unwrap();
    let mut files: Vec<PathBuf> = String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect();
    files.sort_unstable();
    files
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn has(name: &str) -> impl Fn(&Profile, &Sample) -> bool {
    move |profile, sample| profile.frames(sample).any(|frame| frame.name == name)
}

fn number(profile: &Profile, sample: &Sample, key: &str) -> i64 {
    let key = profile.strings.find(key).unwrap();
    let label = sample.labels.iter().find(|label| label.key == key).unwrap();
    match label.value {
        LabelValue::Number(number, _) => number,
        LabelValue::Text(_) => panic!("a number"),
    }
}

fn close(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected} ± {tolerance}");
}

async fn whole(browser: &Browser) -> f64 {
    browser.number("return rprof.whole().total").await
}

async fn selection(browser: &Browser) -> [f64; 2] {
    serde_json::from_value(browser.js("return rprof.state().selection").await).unwrap()
}

/// Brushes the time line between two shares of its width.
async fn brush_time(browser: &Browser, from: f64, to: f64) {
    browser.brush("#timeline .u-over", (from, 0.5), (to, 0.5)).await;
}

/// Of two ranges that are compared, the one before.
async fn choose_first_range(browser: &Browser) {
    brush_time(browser, 0.05, 0.42).await;
    browser.until("the first range", "return rprof.state().selection !== null && rprof.isReady()").await;
}

/// Ticks a value in the list of filters; answers it. Without one the first of the label is taken.
async fn tick(browser: &Browser, key: &str, value: &str) -> String {
    browser.press("f").await;
    let wanted = if value.is_empty() { String::new() } else { format!("[data-value={value}]") };
    let click = format!(
        "const box = document.querySelector('[data-key={key}]{wanted}'); box.click(); return box.dataset.value"
    );
    let ticked = browser.text(&click).await;
    browser.press(&ESCAPE.to_string()).await;
    browser.until("the filter", "return rprof.isReady() && !document.getElementById('dialog').open").await;
    ticked
}

/// The sums of the base and the new side of folded stacks with two numbers a line.
async fn folded_sums(browser: &Browser) -> [f64; 2] {
    let folded = browser.text("return rprof.folded()").await;
    folded.lines().fold([0.0, 0.0], |[base, new], line| {
        let mut numbers = line.rsplit(' ').map(|number| number.parse::<f64>().unwrap());
        let (of_new, of_base) = (numbers.next().unwrap(), numbers.next().unwrap());
        [base + of_base, new + of_new]
    })
}

async fn click_box(browser: &Browser, name: &str, view: &str) {
    let (x, y) = place_of(browser, name, view).await;
    browser.click_at(x, y).await;
}

async fn place_of(browser: &Browser, name: &str, view: &str) -> (f64, f64) {
    let place = browser.js(&format!("return rprof.place({}, {view:?})", Value::from(name))).await;
    assert!(place.is_object(), "{name} has a box");
    browser.drawn().await;
    (place["x"].as_f64().unwrap(), place["y"].as_f64().unwrap())
}

#[tokio::test]
async fn a_file_shows_the_profile_and_zooms() {
    let recording = Recording::shared();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&recording.url()).await;
    close(whole(&browser).await, recording.total(), 0.0);
    let quality = browser.text("return document.getElementById('quality').innerText").await;
    assert!(quality.contains("lost") && quality.contains("stack"), "{quality}");
    click_box(&browser, "steady", "flame").await;
    assert_eq!(browser.text("return rprof.zoomed()").await, "steady");
    let detail = browser.text("return document.getElementById('detail').innerText").await;
    assert!(detail.contains("steady") && detail.contains("phases.c:"), "{detail}");
    // The link holds it: a new load shows the same.
    assert!(browser.text("return location.hash").await.contains("zoom="));
    browser.client.refresh().await.unwrap();
    browser.ready().await;
    assert_eq!(browser.text("return rprof.zoomed()").await, "steady");
    browser.press(&ESCAPE.to_string()).await;
    assert_ne!(browser.text("return rprof.zoomed()").await, "steady");
}

#[tokio::test]
async fn search_tells_its_share_in_every_view() {
    let recording = Recording::shared();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&recording.url()).await;
    browser.press("/").await;
    browser.press("^(early|late)$").await;
    let expected = recording.sum(|profile, sample| has("early")(profile, sample) || has("late")(profile, sample));
    close(browser.number("return rprof.search().share").await, expected / recording.total(), 1e-9);
    assert!(browser.text("return document.getElementById('matched').innerText").await.contains('%'));
    browser.js("document.activeElement.blur()").await;
    browser.press("2").await;
    let rows = "return [...document.querySelectorAll('#table-view [role=rowheader]')].map((cell) => cell.textContent).sort().join()";
    assert_eq!(browser.text(rows).await, "early,late");
    assert_eq!(browser.text("return document.querySelector('[role=grid]').getAttribute('aria-rowcount')").await, "3");
    browser.press(&ESCAPE.to_string()).await;
    // Sorted by what is asked for, both ways.
    let first = "return document.querySelector('#table-view [aria-rowindex=\"2\"] [role=rowheader]').textContent";
    browser.js("document.querySelector('[data-sort=name]').click()").await;
    browser.drawn().await;
    let by_name = browser.text(first).await;
    browser.js("document.querySelector('[data-sort=name]').click()").await;
    browser.drawn().await;
    assert_ne!(by_name, browser.text(first).await);
    // What is no expression is searched as it is written.
    browser.press("/").await;
    browser.press("ste(ady").await;
    assert_eq!(browser.text("return document.getElementById('search').getAttribute('aria-invalid')").await, "true");
    close(browser.number("return rprof.search().share").await, 0.0, 0.0);
}

#[tokio::test]
async fn sandwich_inversion_and_folding() {
    let recording = Recording::shared();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&recording.url()).await;
    click_box(&browser, "deep", "flame").await;
    browser.press("3").await;
    browser
        .until(
            "the sandwich",
            "return rprof.state().view === 'sandwich' && Boolean(document.querySelector('#callers canvas'))",
        )
        .await;
    let callers = browser.js("return rprof.names('callers')").await.to_string();
    assert!(callers.contains("\"main\"") && !callers.contains("\"early\""), "{callers}");
    let text = browser.text("return document.getElementById('sandwich-text').innerText").await;
    assert!(text.starts_with("deep"), "{text}");
    // The function's callees are its own calls of itself, until those are folded.
    let callees = "return rprof.names('callees').length";
    browser.press("1").await;
    let boxes = browser.number("return rprof.boxes()").await;
    browser.press("r").await;
    assert!(browser.number("return rprof.boxes()").await < boxes);
    close(whole(&browser).await, recording.total(), 0.0);
    assert!(browser.number(callees).await >= 2.0);
    // Inverted, the innermost functions stand at the root.
    browser.press("v").await;
    let folded = browser.text("return rprof.folded()").await;
    let of_steady = folded.lines().filter(|line| line.starts_with("steady;"));
    let sum: f64 = of_steady.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    let leaf =
        |profile: &Profile, sample: &Sample| profile.frames(sample).next().is_some_and(|frame| frame.name == "steady");
    close(sum, recording.sum(leaf), 0.0);
    // Libraries as one frame each, the kernel left out.
    browser.press("v").await;
    browser.press("l").await;
    let names = browser.js("return rprof.names('flame')").await.to_string();
    assert!(names.contains("libc.so.6") && !names.contains("__libc_start"), "{names}");
    close(whole(&browser).await, recording.total(), 0.0);
}

#[tokio::test]
async fn a_brush_shows_exactly_its_range() {
    let recording = Recording::shared();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&recording.url()).await;
    brush_time(&browser, 0.55, 0.95).await;
    browser.until("a range", "return rprof.state().selection !== null").await;
    let [from, to] = selection(&browser).await;
    let expected = recording.sum_of_time(from, to);
    // Times in the page are exact to a microsecond: a sample at an edge may fall on either side.
    let sample = 1e9 / 499.0;
    close(whole(&browser).await, expected, 2.5 * sample);
    // CPUs are over the time that is shown, not over the whole recording.
    let figures = browser.js("return document.querySelector('#detail .figures').textContent").await.to_string();
    let cpus: f64 = figures.split(" CPUs").next().unwrap().rsplit(['·', ' ']).next().unwrap().parse().unwrap();
    close(cpus, expected / 1e9 / (to - from), 0.02);
    assert!(expected > 0.2 * recording.total() && expected < 0.6 * recording.total());
    let names = browser.js("return rprof.names('flame')").await.to_string();
    assert!(names.contains("\"late\"") && !names.contains("\"early\""), "{names}");
    // The heat map counts the samples of its time, and its brush cuts within a second.
    let samples = recording.profile.samples.len() as f64;
    close(browser.number("return rprof.heat().sum").await, samples, 0.0);
    let columns = browser.number("return rprof.heat().columns").await;
    let x = 2.5 / columns;
    browser.brush("#heatmap canvas", (x, 0.95), (x, 0.45)).await;
    let [from, to] = selection(&browser).await;
    close(to - from, 0.5, 0.06);
    close(whole(&browser).await, recording.sum_of_time(from, to), 2.5 * sample);
    browser.press("x").await;
    close(whole(&browser).await, recording.total(), 0.0);
    // Back undoes it.
    browser.client.back().await.unwrap();
    browser.until("the range again", "return rprof.state().selection !== null").await;
    assert_eq!(selection(&browser).await, [from, to]);
}

#[tokio::test]
async fn a_pinned_range_is_compared_with_another() {
    let recording = Recording::shared();
    let browser = Browser::start(Shade::Dark).await;
    browser.open(&recording.url()).await;
    brush_time(&browser, 0.05, 0.4).await;
    browser.press("p").await;
    brush_time(&browser, 0.6, 0.95).await;
    browser.until("the comparison", "return rprof.isReady() && rprof.whole().base > 0").await;
    for (name, verdict) in [("early", "gone"), ("late", "new")] {
        let found = browser.js(&format!("return rprof.verdict({name:?})")).await;
        assert_eq!(
            (found["verdict"].as_str(), found["significant"].as_bool()),
            (Some(verdict), Some(true)),
            "{name}: {found}"
        );
    }
    // Who calls and does nothing itself did not change itself.
    let main = browser.js("return rprof.verdict('main')").await;
    assert_eq!(main["self"], false, "{main}");
    assert_eq!(browser.text(MISCOLOURED).await, "");
    let doubts = browser.text("return document.getElementById('quality').innerText").await;
    assert!(doubts.contains("doubt"), "{doubts}");
    // What is taken away has both sides.
    let folded = browser.text("return rprof.folded()").await;
    assert!(folded.lines().any(|line| line.contains("early ") && line.ends_with(" 0")), "{folded}");
    let [base, new] = folded_sums(&browser).await;
    let rounding = folded.lines().count() as f64;
    close(new, whole(&browser).await, rounding);
    close(base, browser.number("return rprof.whole().base").await, rounding);
    assert!(browser.text("return rprof.svg()").await.contains("; base "));
    // What vanished has a box, and the box tells both sides.
    let (x, y) = place_of(&browser, "early", "flame").await;
    browser.point(x, y).await;
    let tip = browser.text("return document.getElementById('tip').innerText").await;
    assert!(tip.contains("gone") && tip.contains("Base") && tip.contains("95 % interval"), "{tip}");
    browser.press("2").await;
    let verdicts =
        "return [...document.querySelectorAll('#table-view [role=row]')].map((row) => row.innerText).join('\\n')";
    let table = browser.text(verdicts).await;
    assert!(table.contains("gone") && table.contains("new"), "{table}");
    // The link holds both ranges.
    browser.client.refresh().await.unwrap();
    browser.ready().await;
    assert!(browser.number("return rprof.whole().base").await > 0.0);
    assert_eq!(browser.text("return rprof.state().view").await, "table");
    // Of what filters leave, nothing vanished; what they left out can still be chosen.
    tick(&browser, "comm", "helper").await;
    assert_eq!(browser.js("return rprof.verdict('early').significant").await, false);
    browser.press("f").await;
    let names = browser.number("return document.querySelectorAll('[data-key=comm]').length").await;
    assert!(names >= 2.0, "{names} names to choose from");
    browser.press(&ESCAPE.to_string()).await;
    // Modules are not tested, and the page says so.
    browser.press("1l").await;
    let legend = browser.text("return document.getElementById('color-legend').innerText").await;
    assert!(legend.contains("Modules as one frame are not tested"), "{legend}");
}

#[tokio::test]
async fn names_are_only_text() {
    let recording = Recording::shared();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&recording.url()).await;
    click_box(&browser, SCRIPT, "flame").await;
    let (x, y) = place_of(&browser, SCRIPT, "flame").await;
    browser.point(x, y).await;
    assert!(browser.text("return document.getElementById('tip').innerText").await.contains(SCRIPT));
    assert!(browser.text("return document.getElementById('detail').innerText").await.contains(SCRIPT));
    browser.press("2").await;
    assert!(browser.text("return document.getElementById('table-view').innerText").await.contains("<img src=x"));
    browser.press("3").await;
    assert!(browser.text("return document.getElementById('sandwich-text').innerText").await.contains(SCRIPT));
    browser.press("o").await;
    assert!(browser.text("return document.getElementById('chips').innerText").await.contains("<img src=x"));
    assert_eq!(browser.js(IS_CLEAN).await, true);
    // In the picture too, which is XML; and the file itself holds no such tag.
    let parsed = "return new DOMParser().parseFromString(rprof.svg(), 'image/svg+xml').querySelectorAll('img, script, parsererror').length";
    close(browser.number(parsed).await, 0.0, 0.0);
    let file = std::fs::read_to_string(&recording.page).unwrap();
    assert!(file.contains("\\u003cimg src=x") && !file.contains("<img"));
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let recording = Recording::shared();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&recording.url()).await;
    browser.press("?").await;
    assert_eq!(browser.js("return document.getElementById('dialog').open").await, true);
    browser.press(&ESCAPE.to_string()).await;
    browser.until("the help is closed", "return !document.getElementById('dialog').open").await;
    // Everything that can be used is reached by Tab, and shows that it has the focus.
    let reached = reach_by_tab(&browser).await;
    for part in ["export", "timeline", "search", "tab-flame", "icicle"] {
        assert!(reached.iter().any(|id| id == part), "{part} is not reached: {reached:?}");
    }
    browser.js("document.querySelector('#flame canvas').focus()").await;
    for _ in 0..3 {
        browser.press(&DOWN.to_string()).await;
    }
    let told = browser.text("return document.getElementById('live').textContent").await;
    assert!(told.contains('%'), "{told}");
    let selected = browser.text("return rprof.selected().name").await;
    browser.press(&ENTER.to_string()).await;
    assert_eq!(browser.text("return rprof.zoomed()").await, selected);
    // The time line by arrows.
    browser.js("document.getElementById('timeline').focus()").await;
    browser.press(&RIGHT.to_string()).await;
    let [from, to] = selection(&browser).await;
    browser.press_with_shift(RIGHT).await;
    let longer = selection(&browser).await;
    assert!(longer[0] == from && longer[1] > to);
    browser.press(&LEFT.to_string()).await;
    browser.press("x").await;
    // The heat map by arrows and Enter.
    browser.js("document.querySelector('#heatmap canvas').focus()").await;
    browser.press(&format!("{RIGHT}{ENTER}{RIGHT}{ENTER}")).await;
    let [from, to] = selection(&browser).await;
    close(to - from, 1.02, 0.001);
    browser.press("x").await;
    let shade = browser.text("return document.documentElement.dataset.shade").await;
    browser.press("tt").await;
    assert_ne!(browser.text("return document.documentElement.dataset.shade").await, shade);
    // Labels for those who do not see.
    let unnamed = "return [...document.querySelectorAll('button, input, select, canvas[tabindex]')]\
        .filter((one) => !one.innerText && !one.getAttribute('aria-label') && !one.closest('label') && !one.closest('[hidden]')).map((one) => one.outerHTML).join()";
    assert_eq!(browser.text(unnamed).await, "");
}

async fn reach_by_tab(browser: &Browser) -> Vec<String> {
    let mut reached = Vec::new();
    browser.js("document.body.focus()").await;
    for _ in 0..40 {
        browser.press(&browser::TAB.to_string()).await;
        let script =
            "const at = document.activeElement; return at.matches(':focus-visible') ? at.id || at.tagName : ''";
        reached.push(browser.text(script).await);
    }
    reached
}

#[tokio::test]
async fn filters_by_label() {
    let recording = Recording::shared();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&recording.url()).await;
    browser.press("f").await;
    browser.js("document.querySelector('[data-key=comm][data-value=helper]').click()").await;
    browser.press(&ESCAPE.to_string()).await;
    let expected = recording.sum(|profile, sample| profile.label(sample, "comm") == Some("helper"));
    assert!(expected > 0.0 && expected < recording.total());
    close(whole(&browser).await, expected, 0.0);
    let names = browser.js("return rprof.names('flame')").await.to_string();
    assert!(names.contains("\"beside\"") && !names.contains("\"steady\""), "{names}");
    browser.client.refresh().await.unwrap();
    browser.ready().await;
    close(whole(&browser).await, expected, 0.0);
    browser.js("document.querySelector('#chips button').click()").await;
    browser.drawn().await;
    close(whole(&browser).await, recording.total(), 0.0);
}

#[tokio::test]
async fn light_and_dark() {
    let recording = Recording::shared();
    let ink =
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)";
    let colors = "const canvas = document.querySelector('#flame canvas'); const data = canvas.getContext('2d')\
        .getImageData(0, 0, canvas.width, canvas.height).data; const seen = new Set(); \
        for (let at = 0; at < data.length; at += 4) seen.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]); return seen.size";
    let mut pictures = Vec::new();
    for (shade, is_bright) in [(Shade::Light, true), (Shade::Dark, false)] {
        let browser = Browser::start(shade).await;
        browser.open(&recording.url()).await;
        assert_eq!(browser.number(ink).await > 384.0, is_bright);
        assert!(browser.number(colors).await > 8.0);
        pictures.push(browser.picture().await);
    }
    assert!(pictures.iter().all(|picture| picture.starts_with(b"\x89PNG") && picture.len() > 10_000));
    assert_ne!(pictures[0], pictures[1]);
}

#[tokio::test]
async fn a_served_store_is_brushed() {
    let served = Served::start();
    let browser = browse(&served.server).await;
    browser.until("the heat map", "return Boolean(rprof.heat()) && rprof.heat().sum > 0").await;
    let all = served.query(&["--from", "-1h"])["total"].as_f64().unwrap();
    close(whole(&browser).await, all, 0.0);
    // Whoever gets the link sees this time, however much is recorded meanwhile.
    let link = browser.text("return rprof.link()").await;
    assert!(link.contains("from=") && link.contains("&to=") && link.contains("&heat="), "{link}");
    close(browser.number("return rprof.heat().sum").await, all, 0.0);
    brush_time(&browser, 0.55, 0.9).await;
    browser.until("the range", "return rprof.state().selection !== null && rprof.isReady()").await;
    let [from, to] = selection(&browser).await;
    close(whole(&browser).await, served.query_total(from, to), 0.0);
    let names = browser.js("return rprof.names('flame')").await.to_string();
    assert!(names.contains("\"late\"") && !names.contains("\"early\""), "{names}");
    // Within a second, from the heat map.
    let columns = browser.number("return rprof.heat().columns").await;
    let x = 5.5 / columns;
    browser.brush("#heatmap canvas", (x, 0.95), (x, 0.45)).await;
    browser
        .until(
            "the part of a second",
            "const [from, to] = rprof.state().selection; return to - from < 1 && rprof.isReady()",
        )
        .await;
    let [from, to] = selection(&browser).await;
    close(whole(&browser).await, served.query_total(from, to), 0.0);
    // The same again from the link alone, in another browser.
    let link = browser.text("return rprof.link()").await;
    let total = whole(&browser).await;
    let other = Browser::start(Shade::Dark).await;
    other.open(&link).await;
    assert_eq!(selection(&other).await, [from, to]);
    close(whole(&other).await, total, 0.0);
    other.until("the heat map", "return Boolean(rprof.heat())").await;
    let heat = "const heat = rprof.heat(); return `${heat.columns} ${heat.sum}`";
    assert_eq!(other.text(heat).await, browser.text(heat).await);
    assert_eq!(browser.js(IS_CLEAN).await, true);
}

#[tokio::test]
async fn only_what_lacks_between_windows_is_a_gap() {
    let store = Served::record();
    let quality = "return document.getElementById('quality').innerText";
    for is_whole in [true, false] {
        if !is_whole {
            std::fs::remove_file(&windows_of(store.path())[4]).unwrap();
        }
        let server = Server::start(store.path());
        let browser = browse(&server).await;
        let of_all = browser.text(quality).await;
        // The time line begins with a whole second before the first window, and ends with one behind the last.
        brush_time(&browser, 0.0005, 0.9995).await;
        browser.until("the range", "return rprof.state().selection !== null && rprof.isReady()").await;
        for told in [of_all, browser.text(quality).await] {
            assert_eq!((told.contains("gap"), told.contains("1 gap")), (!is_whole, !is_whole), "{told}");
        }
    }
}

#[tokio::test]
async fn served_ranges_are_compared() {
    let served = Served::start();
    let browser = browse(&served.server).await;
    choose_first_range(&browser).await;
    let total = whole(&browser).await;
    browser.press("p").await;
    brush_time(&browser, 0.58, 0.95).await;
    browser.until("the comparison", "return rprof.isReady() && rprof.whole().base > 0").await;
    for (name, verdict) in [("early", "gone"), ("late", "new")] {
        let found = browser.js(&format!("return rprof.verdict({name:?})")).await;
        assert_eq!(
            (found["verdict"].as_str(), found["significant"].as_bool()),
            (Some(verdict), Some(true)),
            "{name}: {found}"
        );
    }
    // With plain values the base is what was seen of it before.
    browser.js("const how = document.getElementById('normalize'); how.value = 'samples'; how.dispatchEvent(new Event('change'))").await;
    browser.until("plain values", "return rprof.state().normalize === 'samples' && rprof.isReady()").await;
    close(browser.number("return rprof.whole().base").await, total, 0.0);
    let (x, y) = place_of(&browser, "early", "flame").await;
    browser.point(x, y).await;
    assert!(browser.text("return document.getElementById('tip').innerText").await.contains("gone"));
    assert_eq!(browser.js(IS_CLEAN).await, true);
    // Let go, the range is shown alone again.
    browser.press("p").await;
    browser.until("no base", "return rprof.isReady() && rprof.state().base === null && rprof.whole().base === 0").await;
}

#[tokio::test]
async fn served_ranges_are_compared_after_filters() {
    let served = Served::start();
    let browser = browse(&served.server).await;
    choose_first_range(&browser).await;
    // A comparison does not tell threads apart, but is of the one that was chosen.
    let all = whole(&browser).await;
    let thread = tick(&browser, "tid", "").await;
    let of_thread = whole(&browser).await;
    assert!(of_thread > 0.0 && of_thread < all, "{of_thread} of {all} are of the thread {thread}");
    browser.press("p").await;
    brush_time(&browser, 0.58, 0.95).await;
    browser.until("the comparison", "return rprof.isReady() && rprof.whole().base > 0").await;
    assert!(whole(&browser).await > 0.0);
    assert_eq!(browser.text(MISCOLOURED).await, "");
    browser.js("document.querySelector('#chips button').click()").await;
    browser.until("all threads", "return rprof.isReady() && Object.keys(rprof.state().filters).length === 0").await;
    assert_eq!(browser.js("return rprof.verdict('early').significant").await, true);
    // Verdicts are of what filters leave: the thread beside did not change.
    tick(&browser, "comm", "helper").await;
    let found = browser.js("return rprof.verdict('early')").await;
    assert_ne!(found["significant"], true, "{found}");
    assert!(browser.number("return rprof.whole().base").await > 0.0);
    click_box(&browser, "beside", "flame").await;
    let detail = browser.text("return document.getElementById('detail').innerText").await;
    assert!(detail.contains("keeps no source lines"), "{detail}");
    // Of a process that is on neither side nothing is told, but nothing fails.
    let nobody = "const done = arguments[0]; \
        const asked = performance.getEntriesByType('resource').map((one) => one.name).filter((name) => name.includes('api/diff')).at(-1); \
        const url = new URL(asked); const where = url.searchParams.get('where'); url.searchParams.set('where', 'pid=\"1\"'); \
        fetch(url).then(async (answer) => [where, answer.status, (await answer.json()).remarks.length]).then(done)";
    let nobody = browser.client.execute_async(nobody, Vec::new()).await.unwrap();
    assert_eq!(nobody, serde_json::json!(["comm=\"helper\"", 200, 1]));
}

#[tokio::test]
async fn a_served_range_is_exported() {
    let served = Served::start();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&served.server.url).await;
    browser.press("e").await;
    let sizes = "const done = arguments[0]; Promise.all([...document.querySelectorAll('#dialog a')].map(async (link) => { \
        const answer = await fetch(link.href); const bytes = await answer.arrayBuffer(); \
        return [link.dataset.format, answer.status, bytes.byteLength]; })).then(done)";
    let sizes = browser.client.execute_async(sizes, Vec::new()).await.unwrap();
    let sizes: Vec<(String, u16, usize)> = serde_json::from_value(sizes).unwrap();
    let formats: Vec<&str> = sizes.iter().map(|(format, ..)| &**format).collect();
    assert_eq!(formats, ["pprof", "folded", "svg", "speedscope", "firefox", "html"]);
    assert!(sizes.iter().all(|(_, status, size)| *status == 200 && *size > 500), "{sizes:?}");
    // What the page makes itself has the same sum as what is shown.
    let folded = browser.text("return rprof.folded()").await;
    let sum: f64 = folded.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    close(sum, whole(&browser).await, 0.0);
}

/// The pictures of the documentation: `scripts/screenshots` runs this on a real recording.
#[tokio::test]
#[ignore = "writes pictures into docs/images"]
async fn pictures_for_the_documentation() {
    let store = std::env::var("STORE").expect("STORE is a directory of windows");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    let server = Server::start(Path::new(&store));
    for (shade, name) in [(Shade::Light, "light"), (Shade::Dark, "dark")] {
        let browser = Browser::start(shade).await;
        browser.client.set_window_size(1280, 1000).await.unwrap();
        browser.open(&server.url).await;
        browser.until("the heat map", "return Boolean(rprof.heat())").await;
        let picture = |part: &str| folder.join(format!("page-{part}-{name}.png"));
        brush_time(&browser, 0.1, 0.4).await;
        browser.until("the range", "return rprof.state().selection !== null && rprof.isReady()").await;
        click_box(&browser, "hot::work", "flame").await;
        browser.point(600.0, 700.0).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        std::fs::write(picture("flame"), browser.picture().await).unwrap();
        browser.press(&ESCAPE.to_string()).await;
        browser.press("p").await;
        brush_time(&browser, 0.65, 0.95).await;
        browser.until("the comparison", "return rprof.isReady() && rprof.whole().base > 0").await;
        // Until the toast is gone.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        browser.point(400.0, 700.0).await;
        std::fs::write(picture("diff"), browser.picture().await).unwrap();
    }
}
