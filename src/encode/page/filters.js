// Filters by the labels of samples: for each label its values with their shares, of which some may be ticked.

import { h } from "./dom.js";
import { percent, plural } from "./format.js";

const WORDS = { process: "Process", pid: "PID", comm: "Thread by name", tid: "Thread", container: "Container", unit: "Unit", state: "State" };
const SHOWN = 60;

export function filterList(app) {
  const { profile, state: { filters }, narrowedBy } = app;
  const choices = choicesOf(profile);
  // What filters left out can still be chosen; and what is ticked can be let go, even where the profile does not tell it apart.
  for (const [key, values] of Object.entries((narrowedBy && app.choices) || {})) choices[key] = joined(values, choices[key] ?? []);
  for (const [key, ticked] of Object.entries(filters)) choices[key] = joined(choices[key] ?? [], ticked.map((text) => [text, 0]));
  const sections = Object.entries(choices).map(([key, values]) => section(app, key, values));
  const notes = notesOf(app).map((text) => h("p", { class: "quiet" }, text));
  return sections.length ? [...sections, ...notes] : [h("p", { class: "quiet" }, "The samples of this profile have no labels."), ...notes];
}

// The values of each label with their sums, the greatest first.
export function choicesOf(profile) {
  const totals = groupTotals(profile);
  return Object.fromEntries(profile.groupKeys().map((key) => [key, valuesOf(profile, key, totals)]));
}

function joined(values, more) {
  const known = new Set(values.map(([text]) => text));
  return [...values, ...more.filter(([text]) => !known.has(text))];
}

function notesOf({ profile, source, narrowedBy, choices, state }) {
  const notes = [];
  if (narrowedBy && !choices) notes.push("Listed is what the filters leave. Remove one to see what else there is.");
  if (narrowedBy && choices) notes.push("Shares are those from before the filters.");
  if (source.hasStore && !profile.raw.groups.tid) {
    notes.push(state.base ? "Threads can be chosen before a base is pinned."
      : "Threads are told apart in at most 30 windows: choose a shorter range to filter by one.");
  }
  return notes;
}

function groupTotals(profile) {
  const totals = new Float64Array(profile.groupCount());
  profile.sampleGroup.forEach((group, at) => { totals[group] += profile.sampleValue[at]; });
  return totals;
}

function valuesOf(profile, key, totals) {
  const sums = new Map();
  totals.forEach((total, group) => {
    const text = profile.groupText(key, group);
    sums.set(text, (sums.get(text) ?? 0) + total);
  });
  return [...sums].sort((a, b) => b[1] - a[1]);
}

function section(app, key, values) {
  const whole = values.reduce((sum, [, value]) => sum + value, 0) || 1;
  const rest = values.length - SHOWN;
  return h("section", {}, h("h3", {}, WORDS[key] ?? key),
    h("div", { class: "filter-list" }, ...values.slice(0, SHOWN).map(([text, value]) => {
      const box = h("input", { type: "checkbox", "data-key": key, "data-value": text, onchange: (event) => tick(app, key, text, event.target.checked) });
      box.checked = app.state.filters[key]?.includes(text) ?? false;
      return h("label", {}, box, h("span", { class: "filter-name", title: text }, text || "(none)"), h("span", { class: "quiet" }, percent(value / whole)));
    })),
    rest > 0 && h("p", { class: "quiet" }, `and ${plural(rest, "smaller one", "smaller ones")}`));
}

function tick(app, key, text, on) {
  const { filters } = app.state;
  const left = (filters[key] ?? []).filter((value) => value !== text);
  const next = { ...filters, [key]: on ? [...left, text] : left };
  if (!next[key].length) delete next[key];
  app.set({ filters: next });
}
