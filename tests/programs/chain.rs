// Truth: chain::main > chain::Pipeline<F>::run > chain::middle > chain::leaf; run calls through a closure of main, and with -O
// inlines chain::mix three levels deep (mix > rotate > step) into leaf.
use std::hint::black_box;
use std::time::{Duration, Instant};

struct Pipeline<F> {
    stage: F,
}

impl<F: Fn(u64) -> u64> Pipeline<F> {
    #[inline(never)]
    fn run(&self, rounds: u64) -> u64 {
        black_box((self.stage)(rounds)) + 1
    }
}

#[inline(always)]
fn step(x: u64) -> u64 {
    black_box(x.wrapping_mul(6364136223846793005).wrapping_add(1))
}

#[inline(always)]
fn rotate(x: u64) -> u64 {
    step(x).rotate_left(7)
}

#[inline(always)]
fn mix(x: u64) -> u64 {
    rotate(x) ^ 0x5aa5
}

#[inline(never)]
fn leaf(rounds: u64) -> u64 {
    (0..rounds).fold(rounds, |x, _| mix(x))
}

#[inline(never)]
fn middle(rounds: u64) -> u64 {
    black_box(leaf(rounds)) + 1
}

fn seconds() -> f64 {
    std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1.0)
}

fn main() {
    let offset = black_box(3);
    let pipeline = Pipeline { stage: |rounds| middle(rounds) + offset };
    let end = (seconds() > 0.0).then(|| Instant::now() + Duration::from_secs_f64(seconds()));
    let mut sum = 0u64;
    println!("ready");
    while end.is_none_or(|end| Instant::now() < end) {
        sum = sum.wrapping_add(pipeline.run(50_000));
    }
    black_box(sum);
}
