// Truth: main > catcher > thrower, which panics at each turn and is caught: the CPU time lies in the panic machinery and in
// _Unwind_RaiseException below thrower.
use std::hint::black_box;
use std::panic::{self, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

#[inline(never)]
fn thrower(x: u64) -> u64 {
    if black_box(x) != u64::MAX {
        resume_unwind(Box::new(x));
    }
    x
}

#[inline(never)]
fn catcher(times: u64) -> u64 {
    (0..times).map(|i| u64::from(catch_unwind(|| thrower(i)).is_err())).sum()
}

fn main() {
    panic::set_hook(Box::new(|_| {}));
    let seconds: f64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let end = (seconds > 0.0).then(|| Instant::now() + Duration::from_secs_f64(seconds));
    let mut caught = 0;
    println!("ready");
    while end.is_none_or(|end| Instant::now() < end) {
        caught += catcher(100);
    }
    println!("caught {caught}");
}
