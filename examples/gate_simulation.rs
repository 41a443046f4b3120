//! How often `rprof gate` is wrong, and how often it finds what is there: `cargo run --release --example gate_simulation [TRIALS]`.
#![allow(clippy::print_stdout, reason = "it prints a table")]

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use simulation::{Case, run};

fn main() {
    let trials = std::env::args().nth(1).and_then(|trials| trials.parse().ok()).unwrap_or(200);
    println!("{trials} trials a case, 500 functions, default policy");
    println!("samples  sub-windows  wobble  slowed              failed  found  wrong  inconclusive");
    let cases = [
        (2e3, 12, 0.0, None),
        (2e4, 12, 0.0, None),
        (2e5, 12, 0.0, None),
        (2e4, 12, 0.1, None),
        (2e5, 12, 0.1, None),
        (2e4, 24, 0.1, None),
        (2e5, 24, 0.1, None),
        (2e4, 12, 0.0, Some((0.15, 0.10))),
        (2e4, 12, 0.0, Some((0.03, 0.25))),
        (1e5, 12, 0.0, Some((0.15, 0.10))),
        (1e5, 12, 0.0, Some((0.03, 0.25))),
        (1e5, 12, 0.0, Some((0.012, 0.50))),
        (1e5, 12, 0.1, Some((0.03, 0.25))),
        (1e5, 24, 0.1, Some((0.03, 0.25))),
        (1e5, 60, 0.1, Some((0.03, 0.25))),
        (1e5, 24, 0.1, Some((0.03, 0.50))),
    ];
    for (samples, windows, wobble, slowed) in cases {
        let tally = run(&Case { samples, wobble, windows, slowed }, trials);
        let what = slowed.map_or("nothing".into(), |(share, rise): (f64, f64)| {
            format!("{:.1} % by {:.0} %", share * 100.0, rise * 100.0)
        });
        println!(
            "{samples:>7}  {windows:>11}  {:>5.0}%  {what:<18}  {:>6}  {:>5}  {:>5}  {:>12}",
            wobble * 100.0,
            tally.failed,
            tally.found,
            tally.wrong,
            tally.inconclusive
        );
    }
}
