//! The service of docs/guide.md: a shop that takes orders at a steady pace, and now and then closes its books, while which all
//! orders wait. `--deploy` is its next version, in which the discounts have become dear.
//!
//! ```sh
//! rustc --edition 2024 -O -g examples/shop.rs
//! ./shop [--deploy] [SECONDS]
//! ```

use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that take orders.
const COUNTERS: u64 = 3;
/// Each of them begins an order this often.
const PACE: Duration = Duration::from_millis(6);
/// How often the books are closed, and for how long nobody can write into them then.
const BOOKS_EVERY: Duration = Duration::from_secs(20);
const BOOKS_TAKE: Duration = Duration::from_millis(1500);

struct Order {
    customer: u64,
    articles: Vec<(String, u64)>,
}

#[derive(Default)]
struct Shop {
    /// What was sold, by day.
    books: Mutex<Vec<u64>>,
    orders: AtomicU64,
    closed: AtomicBool,
    /// The next version: looks through all discounts for each article, instead of those of the article's kind.
    all_discounts: bool,
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(60.0);
    let shop = Shop { all_discounts: arguments.iter().any(|argument| argument == "--deploy"), ..Shop::default() };
    thread::scope(|scope| -> std::io::Result<()> {
        for number in 0..COUNTERS {
            let shop = &shop;
            thread::Builder::new()
                .name(format!("counter-{number}"))
                .spawn_scoped(scope, move || counter(shop, number))?;
        }
        thread::Builder::new().name("bookkeeper".into()).spawn_scoped(scope, || bookkeeper(&shop))?;
        thread::sleep(Duration::from_secs_f64(seconds));
        shop.closed.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    writeln!(std::io::stdout(), "{} orders", shop.orders.load(Ordering::Relaxed))
}

/// Takes orders at its pace. Those that came while it was kept waiting are taken at once.
fn counter(shop: &Shop, number: u64) {
    let mut next = Instant::now();
    let mut seed = number + 1;
    while !shop.closed.load(Ordering::Relaxed) {
        let order = read_order(&request(&mut seed));
        let price = price_order(shop, &order);
        black_box(print_receipt(&order, price));
        write_into_books(shop, price);
        shop.orders.fetch_add(1, Ordering::Relaxed);
        next += PACE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// What a customer sends.
fn request(seed: &mut u64) -> String {
    let mut text = format!("customer={}", random(seed) % 5000);
    for _ in 0..40 {
        text.push_str(&format!(";article-{}={}", random(seed) % 900, 1 + random(seed) % 5));
    }
    text
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[inline(never)]
fn read_order(request: &str) -> Order {
    let mut order = Order { customer: 0, articles: Vec::new() };
    // Real formats are harder to read than this one: each field is looked at many times.
    for _ in 0..200 {
        order.articles.clear();
        for field in request.split(';') {
            match field.split_once('=') {
                Some(("customer", number)) => order.customer = number.parse().unwrap_or(0),
                Some((name, number)) => order.articles.push((name.to_owned(), number.parse().unwrap_or(0))),
                None => {}
            }
        }
    }
    order
}

#[inline(never)]
fn price_order(shop: &Shop, order: &Order) -> u64 {
    let price_of =
        |(name, number): &(String, u64)| number * price(name) * (100 - discount(shop, name, order.customer)) / 100;
    order.articles.iter().map(price_of).sum()
}

#[inline(never)]
fn price(name: &str) -> u64 {
    (0..500).fold(7, |sum: u64, round| sum.wrapping_mul(31).wrapping_add(checksum(name, round))) % 10_000
}

#[inline(never)]
fn discount(shop: &Shop, name: &str, customer: u64) -> u64 {
    let looked_at = if shop.all_discounts { 900 } else { 600 };
    (0..looked_at).map(|rule| checksum(name, rule ^ customer)).max().unwrap_or(0) % 30
}

fn checksum(text: &str, start: u64) -> u64 {
    text.bytes().fold(start ^ 0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[inline(never)]
fn print_receipt(order: &Order, price: u64) -> String {
    let mut receipt = String::new();
    for copy in 0..60 {
        receipt.push_str(&format!("copy {copy} for {}\n", order.customer));
        for (name, number) in &order.articles {
            receipt.push_str(&format!("{name:>20} {number:>4}\n"));
        }
    }
    receipt + &format!("to pay: {price}\n")
}

#[inline(never)]
fn write_into_books(shop: &Shop, price: u64) {
    books(shop).push(price);
}

/// Closes the books now and then.
fn bookkeeper(shop: &Shop) {
    let mut next = Instant::now() + BOOKS_EVERY;
    while !shop.closed.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
        if Instant::now() >= next {
            close_books(shop);
            next += BOOKS_EVERY;
        }
    }
}

/// Adds up all that was sold, and keeps the books to itself meanwhile: this is the spike that the guide looks for.
#[inline(never)]
fn close_books(shop: &Shop) {
    let mut books = books(shop);
    let start = Instant::now();
    let mut total = 0u64;
    while start.elapsed() < BOOKS_TAKE {
        total = total.wrapping_add(add_up(&books));
    }
    black_box(total);
    books.clear();
}

#[inline(never)]
fn add_up(books: &[u64]) -> u64 {
    books.iter().fold(0, |sum: u64, &price| sum.rotate_left(3) ^ price)
}

fn books(shop: &Shop) -> MutexGuard<'_, Vec<u64>> {
    shop.books.lock().unwrap_or_else(PoisonError::into_inner)
}
