// A comparison of two ranges of one profile, made in the page where there is no server. With one profile there are no windows that
// would tell how much a function varies by itself, so that the interval is that of counting alone, and the page says so.

const NANOS = 1e9;
const Z95 = 1.96;
const Z_SIGNIFICANT = 3.3;
const REMARK = "a single profile has no windows that tell how much functions vary: intervals and verdicts are of counting alone";

// `keep` tells of a group of labels whether filters leave it.
export function compareTimes(raw, base, now, normalize, keep) {
  const start = raw.from_nanos / NANOS;
  const within = ([from, to], time) => time >= 0 && time / NANOS >= from - start && time / NANOS < to - start;
  const { samples } = raw;
  const pick = (range, values) => values.map((value, at) => (within(range, samples.time[at]) && keep(samples.group[at]) ? value : 0));
  const made = {
    stack: samples.stack, group: samples.group,
    value: pick(now, samples.value), count: pick(now, samples.count),
    base: pick(base, samples.value), base_count: pick(base, samples.count),
  };
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const side = ([from, to], values, counts) => ({
    from_nanos: from * NANOS, to_nanos: to * NANOS, covered_nanos: (to - from) * NANOS, cpus: raw.cpus,
    total: sum(values), samples_total: sum(counts), quality: raw.quality,
  });
  const diff = {
    ...raw, ...side(now, made.value, made.count), samples: made, normalize,
    base: side(base, made.base, made.base_count), remarks: [REMARK],
  };
  diff.changes = changes(diff);
  return diff;
}

// What one unit of a side's value is worth in the unit of the comparison.
function unit(raw, side) {
  if (raw.normalize === "samples") return 1;
  if (raw.normalize === "share") return side.total ? 1 / side.total : 0;
  return side.covered_nanos > 0 ? 1 / (side.covered_nanos * Math.max(1, side.cpus || 0)) : 0;
}

function changes(raw) {
  const sums = functionSums(raw);
  const columns = {
    function: [], base_total: [], new_total: [], base_self: [], new_self: [], low: [], high: [],
    significant: [], significant_total: [], significant_self: [], verdict: [],
  };
  for (let id = 0; id < raw.functions.name.length; id++) {
    const [total, own] = [estimate(raw, sums, id, ""), estimate(raw, sums, id, "_self")];
    const row = {
      function: id, base_total: total.base, new_total: total.now, base_self: own.base, new_self: own.now, low: total.low, high: total.high,
      significant: total.significant || own.significant, significant_total: total.significant, significant_self: own.significant,
      verdict: verdict(total, own),
    };
    for (const [name, value] of Object.entries(row)) columns[name].push(value);
  }
  return columns;
}

// The difference of a function's totals, or of its own part, with its interval.
function estimate(raw, sums, id, part) {
  const [nowUnit, baseUnit] = [unit(raw, raw), unit(raw, raw.base)];
  const of = (name) => sums[name + part][id];
  const [now, base] = [of("value") * nowUnit, of("base") * baseUnit];
  // The variance of a sum of counts is the sum times what one count is worth.
  const worth = (value, count, one) => (count ? (value * one) / count : 0);
  const spread = Math.sqrt(now * worth(of("value"), of("count"), nowUnit) + base * worth(of("base"), of("base_count"), baseUnit));
  const difference = now - base;
  const significant = spread > 0 && Math.abs(difference) / spread > Z_SIGNIFICANT ? 1 : 0;
  return { now, base, difference, low: difference - Z95 * spread, high: difference + Z95 * spread, significant };
}

function verdict(total, own) {
  const strongest = total.significant ? total : own;
  if (!strongest.significant) return "same";
  if (total.base === 0) return "new";
  if (total.now === 0) return "gone";
  return strongest.difference > 0 ? "up" : "down";
}

// Totals and own values of each function; a function that stands twice in a stack counts once.
function functionSums(raw) {
  const { stacks, frames, samples, functions } = raw;
  const names = ["value", "base", "count", "base_count"];
  const columns = names.flatMap((name) => [name, `${name}_self`]);
  const sums = Object.fromEntries(columns.map((name) => [name, new Float64Array(functions.name.length)]));
  const seen = new Int32Array(functions.name.length).fill(-1);
  samples.stack.forEach((stack, at) => {
    if (!samples.value[at] && !samples.base[at]) return;
    const leaf = frames.function[stacks.frame[stack]];
    for (const name of names) sums[`${name}_self`][leaf] += samples[name][at];
    for (let node = stack; node >= 0; node = stacks.parent[node]) {
      const id = frames.function[stacks.frame[node]];
      if (seen[id] === at) continue;
      seen[id] = at;
      for (const name of names) sums[name][id] += samples[name][at];
    }
  });
  return sums;
}
