//! Folded stacks and flame graphs: hostile names, round trips, well-formed XML.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "encode_support/mod.rs"]
mod support;

use proptest::prelude::*;
use rprof::encode::{EncodeError, Format, UnknownFormat, WriteOptions, decode};
use rprof::profile::Profile;
use support::*;

fn try_encode(format: &str, profile: &Profile, value: Option<&str>) -> Result<String, EncodeError> {
    let mut bytes = Vec::new();
    let options = WriteOptions { value: value.map(str::to_owned) };
    (Format::by_name(format).unwrap().write)(profile, &options, &mut bytes)?;
    Ok(String::from_utf8(bytes).expect("UTF-8"))
}

fn encode(format: &str, profile: &Profile) -> String {
    try_encode(format, profile, None).unwrap()
}

/// A profile of one sample, its functions root first.
fn one_stack(names: &[String]) -> Profile {
    let mut profile = decode(b"a 1\n").unwrap();
    profile.locations.clear();
    profile.functions.clear();
    profile.samples[0].stack.clear();
    for (id, name) in (0..).zip(names) {
        let name = profile.strings.intern(name);
        profile.functions.push(rprof::profile::Function { name, ..Default::default() });
        let line = rprof::profile::SourceLine { function: rprof::profile::FunctionId(id), line: 0, column: 0 };
        profile.locations.push(rprof::profile::Location { lines: vec![line], ..Default::default() });
        profile.samples[0].stack.insert(0, rprof::profile::LocationId(id));
    }
    profile
}

