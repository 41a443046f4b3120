// Numbers and times for people.

const COUNTS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const TIMES = [[86400e9, "d"], [3600e9, "h"], [60e9, "min"], [1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
const BYTES = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];

// Three significant figures, without an exponent.
export function number(value) {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en-US");
  if (size >= 10) return value.toFixed(1);
  if (size >= 1) return value.toFixed(2);
  return size === 0 ? "0" : String(Number(value.toPrecision(2)));
}

function scaled(value, steps, smallest) {
  const step = steps.find(([size]) => Math.abs(value) >= size);
  return step ? `${number(value / step[0])} ${step[1]}` : `${number(value)}${smallest}`;
}

// A value of the profile in its unit.
export function quantity(value, unit) {
  if (unit === "nanoseconds") return scaled(value, TIMES, " ns");
  if (unit === "bytes") return scaled(value, BYTES, " B");
  return scaled(value, COUNTS, "").trim();
}

export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = share * 100;
  const size = Math.abs(value);
  if (size === 0) return "0 %";
  if (size < 0.01) return value < 0 ? "> −0.01 %" : "< 0.01 %";
  return `${minus(value.toFixed(size < 10 ? 2 : 1))} %`;
}

export function signed(text, value) {
  return value > 0 ? `+${text}` : text;
}

export function minus(text) {
  return text.replace("-", "−");
}

export function plural(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

// A length of time in seconds.
export function duration(seconds) {
  return scaled(seconds * 1e9, TIMES, " ns");
}

const two = (value) => String(value).padStart(2, "0");

// A point in time, in seconds since 1970, to the fraction that a range of this length needs.
export function clock(seconds, span = 60) {
  const date = new Date(seconds * 1000);
  const digits = span < 1 ? 3 : span < 20 ? 2 : 0;
  const fraction = digits ? (seconds - Math.floor(seconds)).toFixed(digits).slice(1) : "";
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${fraction}`;
}

export function day(seconds) {
  const date = new Date(seconds * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

export function range(from, to) {
  const span = to - from;
  const sameDay = day(from) === day(to);
  return `${day(from)} ${clock(from, span)} – ${sameDay ? "" : `${day(to)} `}${clock(to, span)}`;
}

export function fileName(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}
