// What is told of a box or a function: in the tooltip, and in the panel beside the graph.

import { h } from "./dom.js";
import { fileName, minus, number, percent, plural, quantity } from "./format.js";
import { ORIGINS, sourceLines } from "./model.js";
import { isMarked, isTested, packageOf } from "./colors.js";
import { verdictText } from "./table.js";

// As `DETAILED` of src/web/api.rs.
const DETAILED = 30;

// The sums of a box, or of a key over the whole graph.
export function sumsOfNode(tree, node) {
  return {
    key: tree.key[node], frame: tree.frame[node], self: tree.self[node], total: tree.total[node], count: tree.count[node],
    selfBase: tree.selfBase[node], baseTotal: tree.baseTotal?.[node], baseCount: tree.baseCount?.[node],
  };
}

export function sumsOfKey(sums, key) {
  return {
    key, frame: -1, self: sums.self[key], total: sums.total[key], count: sums.count[key],
    selfBase: sums.selfBase?.[key], baseTotal: sums.baseTotal?.[key], baseCount: sums.baseCount?.[key],
  };
}

function source(profile, key, frame) {
  const file = profile.keyFile(key);
  const line = frame >= 0 ? profile.frameLine[frame] : 0;
  return file ? `${file}${line > 0 ? `:${line}` : ""}` : "";
}

function cpus(profile, value) {
  return profile.unit === "nanoseconds" && profile.seconds > 0 ? `${number(value / 1e9 / profile.seconds)} CPUs` : "";
}

// The rows of figures: [title, text, class].
function figures(profile, whole, of) {
  const amount = (value) => [quantity(value, profile.unit), percent(value / whole.total), cpus(profile, value)].filter(Boolean).join(" · ");
  if (!profile.isDiff) {
    return [["Total", amount(of.total)], ["Self", amount(of.self)], ["Samples", number(of.count)]];
  }
  const difference = of.total - of.baseTotal;
  const more = difference > 0 ? "+" : "";
  return [
    ["Now", amount(of.total)],
    ["Base", amount(of.baseTotal)],
    ["Difference", `${more}${minus(quantity(difference, profile.unit))} · ${ratioText(of.total, of.baseTotal)}`, tone(profile, of, difference)],
    ["Samples", `${number(of.count)} now, ${number(of.baseCount)} base`],
    ...intervalRows(profile, of.key),
  ];
}

function tone(profile, of, difference) {
  if (of.key >= 0 && !isMarked(profile, of.key, difference)) return "is-quiet";
  return difference > 0 ? "is-up" : difference < 0 ? "is-down" : "";
}

function ratioText(now, before) {
  if (before === 0) return now === 0 ? "same" : "new";
  if (now === 0) return "gone";
  const change = now / before - 1;
  return `${change > 0 ? "+" : ""}${percent(change)}`;
}

// The interval is that of the function over all its stacks, in the comparison's own unit.
function intervalRows(profile, key) {
  const { changes } = profile;
  const row = changes && key >= 0 && key < profile.functions ? changes.row[key] : -1;
  if (row < 0) return [];
  const rate = (value) => rateText(profile, value);
  return [
    ["In all stacks", `${rate(changes.base_total[row])} → ${rate(changes.new_total[row])}`],
    ["95 % interval", `${rate(changes.low[row])} to ${rate(changes.high[row])}`],
    ["Verdict", verdictText(changes.verdict[row], changes.significant[row]) + where(changes, row), changes.significant[row] ? "" : "is-quiet"],
  ];
}

// The interval is of the totals; the verdict may be of the function's own part alone.
function where(changes, row) {
  return changes.significant_self[row] && !changes.significant_total[row] ? ", in its own part" : "";
}

export function rateText(profile, value) {
  const { normalize } = profile.raw;
  if (normalize === "share") return percent(value);
  if (normalize === "samples") return minus(number(value));
  return profile.unit === "nanoseconds" ? `${percent(value)} of a CPU` : minus(quantity(value, profile.unit));
}

