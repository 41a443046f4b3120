//! Units of values, and one as another: the units that pprof knows, by the names it gives them.

/// A family of units: names (the first is how it is written) and the size of each in the smallest.
type Family = &'static [(&'static [&'static str], f64)];

const BYTES: Family = &[
    (&["B", "b", "byte"], 1.0),
    (&["kB", "kb", "kbyte", "kilobyte"], 1024.0),
    (&["MB", "mb", "mbyte", "megabyte"], 1_048_576.0),
    (&["GB", "gb", "gbyte", "gigabyte"], 1_073_741_824.0),
    (&["TB", "tb", "tbyte", "terabyte"], 1_099_511_627_776.0),
    (&["PB", "pb", "pbyte", "petabyte"], 1_125_899_906_842_624.0),
];
const TIME: Family = &[
    (&["ns", "nanosecond"], 1.0),
    (&["us", "μs", "microsecond"], 1e3),
    (&["ms", "millisecond"], 1e6),
    (&["s", "sec", "second"], 1e9),
    (&["hrs", "hr", "hour"], 3.6e12),
];
const FAMILIES: [Family; 2] = [BYTES, TIME];

/// A value in another unit of the same family, and the name of that unit. A value of another family, or of none, is left as it is.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "what is scaled is shown, or compared with what was typed")]
pub fn scale(value: i64, from: &str, to: &str) -> (f64, String) {
    for family in FAMILIES {
        let Some(&(_, size)) = find(family, from) else { continue };
        let target = find(family, to).or_else(|| family.iter().find(|(names, _)| names[0] == "s")).or(family.first());
        if let Some(&(names, target)) = target {
            return (value as f64 * size / target, names[0].to_owned());
        }
    }
    (value as f64, to.to_owned())
}

/// Whether a value of one unit can be told in the other.
#[must_use]
pub fn converts(from: &str, to: &str) -> bool {
    from == to || FAMILIES.iter().any(|family| find(family, from).is_some() && find(family, to).is_some())
}

fn find(family: Family, name: &str) -> Option<&'static (&'static [&'static str], f64)> {
    let lower = name.to_lowercase();
    let singular = if lower.chars().count() > 2 { lower.strip_suffix('s').unwrap_or(&lower) } else { &lower };
    family.iter().find(|(names, _)| names.contains(&singular))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_a_family_become_one_another() {
        assert_eq!(scale(1500, "nanoseconds", "us"), (1.5, "us".into()));
        assert_eq!(scale(3, "megabytes", "kb"), (3072.0, "kB".into()));
        assert_eq!(scale(2_000_000_000, "nanoseconds", "bytes"), (2.0, "s".into()));
        assert_eq!(scale(7, "count", "ms"), (7.0, "ms".into()));
        assert!(converts("seconds", "hours") && !converts("count", "ms") && converts("count", "count"));
    }
}
