//! The server's own API, asked by a client of bytes, by `go tool pprof`, and by those who must not be answered.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "web_support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::read::GzDecoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rprof::encode::{Format, decode, write_file};
use rprof::health::Count;
use rprof::profile::{KindQuality, build};
use rprof::session::status::{STATUS, Status};
use rprof::store::{Mode, WindowName, Writer};
use serde_json::Value;
use support::encode_support;
use support::{SECOND, START, TIME, TOTAL, directory, exchange, processes, serve, timed, versioned, window, write};

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn sum(values: &Value) -> i64 {
    values.as_array().unwrap().iter().map(number).sum()
}

#[test]
fn every_way_to_ask_gives_the_same_total() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let info = server.json("/api/info");
    assert_eq!(info["kinds"], serde_json::json!([{ "name": "cpu", "unit": "nanoseconds" }]));
    assert_eq!((number(&info["windows"]), &info["hosts"]), (9, &serde_json::json!(["here"])));
    assert_eq!(number(&info["to_nanos"]), (START + 600) * SECOND);

    let profile = server.json(&format!("/api/profile?{TIME}"));
    assert_eq!((number(&profile["total"]), sum(&profile["samples"]["value"])), (TOTAL, TOTAL));
    assert_eq!(number(&profile["covered_nanos"]), 540 * SECOND);
    assert_eq!(profile["quality"]["gaps"], serde_json::json!([[(START + 300) * SECOND, (START + 360) * SECOND]]));
    let worker = server.json(&format!("/api/profile?{TIME}&where=comm%3D~%22worker.*%22"));
    assert_eq!(number(&worker["total"]), TOTAL / 100 * 29);

    let series = server.json(&format!("/api/series?{TIME}&by=process&step=1m"));
    let lines = series["series"].as_array().unwrap();
    let values = lines.iter().flat_map(|line| line["values"].as_array().unwrap());
    assert_eq!(values.map(|value| value.as_f64().unwrap()).sum::<f64>().round() as i64, TOTAL);

    let pprof = server.get(&format!("/profile?{TIME}"));
    assert_eq!(decode(&pprof.body).unwrap().total(1), TOTAL.into());
    let folded = server.get(&format!("/export?{TIME}&format=folded")).text();
    let counts = folded.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap());
    let said = Command::new(env!("CARGO_BIN_EXE_rprof"))
        .args(["query", "--json", "--from", "@1795305600", "--width", "10m"])
        .arg(folder.path())
        .output()
        .unwrap();
    let query: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((number(&query["total"]), counts.sum::<i64>()), (TOTAL, TOTAL));
}

#[test]
fn pprof_reads_the_address() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let home = tempfile::tempdir().unwrap();
    for (options, total) in [("", "4900ms"), ("&where=comm%3Dnode", "294ms")] {
        let url = format!("http://{}/profile?{TIME}{options}", server.address);
        let mut pprof = Command::new("go");
        pprof.args(["tool", "pprof", "-symbolize=none", "-top", "-unit=ms", &url]).env("PPROF_TMPDIR", home.path());
        let output = pprof.output().expect("go tool pprof; see scripts/install-test-tools");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("of {total} total")), "{text}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn samples_with_times_make_a_heat_map_and_are_cut_exactly() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &timed(0));
    write(folder.path(), 1, &window(1, 1));
    let server = serve(folder.path(), &[]);
    let map = server.json("/api/heatmap?from=@1795305600&width=2m");
    let shape = ["rows", "columns", "row_nanos", "column_nanos", "timed_windows", "untimed_windows"];
    assert_eq!(shape.map(|field| number(&map[field])), [50, 120, 20_000_000, SECOND, 1, 1]);
    let values: Vec<i64> = timed(0).samples.iter().map(|sample| sample.values[1]).collect();
    let cells = map["cells"].as_array().unwrap();
    for (second, value) in values.iter().enumerate() {
        assert_eq!(number(&cells[second * 10 * 50]), *value, "second {second}0");
    }
    assert_eq!(sum(&map["cells"]), values.iter().sum::<i64>());
    let cut = server.json("/api/profile?from=@1795305610&width=20s");
    assert_eq!(number(&cut["total"]), values[1] + values[2]);
}

