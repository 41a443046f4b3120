// Truth: N threads (second argument; 3) named spinner-0 …, each threads::spinner > threads::spinner_leaf; equal shares.
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

#[inline(never)]
fn spinner_leaf(rounds: u64) -> u64 {
    (0..rounds).fold(rounds, |x, _| black_box(x.wrapping_mul(6364136223846793005).wrapping_add(1)))
}

#[inline(never)]
fn spinner(end: Option<Instant>) -> u64 {
    let mut sum = 0u64;
    while end.is_none_or(|end| Instant::now() < end) {
        sum = sum.wrapping_add(spinner_leaf(50_000));
    }
    sum
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let count = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(3);
    let end = (seconds > 0.0).then(|| Instant::now() + Duration::from_secs_f64(seconds));
    let spawn = |i| thread::Builder::new().name(format!("spinner-{i}")).spawn(move || spinner(end)).unwrap();
    let threads: Vec<_> = (0..count).map(spawn).collect();
    println!("ready");
    threads.into_iter().for_each(|thread| drop(black_box(thread.join())));
}