/// Parses XML strictly enough to see what is an element and what is text: every element closed in order, `<` and `&`
/// only as markup, no character that XML forbids. Returns the elements' names and the texts of all `title` elements.
fn parse_xml(text: &str) -> (Vec<String>, Vec<String>) {
    for c in text.chars() {
        let forbidden = (c < ' ' && !"\t\n\r".contains(c)) || matches!(c, '\u{fffe}' | '\u{ffff}');
        assert!(!forbidden, "{c:?} is no XML");
    }
    let (mut open, mut names, mut titles, mut rest) = (Vec::new(), Vec::new(), Vec::new(), text);
    while let Some(at) = rest.find('<') {
        let before = &rest[..at];
        assert!(is_text(before), "{before}");
        if open.last().is_some_and(|name| name == "title") {
            titles.push(before.to_owned());
        }
        let skip = |close: &str| rest[at..].find(close).map(|end| &rest[at + end + close.len()..]);
        rest = if rest[at..].starts_with("<![CDATA[") {
            skip("]]>").unwrap()
        } else if rest[at..].starts_with("<!--") {
            skip("-->").unwrap()
        } else if rest[at..].starts_with("<?") || rest[at..].starts_with("<!") {
            skip(">").unwrap()
        } else {
            let end = tag_end(&rest[at..]);
            let tag = &rest[at + 1..at + end];
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
            if tag.starts_with('/') {
                assert_eq!(open.pop().as_ref(), Some(&name));
            } else {
                names.push(name.clone());
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
            &rest[at + end + 1..]
        };
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    (names, titles)
}

/// Where a tag ends: at the first `>` outside of quotes.
fn tag_end(tag: &str) -> usize {
    let mut quote = None;
    for (at, c) in tag.char_indices() {
        match (quote, c) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    panic!("a tag is not closed");
}

fn is_text(text: &str) -> bool {
    text.match_indices('&').all(|(at, _)| {
        let entity = text[at + 1..].split(';').next().unwrap();
        ["lt", "gt", "amp", "quot", "apos"].contains(&entity) || entity.starts_with('#')
    })
}

#[test]
fn folded_stacks_are_root_first_with_the_process_and_inlined_functions() {
    let folded = encode("folded", &server_profile());
    let lines: Vec<_> = folded.lines().collect();
    assert_eq!(
        lines,
        [
            "node;LazyCompile:~tick 6",
            "server;/usr/lib/libc.so.6+0x2000;main;lookup(int);hash 40",
            "server;/usr/lib/libc.so.6+0x2000;main;lookup(int);hash;memcpy 25",
            "server;[truncated];[vdso]+0xa00 4",
            "server;main;memcpy;do_syscall_64 10",
            "server;main;recurse;recurse;recurse 15",
        ]
    );
    let weights = try_encode("folded", &server_profile(), Some("cpu")).unwrap();
    assert!(weights.starts_with("node;LazyCompile:~tick 6000000\n"), "{weights}");
    let error = try_encode("folded", &server_profile(), Some("wall")).unwrap_err();
    assert_eq!(error.to_string(), "the profile has no value named \"wall\"; it has samples, cpu");
}

#[test]
fn folded_stacks_are_read_back() {
    let folded = encode("folded", &server_profile());
    let profile = decode(folded.as_bytes()).unwrap();
    profile.check().unwrap();
    assert_eq!(profile.total(0), 100);
    assert_eq!(encode("folded", &profile), folded);
}

#[test]
fn folded_stacks_of_others_are_read() {
    let text =
        "# a comment\n\nperf;main;operator new(unsigned long) 12\r\njava;[unknown];Foo::bar_[j] 2.6\njava;x\t7\n";
    let profile = decode(text.as_bytes()).unwrap();
    let values: Vec<_> = profile.samples.iter().map(|sample| sample.values[0]).collect();
    assert_eq!(values, [12, 3, 7]);
    let leaf = profile.frames(&profile.samples[0]).next().unwrap();
    assert_eq!(leaf.name, "operator new(unsigned long)");
    let error = decode(b"main;a 5\nmain;b many\n").unwrap_err().to_string();
    assert_eq!(error, "line 2 is not a stack and a count: \"main;b many\"");
    assert!(decode(b"just some text\n").is_err());
}

#[test]
fn no_sample_is_left_out_for_want_of_frames() {
    let mut profile = server_profile();
    profile.samples[0].stack.clear();
    profile.samples[0].labels.clear();
    let folded = encode("folded", &profile);
    assert!(folded.starts_with("[no stack] 40\n"), "{folded}");
    assert!(encode("flamegraph", &profile).contains("all (100 ms, 100%)"));
}

#[test]
fn names_cannot_forge_frames_lines_or_counts() {
    let profile = one_stack(&["a;b\nc 9".into(), "worker 3".into()]);
    assert_eq!(encode("folded", &profile), "a:b?c 9;worker_3 1\n");
    assert_eq!(encode("folded", &one_stack(&["# x".into(), " ".into()])), "#_x;[unknown] 1\n");
}

#[test]
fn a_flame_graph_tells_what_it_shows() {
    let svg = encode("flamegraph", &server_profile());
    let (_, titles) = parse_xml(&svg);
    assert!(svg.contains("server --port 80 · 10.0 s · 100 samples · lost 6.54 % · incomplete stacks 4.0 %"));
    for title in
        ["all (100 ms, 100%)", "server (94 ms, 94.00%)", "hash (65 ms, 65.00%)", "do_syscall_64 (10 ms, 10.00%)"]
    {
        assert!(titles.iter().any(|found| found == title), "{title} in {titles:?}");
    }
    let samples = try_encode("flamegraph", &server_profile(), Some("samples")).unwrap();
    assert!(samples.contains("all (100 samples, 100%)"));
    assert_eq!(svg, encode("flamegraph", &server_profile()), "the same colours each time");
}

#[test]
fn a_function_is_not_torn_by_a_sibling_whose_name_begins_alike() {
    let profile = decode(b"main;copy 5\nmain;copy.cold 1\nmain;copy;alloc 3\n").unwrap();
    let (_, titles) = parse_xml(&encode("flamegraph", &profile));
    assert!(titles.iter().any(|title| title == "copy (8 samples, 88.89%)"), "{titles:?}");
}

#[test]
fn values_of_any_size_can_be_drawn() {
    let mut profile = server_profile();
    profile.samples[0].values = vec![i64::MAX, i64::MAX];
    profile.samples[1].values = vec![i64::MAX, i64::MAX];
    profile.samples[2].values = vec![-5, -5];
    parse_xml(&encode("flamegraph", &profile));
    profile.samples.clear();
    assert_eq!(try_encode("flamegraph", &profile, None).unwrap_err().to_string(), "no samples to draw");
}

const HOSTILE: &[&str] = &[
    "<script>alert(1)</script>",
    "</title></g><script>x</script>",
    "\"onload=\"alert(1)",
    "' onclick='x",
    "]]><b>",
    "a\u{0}b\u{1b}[2J\u{7f}\u{fffe}\u{ffff}",
    "&lt;&bogus;&",
    "<!--",
    "-->",
    "x_[k]",
    "--",
    "operator<< <char>",
    "名前 ünïcode 🔥",
    "1 2 3",
    "",
];

#[test]
fn hostile_names_stay_text() {
    for name in HOSTILE {
        let mut profile = one_stack(&[(*name).to_owned(), format!("{name}{name}")]);
        profile.comment(&format!("command: {name}"));
        let (names, titles) = parse_xml(&encode("flamegraph", &profile));
        let scripts = names.iter().filter(|name| *name == "script").count();
        assert_eq!(scripts, 1, "only the drawing's own: {name}");
        assert_eq!(titles.len(), 3, "all, and the two: {name} {titles:?}");
        assert!(!names.contains(&"b".to_owned()));
    }
}

#[test]
fn formats_are_chosen_by_ending_or_name() {
    let of = |path: &str| Format::for_path(path.as_ref()).map(|format| format.name);
    assert_eq!(of("/tmp/cpu.pb.gz"), Ok("pprof"));
    assert_eq!(of("x.PPROF"), Ok("pprof"));
    assert_eq!(of("a.b.svg"), Ok("flamegraph"));
    assert_eq!(of("out.folded"), Ok("folded"));
    let error = of("out.zip").unwrap_err().to_string();
    assert!(error.contains("\"out.zip\"") && error.contains(".pb.gz") && error.contains(".svg"), "{error}");
    assert!(of("svg").is_err(), "a name without a dot has no ending");
    assert_eq!(Format::by_name("SVG").map(|format| format.name).ok(), Some("flamegraph"));
    let error = Format::by_name("flamgraph").err().unwrap();
    assert!(matches!(&error, UnknownFormat::Name { near, .. } if near == &["flamegraph"]), "{error}");
    assert_eq!(
        Format::by_name("zzz").err().unwrap().to_string(),
        "there is no format \"zzz\"; there are pprof, folded, flamegraph, speedscope, firefox, html"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_names_round_trip_once_they_are_safe(names in prop::collection::vec(any::<String>(), 1..6)) {
        let folded = encode("folded", &one_stack(&names));
        prop_assert_eq!(folded.lines().count(), 1);
        let again = decode(folded.as_bytes()).unwrap();
        prop_assert_eq!(again.samples[0].stack.len(), names.len());
        prop_assert_eq!(encode("folded", &again), folded);
    }

    #[test]
    fn any_names_make_well_formed_svg(names in prop::collection::vec(any::<String>(), 1..6)) {
        let (elements, titles) = parse_xml(&encode("flamegraph", &one_stack(&names)));
        prop_assert_eq!(elements.iter().filter(|name| *name == "script").count(), 1);
        prop_assert_eq!(titles.len(), names.len() + 1);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = decode(text.as_bytes());
    }
}