#[test]
fn two_times_are_compared() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let target = "/api/diff?base_from=@1795305600&base_width=4m&from=@1795305960&width=4m&normalize=samples";
    let diff = server.json(target);
    assert_eq!(number(&diff["base"]["total"]), (1 + 2 + 3 + 4) * 100_000_000);
    assert_eq!(sum(&diff["samples"]["base"]), (1 + 2 + 3 + 4) * 100_000_000);
    assert_eq!(sum(&diff["samples"]["value"]), (7 + 8 + 9 + 10) * 100_000_000);
    assert!(!diff["changes"]["function"].as_array().unwrap().is_empty());
    let wrong = server.get(&target.replace("samples", "wishes"));
    assert_eq!((wrong.status, wrong.json()["error"].as_str().unwrap().contains("cpus, share or samples")), (400, true));
}

#[test]
fn every_format_can_be_taken_away() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    for (format, kind, beginning) in [
        ("pprof", "application/octet-stream", &b"\x1f\x8b"[..]),
        ("folded", "text/plain; charset=utf-8", b""),
        ("svg", "image/svg+xml", b"<?xml"),
        ("speedscope", "application/json", b"{"),
        ("firefox", "application/json", b"{"),
        ("html", "text/html; charset=utf-8", b"<!DOCTYPE html>"),
    ] {
        let answer = server.get(&format!("/export?{TIME}&format={format}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{format}");
        assert!(answer.body.starts_with(beginning) && !answer.body.is_empty(), "{format}: {}", answer.text());
        let name = answer.header("content-disposition").unwrap();
        assert!(name.starts_with("attachment; filename=\"rprof-cpu-1795305600."), "{name}");
    }
    let zipped = server.ask("GET", &format!("/export?{TIME}&format=folded"), &["Accept-Encoding: gzip"], &[]);
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert!(zipped.body.starts_with(b"\x1f\x8b"));
}

#[test]
fn what_is_recorded_meanwhile_is_another_answer() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    let target = format!("/api/profile?{TIME}");
    let first = server.get(&target);
    let tag = format!("If-None-Match: {}", first.header("etag").unwrap());
    let same = server.ask("GET", &target, &[&tag], &[]);
    assert_eq!((same.status, same.body.len()), (304, 0));
    write(folder.path(), 5, &window(5, 6));
    let then = server.ask("GET", &target, &[&tag], &[]);
    assert_eq!((then.status, number(&then.json()["total"])), (200, TOTAL + 600_000_000));
}

#[test]
fn one_file_is_a_store_too() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["pb.gz", "folded"] {
        let file = folder.path().join(format!("one.{ending}"));
        write_file(&file, Format::for_path(&file).unwrap(), &window(0, 1)).unwrap();
        let server = serve(&file, &[]);
        let info = server.json("/api/info");
        assert_eq!(info["is_file"], true, "{info}");
        let profile = server.json("/api/profile");
        assert_eq!(sum(&profile["samples"]["value"]), number(&profile["total"]));
        assert!(number(&profile["total"]) > 0);
    }
}

#[test]
fn series_by_a_label_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("labelled.pb.gz");
    let mut labelled = window(0, 1);
    labelled.add_labels(&[("version".to_owned(), "v1".to_owned())]);
    write_file(&file, Format::for_path(&file).unwrap(), &labelled).unwrap();
    let server = serve(&file, &[]);
    let total = number(&server.json("/api/profile")["total"]) as f64;
    let value = |series: &Value, name: &str| -> f64 {
        let line = series["series"].as_array().unwrap().iter().find(|line| line["name"] == name);
        line.map_or(0.0, |line| line["values"].as_array().unwrap().iter().map(|at| at.as_f64().unwrap()).sum())
    };
    let series = server.json("/api/series?by=version");
    assert!((value(&series, "v1") - total).abs() < 1.0, "{series}");
    let none = server.json("/api/series?by=version&where=version%21%3D%22v1%22");
    assert_eq!(none["series"], serde_json::json!([]));
    // All samples have it, so that processes can be told too.
    let worker = server.json("/api/series?by=version&where=process%3Dnode");
    assert!((value(&worker, "v1") - total * 0.06).abs() < 1.0, "{worker}");
    let worker = server.json("/api/series?by=process&where=version%3Dv1,process%3Dnode");
    assert!((value(&worker, "node") - total * 0.06).abs() < 1.0, "{worker}");
    assert_eq!(server.json("/api/series?by=process&where=version%3Dv2")["series"], serde_json::json!([]));
}

