// A comparison of two ranges of one profile, made in the page where there is no server. With one profile there are no windows that
// would tell how much a function varies by itself, so that the interval is that of counting alone, and the page says so.

const NANOS = 1e9;
const Z95 = 1.96;
const Z_SIGNIFICANT = 3.3;

export function compareTimes(raw, base, now, normalize) {
  const start = raw.from_nanos / NANOS;
  const within = ([from, to], time) => time >= 0 && time / NANOS >= from - start && time / NANOS < to - start;
  const { samples } = raw;
  const pick = (range, values) => values.map((value, at) => (within(range, samples.time[at]) ? value : 0));
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
    base: side(base, made.base, made.base_count),
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
  const [nowUnit, baseUnit] = [unit(raw, raw), unit(raw, raw.base)];
  const columns = { function: [], base_total: [], new_total: [], base_self: [], new_self: [], low: [], high: [], significant: [], verdict: [] };
  for (let id = 0; id < raw.functions.name.length; id++) {
    const [now, base] = [sums.value[id] * nowUnit, sums.base[id] * baseUnit];
    // The variance of a sum of counts is the sum times what one count is worth.
    const worth = (value, count, one) => (count ? (value * one) / count : 0);
    const spread = Math.sqrt(now * worth(sums.value[id], sums.count[id], nowUnit) + base * worth(sums.base[id], sums.base_count[id], baseUnit));
    const difference = now - base;
    const significant = spread > 0 && Math.abs(difference) / spread > Z_SIGNIFICANT;
    columns.function.push(id);
    columns.new_total.push(now);
    columns.base_total.push(base);
    columns.new_self.push(sums.value_self[id] * nowUnit);
    columns.base_self.push(sums.base_self[id] * baseUnit);
    columns.low.push(difference - Z95 * spread);
    columns.high.push(difference + Z95 * spread);
    columns.significant.push(significant ? 1 : 0);
    columns.verdict.push(!significant ? "same" : base === 0 ? "new" : now === 0 ? "gone" : difference > 0 ? "up" : "down");
  }
  return columns;
}

// Totals and own values of each function; a function that stands twice in a stack counts once.
function functionSums(raw) {
  const { stacks, frames, samples, functions } = raw;
  const names = ["value", "base", "count", "base_count"];
  const sums = Object.fromEntries([...names, "value_self", "base_self"].map((name) => [name, new Float64Array(functions.name.length)]));
  const seen = new Int32Array(functions.name.length).fill(-1);
  samples.stack.forEach((stack, at) => {
    if (!samples.value[at] && !samples.base[at]) return;
    const leaf = frames.function[stacks.frame[stack]];
    sums.value_self[leaf] += samples.value[at];
    sums.base_self[leaf] += samples.base[at];
    for (let node = stack; node >= 0; node = stacks.parent[node]) {
      const id = frames.function[stacks.frame[node]];
      if (seen[id] === at) continue;
      seen[id] = at;
      for (const name of names) sums[name][id] += samples[name][at];
    }
  });
  return sums;
}
