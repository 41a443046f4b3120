// Where profiles come from: the server beside the page, or the one profile in the file itself.

const NANOS = 1e9;
const COLUMN = 1;
const ROWS = 50;

export function openSource() {
  const embedded = document.getElementById("rprof-data");
  return embedded ? new Embedded(JSON.parse(embedded.textContent)) : new Server();
}

// A store behind `rprof serve`. Requests that are no longer wanted are ended.
class Server {
  constructor() {
    this.hasStore = true;
    this.running = new Map();
  }

  async get(what, parameters) {
    this.running.get(what)?.abort();
    const control = new AbortController();
    this.running.set(what, control);
    const answer = await fetch(address(`api/${what}`, parameters), { signal: control.signal });
    if (!answer.ok) throw new Error(await problem(answer));
    return answer.json();
  }

  info() {
    return this.get("info", {});
  }

  series(query) {
    return this.get("series", query);
  }

  heatmap(query) {
    return this.get("heatmap", query);
  }

  profile(query) {
    return this.get("profile", query);
  }

  diff(query) {
    return this.get("diff", query);
  }

  exportAddress(query) {
    return address("export", query);
  }
}

function address(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given.map(([name, value]) => [name, typeof value === "number" ? `@${value.toFixed(6)}` : value]));
  return query.size ? `${path}?${query}` : path;
}

async function problem(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error || `the server answered ${answer.status}`;
  } catch {
    return `the server answered ${answer.status}`;
  }
}

// One profile in the file. Samples with times give a time line and a heat map.
class Embedded {
  constructor(raw) {
    this.raw = raw;
    this.hasStore = false;
    this.hasTimes = Boolean(raw.samples.time?.length) && raw.to_nanos > raw.from_nanos;
  }

  async info() {
    const { raw } = this;
    return {
      version: "", host: "", hosts: [], kinds: [{ name: raw.kind, unit: raw.value.unit }], labels: Object.keys(raw.groups),
      from_nanos: raw.from_nanos, to_nanos: raw.to_nanos, windows: 1,
    };
  }

  async profile() {
    return this.raw;
  }

  text(key, group) {
    const value = this.raw.groups[key]?.[group];
    if (value === undefined) return "";
    if (key === "pid" || key === "tid") return value < 0 ? "" : String(value);
    return this.raw.strings[value];
  }

  async series({ from, to, by, filter }) {
    if (!this.hasTimes) return null;
    const { samples } = this.raw;
    const step = Math.max(0.01, (to - from) / 240);
    const steps = Math.ceil((to - from) / step);
    const found = new Map();
    const offset = from - this.raw.from_nanos / NANOS;
    samples.time.forEach((time, at) => {
      const slot = Math.floor((time / NANOS - offset) / step);
      if (time < 0 || slot < 0 || slot >= steps || !filter(samples.group[at])) return;
      const name = this.text(by, samples.group[at]);
      if (!found.has(name)) found.set(name, { name, values: new Array(steps).fill(0), samples: new Array(steps).fill(0) });
      found.get(name).values[slot] += samples.value[at];
      found.get(name).samples[slot] += samples.count[at];
    });
    const series = [...found.values()];
    if (this.raw.value.unit === "nanoseconds") series.forEach((one) => { one.cpus = one.values.map((value) => value / (step * NANOS)); });
    return { start_nanos: from * NANOS, step_nanos: step * NANOS, covered_nanos: new Array(steps).fill(step * NANOS), series };
  }

  async heatmap({ from, to, filter }) {
    if (!this.hasTimes) return { timed_windows: 0, untimed_windows: 1, columns: 0, rows: ROWS, cells: [] };
    const start = Math.floor(from / COLUMN) * COLUMN;
    const columns = Math.max(1, Math.ceil(to / COLUMN) - Math.floor(from / COLUMN));
    const cells = new Array(columns * ROWS).fill(0);
    const offset = start - this.raw.from_nanos / NANOS;
    this.raw.samples.time.forEach((time, at) => {
      const slot = Math.floor(((time / NANOS - offset) / COLUMN) * ROWS);
      if (time >= 0 && slot >= 0 && slot < cells.length && filter(this.raw.samples.group[at])) cells[slot] += this.raw.samples.count[at];
    });
    return {
      from_nanos: start * NANOS, row_nanos: NANOS / ROWS, rows: ROWS, columns, column_nanos: NANOS, cells,
      value_unit: "samples", timed_windows: 1, untimed_windows: 0,
    };
  }
}
