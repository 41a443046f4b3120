//! How fluent the page is, in Chromium without a screen and without a graphics card: `scripts/bench/page`.
//!
//! Two cases: one profile of 100,000 distinct functions in one file, and a day of windows, one a minute, behind `rprof serve`.
//! Times are told by the page itself (`performance.now`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/browser/mod.rs"]
mod browser;
#[path = "../tests/store_support/mod.rs"]
mod store_support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use browser::{Browser, Shade};
use rprof::encode::{Format, decode, write_file};
use rprof::profile::{Profile, cpus_comment};
use rprof::store::Writer;
use store_support::{at, name, open, pprof};

const FUNCTIONS: usize = 100_000;
const MINUTES: i64 = 1440;
const STACKS: usize = 4000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    wide(folder.path()).await;
    day(folder.path()).await;
}

/// A profile in which each function is called from one place at least, 8 to 47 deep.
async fn wide(folder: &Path) {
    let file = folder.join("wide.html");
    write_file(&file, Format::by_name("html").unwrap(), &decode(wide_stacks().as_bytes()).unwrap()).unwrap();
    let browser = Browser::start(Shade::Light).await;
    browser.open(&format!("file://{}", file.display())).await;
    let (functions, boxes) =
        (browser.number("return rprof.functions().length").await, browser.number("return rprof.boxes()").await);
    println!(
        "{functions} distinct functions in {boxes} boxes, a file of {} MB",
        std::fs::metadata(&file).unwrap().len() >> 20
    );
    first_paint(&browser).await;
    println!("  filters, tree and sums          {:8.1} ms", browser.number("return rprof.timings().build").await);
    report("  a frame of the first picture", &paints(&browser).await);
    let mut zooms = Vec::new();
    for function in 1..20 {
        let place = browser
            .js(&format!("rprof.forgetTimings(); return rprof.place('app{}::function_{function}')", function % 97))
            .await;
        let Some((x, y)) = place["x"].as_f64().zip(place["y"].as_f64()) else { continue };
        browser.click_at(x, y).await;
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        zooms.extend(paints(&browser).await);
        browser.press(&browser::ESCAPE.to_string()).await;
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    }
    report("  a frame of a zoom", &zooms);
    search(&browser, "function_1.*7$").await;
    browser.js("document.activeElement.blur()").await;
    browser.press("2").await;
    search(&browser, "function_99").await;
}

fn wide_stacks() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let name = |function: usize| format!("app{}::function_{function}", function % 97);
    let (mut text, mut next) = (String::new(), 0);
    while next < FUNCTIONS {
        let mut stack = String::from("main");
        for depth in 0..5_u32 {
            let _ = write!(stack, ";{}", name(random.usize(0..4_usize.pow(depth + 1)) % 2000));
        }
        for function in next..next + random.usize(8..48) {
            let _ = write!(stack, ";{}", name(function % FUNCTIONS));
            let count = (1.0 / (random.f64() + 1e-4)) as u64 + 1;
            let _ = writeln!(text, "{stack} {count}");
        }
        next += stack.matches(';').count() - 5;
    }
    text
}

/// A day of windows: in each minute some hundred stacks out of four thousand, as services have them.
async fn day(folder: &Path) {
    let store = folder.join("day");
    std::fs::create_dir(&store).unwrap();
    let mut writer = open(&store);
    let stacks = day_stacks();
    for minute in 0..MINUTES {
        write_minute(&mut writer, &stacks, minute);
    }
    drop(writer);
    let server = Server::start(&store);
    let browser = Browser::start(Shade::Light).await;
    browser.open(&server.address).await;
    println!("a day of {MINUTES} windows");
    first_paint(&browser).await;
    loads(&browser, "  the last quarter of an hour", "true").await;
    for (what, from, to) in
        [("  brush of half an hour to graph", 0.4, 0.42), ("  brush of six hours to graph", 0.5, 0.75)]
    {
        browser.js("window.before = rprof.timings().loads.length").await;
        browser.brush("#timeline .u-over", (from, 0.5), (to, 0.5)).await;
        loads(&browser, what, "rprof.timings().loads.length > window.before").await;
    }
    browser.js("window.before = rprof.timings().loads.length").await;
    browser.press("x").await;
    loads(&browser, "  the whole day to graph", "rprof.timings().loads.length > window.before").await;
    search(&browser, "step_1.*3").await;
}

