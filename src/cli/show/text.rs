//! Numbers and names for people.

/// A value in its unit: times in the largest unit that leaves three digits, bytes in powers of 1024, others with
/// separators of thousands.
pub(in crate::cli) fn amount(value: i128, unit: &str) -> String {
    match unit {
        "nanoseconds" => scaled(value, &[(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "µs"), (1, "ns")]),
        "bytes" => scaled(value, &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")]),
        _ => thousands(value),
    }
}

/// A share of a whole, with two decimals.
#[allow(clippy::cast_precision_loss, reason = "two decimals are shown")]
pub(in crate::cli) fn percent(part: i128, whole: i128) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    format!("{:.2} %", share * 100.0)
}

/// A time of a CPU (in nanoseconds) as the number of CPUs that it kept busy over another time.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(in crate::cli) fn cpus(value: i128, covered: i64) -> String {
    let cpus = value as f64 / covered.max(1) as f64;
    match cpus.abs() {
        size if size >= 99.95 => format!("{cpus:.1}"),
        size if size >= 0.9995 => format!("{cpus:.2}"),
        size if size >= 0.000_05 => format!("{cpus:.4}"),
        _ => "0".into(),
    }
}

/// A name cut to a width; that it was cut shows.
pub(in crate::cli) fn fit(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    let kept: String = name.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
fn scaled(value: i128, units: &[(i128, &str)]) -> String {
    let size = value.unsigned_abs();
    let fits = |(factor, _): &&(i128, &str)| size >= factor.unsigned_abs();
    let Some((factor, unit)) = units.iter().find(fits).or(units.last()) else { return value.to_string() };
    let number = value as f64 / *factor as f64;
    let decimals = if *factor == 1 { 0 } else { 2 };
    format!("{number:.decimals$} {unit}")
}

fn thousands(value: i128) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if value < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(amount(1_234_567_890, "nanoseconds"), "1.23 s");
        assert_eq!(amount(-2_500_000, "nanoseconds"), "-2.50 ms");
        assert_eq!(amount(999, "nanoseconds"), "999 ns");
        assert_eq!(amount(0, "nanoseconds"), "0 ns");
        assert_eq!(amount(1536, "bytes"), "1.50 KiB");
        assert_eq!(amount(1_234_567, "count"), "1,234,567");
        assert_eq!(amount(-100, "count"), "-100");
        assert_eq!(percent(1, 3), "33.33 %");
        assert_eq!(percent(1, 0), "0.00 %");
    }

    #[test]
    fn names_are_cut() {
        assert_eq!(fit("operator new", 5), "oper…");
        assert_eq!(fit("naïve", 5), "naïve");
    }
}
