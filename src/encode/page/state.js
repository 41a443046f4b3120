// What the page shows, as one object, and its form behind the # of the address: whoever opens the link sees the same.

const DEFAULTS = {
  kind: "", by: "process", from: null, to: null, selection: null, heat: null, base: null, normalize: "cpus",
  view: "flame", icicle: true, inverted: false, recursion: false, libraries: false, inlined: false, kernel: false,
  color: "", search: "", filters: {}, focus: null, sandwich: null, zoom: [], sort: "self", ascending: false,
};

const SHORT = {
  kind: "kind", by: "by", from: "from", to: "to", selection: "sel", heat: "heat", base: "base", normalize: "norm", view: "view",
  icicle: "icicle", inverted: "invert", recursion: "norec", libraries: "nolib", inlined: "noinl", kernel: "nokernel",
  color: "color", search: "q", filters: "f", focus: "focus", sandwich: "fn", zoom: "zoom", sort: "sort", ascending: "asc",
};

const LISTS = new Set(["selection", "heat", "base", "zoom"]);

export function initialState() {
  return structuredClone(DEFAULTS);
}

function encodeField(name, value) {
  if (name === "filters" || name === "focus" || name === "sandwich") return JSON.stringify(value);
  if (LISTS.has(name)) return value.join(name === "zoom" ? "." : "~");
  if (typeof value === "boolean") return value ? "1" : "0";
  return String(value);
}

function decodeField(name, text) {
  if (name === "filters" || name === "focus" || name === "sandwich") return checked(name, JSON.parse(text));
  if (name === "zoom") return text.split(".").filter((part) => /^[0-9a-z]+$/.test(part));
  if (name === "selection" || name === "heat" || name === "base") return times(text.split("~"));
  if (name === "from" || name === "to") return times([text, Infinity])?.[0] ?? null;
  if (typeof DEFAULTS[name] === "boolean") return text === "1";
  return text;
}

// A link is anybody's: what is not of the form that is expected is left out.
function checked(name, value) {
  const isText = (part) => typeof part === "string";
  if (name === "filters") {
    const entries = Object.entries(value ?? {}).filter(([, values]) => Array.isArray(values) && values.every(isText));
    return Object.fromEntries(entries);
  }
  return value && isText(value.name) && isText(value.module) ? { name: value.name, module: value.module } : null;
}

function times(parts) {
  const [from, to] = parts.map(Number);
  return parts.length === 2 && Number.isFinite(from) && to > from ? [from, to] : null;
}

export function toFragment(state) {
  const parts = [];
  for (const [name, short] of Object.entries(SHORT)) {
    const text = state[name] === null ? null : encodeField(name, state[name]);
    const usual = DEFAULTS[name] === null ? null : encodeField(name, DEFAULTS[name]);
    if (text !== usual && text !== null) parts.push(`${short}=${encodeURIComponent(text)}`);
  }
  return parts.join("&");
}

export function fromFragment(fragment) {
  const state = initialState();
  const given = new Map(fragment.replace(/^#/, "").split("&").map((part) => {
    const at = part.indexOf("=");
    return [part.slice(0, at), part.slice(at + 1)];
  }));
  for (const [name, short] of Object.entries(SHORT)) {
    if (!given.has(short)) continue;
    try {
      state[name] = decodeField(name, decodeURIComponent(given.get(short)));
    } catch {
      state[name] = structuredClone(DEFAULTS[name]);
    }
  }
  return state;
}

// What samples must have, in the grammar of `rprof query --where`. Only some labels are in the index of a store.
export function whereOf(filters, keys) {
  const quoted = (text) => `"${text.replace(/\\/g, "\\\\").replace(/"/g, "\\\"").replace(/\n/g, "\\n").replace(/\t/g, "\\t")}"`;
  const literal = (text) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  return Object.entries(filters)
    .filter(([key, values]) => values.length && keys.includes(key))
    .map(([key, values]) => (values.length === 1 ? `${key}=${quoted(values[0])}` : `${key}=~${quoted(values.map(literal).join("|"))}`))
    .join(",");
}
