//! Something to profile: a small service that parses, indexes, searches, computes and solves on threads of their own, for about
//! five seconds of CPU time (or as many as its argument says).
//!
//! It needs nothing but the standard library, so that this builds it in seconds, with the lines and inlined functions of its code:
//!
//! ```sh
//! rustc --edition 2024 -O -g examples/hot.rs
//! ```

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hint::black_box;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

/// A piece of work of some milliseconds, varied by a number.
type Turn = fn(u64) -> u64;

fn main() -> std::io::Result<()> {
    let seconds: f64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(5.0);
    // A thread's name, what it does again and again, and its share of the CPU time.
    let jobs: [(&str, Turn, f64); 5] = [
        ("ingest", ingest::turn, 0.28),
        ("index", index::turn, 0.24),
        ("search", search::turn, 0.20),
        ("matrix", matrix::turn, 0.14),
        ("solver", solver::turn, 0.14),
    ];
    let mut threads = Vec::new();
    for (name, turn, share) in jobs {
        let limit = Duration::from_secs_f64(seconds * share);
        threads.push(thread::Builder::new().name(name.to_owned()).spawn(move || work(turn, limit))?);
    }
    let sums: Vec<u64> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
    writeln!(std::io::stdout(), "{} threads worked for {seconds} s of CPU time", sums.len())
}

/// Repeats a turn until the calling thread has used up its CPU time.
fn work(turn: Turn, limit: Duration) -> u64 {
    let start = Instant::now();
    let mut sum = 0u64;
    for number in 0.. {
        if cpu_time().unwrap_or_else(|| start.elapsed()) >= limit {
            break;
        }
        sum = sum.wrapping_add(black_box(turn(number)));
    }
    sum
}

/// The CPU time of the calling thread: the first of the scheduler's three numbers.
fn cpu_time() -> Option<Duration> {
    let numbers = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    numbers.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// A generator of numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const WORDS: [&str; 12] = [
    "checkout", "payment", "timeout", "user", "session", "cache", "miss", "retry", "error", "latency", "queue",
    "commit",
];

fn sentence(random: &mut Random, words: u64) -> String {
    let chosen: Vec<&str> = (0..words).map(|_| WORDS[random.below(WORDS.len() as u64) as usize]).collect();
    chosen.join(" ")
}

/// Writes JSON and reads it back by recursive descent.
mod ingest {
    use super::{Random, sentence};

    enum Value {
        Number(f64),
        Text(String),
        List(Vec<Value>),
        Object(Vec<(String, Value)>),
    }

    pub(super) fn turn(seed: u64) -> u64 {
        let text = write_document(&mut Random(seed * 2 + 1), 3);
        let mut parser = Parser { text: text.as_bytes(), at: 0 };
        parser.value().map_or(0, |value| weigh(&value))
    }

    fn write_document(random: &mut Random, depth: u64) -> String {
        if depth == 0 {
            return format!("{{\"message\":\"{}\",\"ms\":{}.25}}", sentence(random, 6), random.below(1000));
        }
        let mut children = Vec::new();
        for _ in 0..6 {
            children.push(write_document(random, depth - 1));
        }
        format!("{{\"service\":\"api-{}\",\"spans\":[{}]}}", random.below(50), children.join(","))
    }

    struct Parser<'a> {
        text: &'a [u8],
        at: usize,
    }

    impl Parser<'_> {
        fn value(&mut self) -> Option<Value> {
            match self.peek()? {
                b'{' => self.object(),
                b'[' => self.list(),
                b'"' => self.string().map(Value::Text),
                _ => self.number(),
            }
        }

        fn object(&mut self) -> Option<Value> {
            let mut fields = Vec::new();
            self.at += 1;
            while self.peek()? != b'}' {
                let key = self.string()?;
                self.at += 1;
                fields.push((key, self.value()?));
                self.skip(b',');
            }
            self.at += 1;
            Some(Value::Object(fields))
        }

        fn list(&mut self) -> Option<Value> {
            let mut items = Vec::new();
            self.at += 1;
            while self.peek()? != b']' {
                items.push(self.value()?);
                self.skip(b',');
            }
            self.at += 1;
            Some(Value::List(items))
        }

        fn string(&mut self) -> Option<String> {
            let start = self.at + 1;
            let length = self.text[start..].iter().position(|&byte| byte == b'"')?;
            self.at = start + length + 1;
            Some(String::from_utf8_lossy(&self.text[start..start + length]).into_owned())
        }

        fn number(&mut self) -> Option<Value> {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte.is_ascii_digit() || byte == b'.') {
                self.at += 1;
            }
            std::str::from_utf8(&self.text[start..self.at]).ok()?.parse().ok().map(Value::Number)
        }

        fn peek(&self) -> Option<u8> {
            self.text.get(self.at).copied()
        }

        fn skip(&mut self, byte: u8) {
            self.at += usize::from(self.peek() == Some(byte));
        }
    }

    fn weigh(value: &Value) -> u64 {
        let mut sum = 0;
        match value {
            Value::Number(number) => sum = *number as u64,
            Value::Text(text) => sum = text.len() as u64,
            Value::List(items) => {
                for item in items {
                    sum += weigh(item);
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    sum += key.len() as u64 + weigh(value);
                }
            }
        }
        sum
    }
}

/// Hashes words, counts them, and sorts by how often they came.
mod index {
    use super::{HashMap, Random, Reverse, sentence};