fn day_stacks() -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(11);
    let stack = |_| {
        let mut stack = format!("service_{}", random.usize(0..12));
        for depth in 0..random.usize(6..40) {
            let _ = write!(stack, ";work::step_{}", depth * 8 + random.usize(0..2 + depth / 4));
        }
        stack
    };
    (0..STACKS).map(stack).collect()
}

fn write_minute(writer: &mut Writer, stacks: &[String], minute: i64) {
    let mut random = fastrand::Rng::with_seed(u64::try_from(minute).unwrap_or(0));
    let mut text = String::new();
    for _ in 0..300 {
        let _ = writeln!(text, "{} {}", stacks[random.usize(0..STACKS)], random.usize(1..40));
    }
    let mut profile: Profile = decode(text.as_bytes()).unwrap();
    let cpu = profile.value_type("cpu", "nanoseconds");
    profile.sample_types.push(cpu);
    for sample in &mut profile.samples {
        sample.values.push(sample.values[0] * 10_000_000);
    }
    profile.time_nanos = at(minute * 60).0;
    profile.duration_nanos = 60_000_000_000;
    profile.comment(&cpus_comment(2));
    writer.write(&name(minute * 60, minute * 60 + 60), &profile, pprof()).unwrap();
}

async fn first_paint(browser: &Browser) {
    let paint =
        "const paint = performance.getEntriesByName('first-contentful-paint')[0]; return paint ? paint.startTime : 0";
    println!("  first paint                     {:8.1} ms", browser.number(paint).await);
}

async fn loads(browser: &Browser, what: &str, until: &str) {
    browser.until("an answer", &format!("return rprof.timings().loads.length > 0 && {until}")).await;
    println!("{what:<32}  {:8.1} ms", browser.number("return rprof.timings().loads.at(-1)").await);
}

/// Types letter by letter; each costs its search and one frame.
async fn search(browser: &Browser, text: &str) {
    browser.press("/").await;
    let script = format!(
        "const [text, done] = [{text:?}, arguments[0]]; const input = document.getElementById('search'); const costs = []; \
         const next = (at) => {{ if (at > text.length) {{ done(costs); return; }} rprof.forgetTimings(); \
         input.value = text.slice(0, at); const begun = performance.now(); input.dispatchEvent(new Event('input')); \
         const asked = performance.now() - begun; requestAnimationFrame(() => requestAnimationFrame(() => {{ \
         costs.push(asked + rprof.timings().paints.reduce((a, b) => a + b, 0)); next(at + 1); }})); }}; next(1);"
    );
    let costs = browser.client.execute_async(&script, Vec::new()).await.unwrap();
    let view = browser.text("return rprof.state().view").await;
    report(&format!("  a letter of a search ({view})"), &serde_json::from_value::<Vec<f64>>(costs).unwrap());
}

async fn paints(browser: &Browser) -> Vec<f64> {
    serde_json::from_value(browser.js("return rprof.timings().paints").await).unwrap()
}

fn report(what: &str, times: &[f64]) {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let (median, most) = (times.get(times.len() / 2).copied().unwrap_or(0.0), times.last().copied().unwrap_or(0.0));
    println!("{what:<32}  {median:8.1} ms, at most {most:.1} ms ({} times)", times.len());
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(store: &Path) -> Server {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_rprof"));
        serve.arg("serve").arg(store).args(["--listen", "127.0.0.1:0"]);
        let mut process = serve.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let line = BufReader::new(process.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let address = line.rsplit(' ').next().unwrap().to_owned();
        assert!(address.starts_with("http://"), "{line}");
        Server { process, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