#[test]
fn a_label_that_differs_within_a_window_is_told_alone() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &versioned(0, &["v1", "v2"]));
    let server = serve(folder.path(), &[]);
    let target = "/api/series?from=@1795305600&width=1m&step=1m&by=";
    let of = |by: &str, selector: &str| {
        let series = server.json(&format!("{target}{by}&where={selector}"));
        let line = |line: &Value| (line["name"].as_str().unwrap().to_owned(), line["values"][0].as_f64().unwrap());
        series["series"].as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    let profile = server.json("/api/profile?from=@1795305600&width=1m&where=version%3Dv1");
    let first = number(&profile["total"]) as f64;
    assert_eq!(of("", "version%3Dv1"), [(String::new(), first)]);
    let both = of("version", "");
    assert!(both.len() == 2 && both.contains(&("v1".to_owned(), first)), "{both:?}");
    for target in [format!("{target}process&where=version%3Dv1"), format!("{target}version&where=process%3Dnode")] {
        let refused = server.get(&target);
        assert!(refused.status == 400 && refused.text().contains("not version"), "{target}: {}", refused.text());
    }
}

#[test]
fn a_series_has_a_bounded_number_of_values() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &processes(50));
    let question = "/api/series?by=pid&from=@1795305600&width=99000s&step=1s";
    let server = serve(folder.path(), &[]);
    let refused = server.get(question);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.json()["error"].as_str().unwrap().contains("ask for a larger step"), "{}", refused.text());
    assert_eq!(server.get(&question.replace("step=1s", "step=10m")).status, 200);

    // What is allowed is neither copied nor held inflated.
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 0, &processes(20));
    let server = serve(folder.path(), &[]);
    let answer = server.get(question);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
    assert!(answer.body.len() > 20 << 20 && answer.body.ends_with(b"}"), "{} bytes", answer.body.len());
    assert!(server.peak_kilobytes() < 150 << 10, "{} KB", server.peak_kilobytes());
}

#[test]
fn what_takes_too_long_is_told_so() {
    let folder = directory();
    let server = serve(folder.path(), &["--timeout", "1ns"]);
    for target in [format!("/api/profile?{TIME}"), format!("/api/series?{TIME}&by=process"), format!("/profile?{TIME}")]
    {
        let late = server.get(&target);
        assert_eq!((late.status, late.header("retry-after")), (503, Some("5")), "{target}: {}", late.text());
        assert!(late.text().contains("takes longer than it may; ask for less time"), "{target}: {}", late.text());
    }
    assert_eq!(server.get("/api/info").status, 200);
}

#[test]
fn who_takes_no_gzip_gets_the_same() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    for target in [format!("/export?{TIME}&format=html"), format!("/api/series?{TIME}&by=pid&step=1s")] {
        let plain = server.get(&target);
        let zipped = server.ask("GET", &target, &["Accept-Encoding: gzip"], &[]);
        assert_eq!((plain.header("content-encoding"), zipped.header("content-encoding")), (None, Some("gzip")));
        let mut inflated = Vec::new();
        GzDecoder::new(&*zipped.body).read_to_end(&mut inflated).unwrap();
        assert!(inflated == plain.body, "{target}: {} and {} bytes", inflated.len(), plain.body.len());
        assert_eq!(plain.header("content-length"), Some(&*plain.body.len().to_string()), "{target}");
    }
}