function figureList(rows) {
  return h("dl", { class: "figures" }, ...rows.flatMap(([title, text, kind]) => [h("dt", {}, title), h("dd", { class: kind || null }, text)]));
}

export function tooltip(profile, whole, of) {
  const place = source(profile, of.key, of.frame);
  return [
    h("div", { class: "tip-name" }, profile.keyName(of.key)),
    of.key >= 0 && h("div", { class: "tip-place" }, [fileName(profile.keyModule(of.key)), place && shortPath(place)].filter(Boolean).join(" · ")),
    figureList(figures(profile, whole, of)),
  ].filter(Boolean);
}

function shortPath(path) {
  const parts = path.split("/");
  return parts.length > 4 ? `…/${parts.slice(-3).join("/")}` : path;
}

// `acts`: sandwich(key), focus(key), search(text). `limits`: what of the profile is shown, see `notes`.
export function detailPanel(profile, whole, weights, of, acts, limits) {
  const { key } = of;
  const own = key >= 0 && key < profile.functions;
  const origin = own ? profile.functionOrigin[key] : -1;
  const place = source(profile, key, of.frame);
  const facts = [
    ["Module", profile.keyModule(key)], ["Source", place], ["Kind", origin >= 0 ? ORIGINS[origin] : ""],
    ["Package", own ? packageOf(profile.keyName(key), profile.keyModule(key)) : ""],
  ].filter(([, text]) => text);
  return [
    h("h2", { class: "detail-name" }, key < 0 ? "All samples" : profile.keyName(key)),
    figureList(figures(profile, whole, of)),
    ...notes(profile, of, limits).map((text) => h("p", { class: "note quiet" }, text)),
    facts.length > 0 && figureList(facts),
    key >= 0 && h("div", { class: "detail-acts" },
      h("button", { type: "button", id: "act-sandwich", onclick: () => acts.sandwich(key) }, "Callers and callees"),
      own && h("button", { type: "button", id: "act-focus", onclick: () => acts.focus(key) }, "Only stacks with it"),
      h("button", { type: "button", onclick: () => acts.copy(profile.keyName(key)) }, "Copy name")),
    own && lineList(profile, weights, key, whole),
  ].filter(Boolean);
}

// What the figures are not of, and what is not there to be shown. `focus` is the function whose stacks alone are shown, `windows` how
// many a server has.
function notes(profile, of, { focus, windows }) {
  const own = of.key >= 0 && of.key < profile.functions;
  const told = [];
  if (profile.isDiff && of.key >= 0 && !isTested(profile, of.key)) {
    told.push(own ? "Nothing is tested: one side has no samples of what is selected."
      : "A module as one frame is not tested: its colour is the plain difference.");
  } else if (profile.isDiff && own && focus) {
    told.push(`Interval and verdict are of all stacks that filters leave, not only of those with ${focus.name}.`);
  } else if (profile.isDiff && own && of.frame >= 0) {
    told.push("Interval and verdict are of the function in all stacks that filters leave, not of this box alone.");
  }
  if (own && windows && !profile.hasLines && !profile.raw.groups.tid) {
    if (profile.isDiff) told.push("A comparison keeps no source lines and threads: unpin the base to see them.");
    else if (windows > DETAILED) told.push(`Source lines and threads are kept of at most ${DETAILED} windows: choose a shorter range to see them.`);
  }
  return told;
}

const LINES = 12;

function lineList(profile, weights, key, whole) {
  const lines = sourceLines(profile, weights, key);
  if (!lines.length) return null;
  const file = fileName(profile.keyFile(key));
  const rows = lines.slice(0, LINES).map(([line, value]) => h("tr", {}, h("td", {}, `${file}:${line}`),
    h("td", {}, quantity(value, profile.unit)), h("td", {}, percent(value / whole.total))));
  const rest = lines.length - LINES;
  return h("section", {}, h("h3", {}, "Own time by source line"), h("table", { class: "lines" }, h("tbody", {}, ...rows)),
    rest > 0 && h("p", { class: "quiet" }, `and ${plural(rest, "more line", "more lines")}`));
}