    pub(super) fn turn(seed: u64) -> u64 {
        let mut random = Random(seed * 2 + 1);
        let documents: Vec<String> = (0..200).map(|_| sentence(&mut random, 40)).collect();
        let counts = count(&documents);
        rank(&counts).iter().take(3).fold(0, |sum, (word, number)| sum ^ checksum(word.as_bytes()) ^ number)
    }

    fn count(documents: &[String]) -> HashMap<String, u64> {
        let mut counts = HashMap::new();
        for document in documents {
            for pair in document.split(' ').collect::<Vec<_>>().windows(2) {
                *counts.entry(pair.join(" ")).or_default() += checksum(pair[0].as_bytes()) % 7;
            }
        }
        counts
    }

    fn rank(counts: &HashMap<String, u64>) -> Vec<(&String, u64)> {
        let mut ranked: Vec<_> = counts.iter().map(|(word, number)| (word, *number)).collect();
        ranked.sort_by_key(|(word, number)| (Reverse(*number), word.as_str()));
        ranked
    }

    fn checksum(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }
}

/// Matches patterns with `.`, `*`, `^` and `$` by backtracking.
mod search {
    use super::{Random, sentence};

    pub(super) fn turn(seed: u64) -> u64 {
        let mut random = Random(seed * 2 + 1);
        let lines: Vec<String> = (0..100).map(|_| sentence(&mut random, 30)).collect();
        let patterns = ["time.*retry.*commit", "^user.*miss", "que*ue .*latency$", "c.*e .*n .*z"];
        patterns.iter().map(|pattern| lines.iter().filter(|line| matches(pattern, line)).count() as u64).sum()
    }

    fn matches(pattern: &str, text: &str) -> bool {
        let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
        match pattern.strip_prefix(b"^") {
            Some(rest) => matches_here(rest, text),
            None => {
                for start in 0..=text.len() {
                    if matches_here(pattern, &text[start..]) {
                        return true;
                    }
                }
                false
            }
        }
    }

    fn matches_here(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => true,
            [b'$'] => text.is_empty(),
            [letter, b'*', rest @ ..] => matches_star(*letter, rest, text),
            [letter, rest @ ..] => {
                text.first().is_some_and(|first| one(*letter, *first)) && matches_here(rest, &text[1..])
            }
        }
    }

    fn matches_star(letter: u8, rest: &[u8], text: &[u8]) -> bool {
        let longest = text.iter().take_while(|&&first| one(letter, first)).count();
        for taken in 0..=longest {
            if matches_here(rest, &text[taken..]) {
                return true;
            }
        }
        false
    }

    fn one(letter: u8, first: u8) -> bool {
        letter == b'.' || letter == first
    }
}

/// Multiplies matrices.
mod matrix {
    use super::Random;

    const SIZE: usize = 96;

    type Matrix = Vec<[f64; SIZE]>;

    pub(super) fn turn(seed: u64) -> u64 {
        let mut random = Random(seed * 2 + 1);
        let (a, b) = (fill(&mut random), fill(&mut random));
        multiply(&a, &transpose(&b)).iter().map(|row| row[0] as u64).sum()
    }

    fn fill(random: &mut Random) -> Matrix {
        let mut row = || std::array::from_fn(|_| random.below(100) as f64);
        (0..SIZE).map(|_| row()).collect()
    }

    fn transpose(matrix: &Matrix) -> Matrix {
        (0..SIZE).map(|column| std::array::from_fn(|row| matrix[row][column])).collect()
    }

    fn multiply(a: &Matrix, transposed: &Matrix) -> Matrix {
        a.iter().map(|row| std::array::from_fn(|column| dot(row, &transposed[column]))).collect()
    }

    fn dot(row: &[f64; SIZE], column: &[f64; SIZE]) -> f64 {
        row.iter().zip(column).map(|(x, y)| x * y).sum()
    }
}

/// Places queens on a board, a row a call: as deep a recursion as the board is high.
mod solver {
    const BOARD: u32 = 16;

    pub(super) fn turn(seed: u64) -> u64 {
        let mut steps = 20_000;
        place((seed % u64::from(BOARD)) as u32, 0, Attacked::default(), &mut steps).map_or(steps, u64::from)
    }

    #[derive(Clone, Copy, Default)]
    struct Attacked {
        columns: u32,
        rising: u32,
        falling: u32,
    }

    impl Attacked {
        fn with(self, column: u32) -> Attacked {
            let queen = 1 << column;
            Attacked {
                columns: self.columns | queen,
                rising: (self.rising | queen) << 1,
                falling: (self.falling | queen) >> 1,
            }
        }

        fn is_free(self, column: u32) -> bool {
            (self.columns | self.rising | self.falling) & (1 << column) == 0
        }
    }

    /// The column of the queen in the last row; none if there is no place for it, or no steps are left.
    fn place(first: u32, row: u32, attacked: Attacked, steps: &mut u64) -> Option<u32> {
        for offset in 0..BOARD {
            let column = (first + offset) % BOARD;
            if !attacked.is_free(column) {
                continue;
            }
            *steps = steps.checked_sub(1)?;
            if row + 1 == BOARD {
                return Some(column);
            }
            let last = place(first, row + 1, attacked.with(column), steps);
            if last.is_some() {
                return last;
            }
        }
        None
    }
}