#[test]
fn a_recording_of_perf_is_a_store_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("perf.data");
    let recorded = Command::new(env!("CARGO_BIN_EXE_rprof"))
        .args(["record", "--quiet", "-F", "999", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"])
        .output()
        .unwrap();
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    assert!(std::fs::read(&file).unwrap().starts_with(b"PERFILE2"));
    let server = serve(&file, &[]);
    let profile = server.json("/api/profile");
    assert!(number(&profile["total"]) > 0, "{profile}");
    let series = server.json("/api/series?step=100ms");
    let values: Vec<f64> =
        series["series"][0]["values"].as_array().unwrap().iter().map(|at| at.as_f64().unwrap()).collect();
    assert!((values.iter().sum::<f64>() - number(&profile["total"]) as f64).abs() < 1.0, "{values:?}");
    let map = server.json("/api/heatmap");
    assert_eq!((number(&map["timed_windows"]), sum(&map["cells"])), (1, number(&profile["total"])));
}

#[test]
fn questions_that_mean_nothing_are_told_why() {
    let folder = directory();
    let server = serve(folder.path(), &[]);
    for (target, status, said) in [
        ("/api/profile?form=now-1h", 400, "there is no parameter \"form\"; there are from, to"),
        ("/api/profile?from=now-1h&from=now-2h", 400, "stands twice"),
        ("/api/profile?from=soon", 400, "\"soon\" is no time"),
        ("/api/profile?from=@1795305600&to=@1795305600", 400, "is empty"),
        ("/api/profile?from=@0&width=2000w", 400, "400 days at most"),
        ("/api/profile?from=@1795305600&width=10m&where=comm", 400, "one of = != =~ !~ is missing"),
        ("/api/profile?from=@1795305600&width=10m&kind=wishes", 404, "there are cpu"),
        ("/api/profile?from=@0&width=1h", 404, "no window"),
        ("/api/series?from=@1795305600&width=10m&by=mood", 400, "not by \"mood\""),
        ("/api/series?from=@1795305600&width=10m&where=tid%3D1", 400, "not tid"),
        ("/api/series?from=@1795305600&width=10m&step=1us", 400, "make it longer"),
        ("/export?format=doc", 400, "there is no format \"doc\""),
        ("/api/nothing", 404, "there is no /api/nothing"),
    ] {
        let answer = server.get(target);
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == status && error.contains(said), "{target}: {} {error}", answer.status);
    }
    let long = format!("/api/profile?{TIME}&where=comm%3D{}", "x".repeat(5000));
    assert!(server.get(&long).json()["error"].as_str().unwrap().contains("at most 4096 bytes"));
    assert_eq!(server.ask("DELETE", "/api/info", &[], &[]).status, 405);
    assert_eq!(
        server
            .ask(
                "POST",
                "/querier.v1.QuerierService/Series",
                &["Content-Type: application/json"],
                &vec![b' '; 300 << 10]
            )
            .status,
        413
    );
}

#[test]
fn strangers_are_refused() {
    let folder = directory();
    let token = folder.path().join("token");
    let server = serve(folder.path(), &["--token", token.to_str().unwrap(), "--host", "profiles.example"]);
    let secret = std::fs::read_to_string(&token).unwrap();
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let known = format!("Authorization: Bearer {}", secret.trim());
    let status = |target: &str, headers: &[&str]| server.ask("GET", target, headers, &[]).status;
    assert_eq!(status("/api/info", &[&known]), 200);
    assert_eq!(status("/api/info", &[&known, "Host: profiles.example"]), 200);
    assert_eq!(status("/api/info", &[]), 401);
    assert_eq!(status("/api/info", &["Authorization: Bearer wrong"]), 401);
    assert_eq!(status("/pyroscope/render?query=x", &[]), 401);
    assert_eq!(status("/api/info", &[&known, "Host: rebound.example"]), 421);
    assert_eq!(status("/api/info", &[&known, "Origin: http://evil.example"]), 403);
    assert_eq!(status("/api/info", &[&known, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"]), 403);
    for climbing in ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/vendor/..%2f..%2fetc/passwd", "/..\\etc"] {
        assert_eq!(status(climbing, &[&known]), 400, "{climbing}");
    }
    assert_eq!(status("//etc/passwd", &[&known]), 404);
    // The page that asks for the token is open, and holds nothing.
    let door = server.get("/");
    assert!(door.status == 200 && door.text().contains("door.js") && !door.text().contains("id=\"app\""));
    let session = server.ask("POST", "/api/session", &[&known], &[]);
    let cookie = session.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(secret.trim()),
        "{cookie}"
    );
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    assert_eq!(status("/api/info", &[&cookie]), 200);
    assert!(server.ask("GET", "/", &[&cookie], &[]).text().contains("main.js"));
    assert_eq!(server.ask("POST", "/api/session", &[], &[]).status, 401);
}

#[test]
fn a_browser_is_told_to_make_nothing_else_of_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut profile = window(0, 1);
    let name = profile.strings.intern("</script><script>alert(1)</script>");
    profile.functions[0].name = name;
    write(folder.path(), 0, &profile);
    let server = serve(folder.path(), &[]);
    for target in [
        "/",
        "/main.js",
        "/api/profile?from=@1795305600&width=1m",
        "/export?format=svg&from=@1795305600&width=1m",
        "/nowhere",
    ] {
        let answer = server.get(target);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(answer.header("cache-control").is_some() && answer.header("access-control-allow-origin").is_none());
        assert!(!answer.text().contains("<script>alert"), "{target}");
    }
}

#[test]
fn beyond_loopback_there_must_be_a_token() {
    let folder = directory();
    let run = |options: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_rprof")).arg("serve").arg(folder.path()).args(options).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said) = run(&["--listen", "0.0.0.0:0"]);
    assert!(status == Some(129) && said.contains("add --token FILE"), "{said}");
    let server = serve(folder.path(), &[]);
    let (status, said) = run(&["--listen", &server.address]);
    assert!(status == Some(255) && said.contains("another program has it: name another with --listen"), "{said}");
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
    let (status, said) = run(&["--token", token.to_str().unwrap()]);
    assert!(status == Some(255) && said.contains("chmod 600"), "{said}");
    let (status, said) = run(&["--cache", "much"]);
    assert!(status == Some(129) && said.contains("is no size"), "{said}");
}

#[test]
fn a_socket_is_its_owners_and_goes_with_the_server() {
    let folder = directory();
    let socket = folder.path().join("rprof.sock");
    // One that a killed server left.
    drop(UnixListener::bind(&socket).unwrap());
    let spawn = || {
        let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
        rprof.arg("serve").arg(folder.path()).arg("--unix").arg(&socket).stdout(Stdio::piped()).stderr(Stdio::piped());
        rprof.spawn().unwrap()
    };
    let mut server = spawn();
    let mut said = [0; 8];
    server.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = exchange(UnixStream::connect(&socket).unwrap(), "GET", "/api/info", &[], &[], "localhost");
    assert_eq!(answer.status, 200);
    let second = spawn().wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(255), "{}", String::from_utf8_lossy(&second.stderr));
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(!Path::new(&socket).exists());
}

#[test]
fn fifty_clients_and_slow_ones_keep_no_one_from_an_answer() {
    let folder = directory();
    let mut server = serve(folder.path(), &[]);
    // Some never end their question, some never take their answer.
    let mut slow = Vec::new();
    for at in 0..30 {
        let mut stream = server.connect();
        let question = match at % 3 {
            0 => "GET /api/prof".to_owned(),
            1 => format!(
                "POST /querier.v1.QuerierService/Series HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\n{{",
                server.address
            ),
            _ => format!("GET /export?{TIME}&format=html HTTP/1.1\r\nHost: {}\r\n\r\n", server.address),
        };
        stream.write_all(question.as_bytes()).unwrap();
        slow.push(stream);
    }
    let server_ref = &server;
    std::thread::scope(|scope| {
        let clients = (0..50).map(|client| {
            scope.spawn(move || {
                for round in 0..4 {
                    // Half of them ask the same, the others each something else.
                    let width = if client % 2 == 0 { 600 } else { 60 + client * 10 + round };
                    let profile = server_ref.json(&format!("/api/profile?from=@1795305600&width={width}s"));
                    assert!(number(&profile["total"]) > 0);
                }
            })
        });
        clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    });
    assert!(server.peak_kilobytes() < 300 << 10, "{} KB", server.peak_kilobytes());
    // Whoever does not end the question is told so, or loses the connection.
    let mut left = Vec::new();
    slow[0].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let ended = slow[0].read_to_end(&mut left);
    assert!(
        ended.is_ok() || ended.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock),
        "{ended:?}"
    );
    kill(Pid::from_raw(server.child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

/// What is known of the windows of a kind: samples, how many of them in stacks with an unnamed frame, and samples that were lost.
#[derive(Clone, Copy)]
struct Counted {
    samples: u64,
    unnamed: u64,
    lost: u64,
}

impl Counted {
    fn lost(self) -> String {
        format!("{:.2} %", 100.0 * self.lost as f64 / (self.lost + self.samples) as f64)
    }

    /// Expects the numbers in a JSON object, whose reader rounds the last bit of a fraction.
    fn expect(self, object: &Value) {
        let share = self.lost as f64 / (self.lost + self.samples) as f64;
        let told = object["lost_share"].as_f64().unwrap();
        assert!(object["lost"] == self.lost && (told - share).abs() < 1e-12, "{object}: {} {share}", self.lost);
    }

    fn unnamed(self) -> String {
        format!("{:.1} %", 100.0 * self.unnamed as f64 / self.samples as f64)
    }
}

/// Minutes of two kinds that were recorded together: the CPU loses little, and times away from it much.
fn two_kinds(folder: &Path) -> Vec<(&'static str, Vec<Counted>)> {
    let minutes = [(7, 43), (0, 900), (31, 5)];
    let mut writer = Writer::open(folder, rprof::store::Source::Recorder).unwrap();
    let mut told = vec![("cpu", Vec::new()), ("off_cpu", Vec::new())];
    for (minute, (cpu, off_cpu)) in (0..).zip(minutes) {
        let mut window = encode_support::server_window();
        window.events[0].loss.lost = cpu;
        let mut waiting = encode_support::cpu_clock();
        (waiting.name, waiting.value_name) = ("sched:sched_switch".into(), "off_cpu".into());
        (waiting.frequency, waiting.loss.lost) = (0, off_cpu);
        window.events.push(waiting);
        let (main, nowhere) = (encode_support::at(1, 0x1100), encode_support::at(0, 0x9000));
        let named = encode_support::push(&mut window, &[main]);
        let unnamed = encode_support::push(&mut window, &[main, nowhere]);
        encode_support::count(&mut window, 1, 0, named, 30);
        encode_support::count(&mut window, 1, 0, unnamed, 10);
        window.health.add(Count::RecordsLost, cpu + off_cpu);
        window.health.add(Count::Samples, 40);
        for window in window.split() {
            let name = WindowName { kind: window.events[0].value_name.clone(), ..support::name(minute) };
            let mut profile = build(window, &mut encode_support::FakeNamer::default(), &mut |_, _| {});
            (profile.time_nanos, profile.duration_nanos) = ((START + minute * 60) * SECOND, 60 * SECOND);
            writer.write(&name, &profile, Format::by_name("pprof").unwrap()).unwrap();
        }
        told[0].1.push(Counted { samples: 100, unnamed: 69, lost: cpu });
        told[1].1.push(Counted { samples: 40, unnamed: 10, lost: off_cpu });
    }
    told
}

fn rprof(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rprof")).args(arguments).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Asks every view for the quality of the windows of a kind from a minute on, and expects these digits of each.
fn expect_digits(folder: &Path, server: &support::Server, kind: &str, minutes: std::ops::Range<i64>, known: Counted) {
    let (path, from) = (folder.to_str().unwrap(), format!("@{}", START + minutes.start * 60));
    let to = format!("@{}", START + minutes.end * 60);
    let asked = ["--kind", kind, "--from", &from, "--to", &to];
    let table = rprof(&[&["query", path][..], &asked].concat());
    assert!(table.contains(&format!("; {} lost\n", known.lost())), "{table}");
    assert!(table.contains(&format!(", {} in stacks with an unnamed frame", known.unnamed())), "{table}");
    let json: Value = serde_json::from_str(&rprof(&[&["query", path, "--json"][..], &asked].concat())).unwrap();
    known.expect(&json);

    let target = format!("/api/profile?from={from}&to={to}&kind={kind}");
    let quality = server.json(&target)["quality"].clone();
    known.expect(&quality);
    assert_eq!(
        (&quality["told"]["lost"], &quality["told"]["unnamed"]),
        (&known.lost().into(), &known.unnamed().into())
    );
    // A selection leaves samples out, and not what is known of the windows.
    let selected = server.json(&format!("{target}&where=comm=server"))["quality"]["told"].clone();
    assert_eq!(selected, quality["told"]);

    let sum = folder.join("sum.pb.gz");
    std::fs::write(&sum, server.get(&format!("/profile?from={from}&to={to}&kind={kind}")).body).unwrap();
    let report = rprof(&["report", sum.to_str().unwrap()]);
    assert!(report.contains(&format!("lost {} ({})", known.lost, known.lost())), "{report}");
    assert!(report.contains(&format!(", {} in stacks with an unnamed frame", known.unnamed())), "{report}");
    let svg = server.get(&format!("/export?from={from}&to={to}&kind={kind}&format=flamegraph")).text();
    assert!(svg.contains(&format!("lost {}", known.lost())), "{svg}");
    std::fs::remove_file(sum).unwrap();
}

/// Asks `ls` and `report` for each file of a kind.
fn expect_digits_of_files(folder: &Path, kind: &str, known: &[Counted]) {
    let path = folder.to_str().unwrap();
    let rows: Vec<Value> = serde_json::from_str(&rprof(&["ls", path, "--json"])).unwrap();
    let rows: Vec<&Value> = rows.iter().filter(|row| row["kind"] == kind).collect();
    let long = rprof(&["ls", path, "--long"]);
    assert_eq!(rows.len(), known.len());
    for (row, known) in rows.into_iter().zip(known) {
        let file = folder.join(row["path"].as_str().unwrap());
        known.expect(row);
        let line = long.lines().find(|line| line.contains(row["path"].as_str().unwrap())).unwrap();
        assert!(line.contains(&format!(" {} ({})", known.lost, known.lost())), "{line}");
        let report = rprof(&["report", file.to_str().unwrap()]);
        assert!(report.contains(&format!("lost {} ({})", known.lost, known.lost())), "{report}");
    }
}

fn write_status(folder: &Path, kinds: &[(&str, Counted)]) {
    let mut status = Status::new("rprof record -a --continuous", 19.0, None);
    for (kind, known) in kinds {
        let counted = KindQuality { samples: known.samples, lost: known.lost, ..KindQuality::default() };
        status.counted.add(kind, &counted);
    }
    status.write(&folder.join(STATUS), Mode::default()).unwrap();
}

#[test]
fn every_view_tells_the_same_quality() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = two_kinds(folder.path());
    let sum = |known: &[Counted]| {
        let sum = |of: fn(&Counted) -> u64| known.iter().map(of).sum();
        Counted { samples: sum(|one| one.samples), unnamed: sum(|one| one.unnamed), lost: sum(|one| one.lost) }
    };
    {
        let server = serve(folder.path(), &[]);
        for (kind, known) in &kinds {
            for (minute, &known) in (0..).zip(known) {
                expect_digits(folder.path(), &server, kind, minute..minute + 1, known);
            }
            expect_digits(folder.path(), &server, kind, 0..3, sum(known));
            expect_digits_of_files(folder.path(), kind, known);
        }
    }
    rprof(&["compact", folder.path().to_str().unwrap(), "--five-minutes-after", "1s"]);
    let server = serve(folder.path(), &[]);
    for (kind, known) in &kinds {
        expect_digits(folder.path(), &server, kind, 0..5, sum(known));
        expect_digits_of_files(folder.path(), kind, &[sum(known)]);
    }
    let all: Vec<(&str, Counted)> = kinds.iter().map(|(kind, known)| (*kind, sum(known))).collect();
    write_status(folder.path(), &all);
    let status = Command::new(env!("CARGO_BIN_EXE_rprof")).arg("status").arg(folder.path()).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    for (kind, known) in all {
        assert!(status.contains(&format!("{} ({}) of {kind}", known.lost, known.lost())), "{status}");
    }
}
