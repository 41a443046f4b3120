// Joins the parts: which element shows what, and what each key and button does.

import { announce, byId, fill, h, toast } from "./dom.js";
import { clock, duration, fileName, number, percent, plural, quantity, range, signed } from "./format.js";
import { callees, callers, ORIGINS } from "./model.js";
import { boxColors, diffColor, isDark, kindTint, SCHEMES } from "./colors.js";
import { openSource } from "./source.js";
import { FlameView } from "./flame.js";
import { Timeline } from "./timeline.js";
import { HeatMap } from "./heatmap.js";
import { Table } from "./table.js";
import { detailPanel, sumsOfKey, sumsOfNode, tooltip } from "./details.js";
import { chipsOf, qualityDetails, remarkList } from "./quality.js";
import { download, fileStem, folded, SERVER_FORMATS, svg } from "./export.js";
import { helpList, listen } from "./keyboard.js";
import { whereOf } from "./state.js";
import { filterList } from "./filters.js";
import { closeDialog, openDialog } from "./dialog.js";
import { App } from "./app.js";
import { nextTheme, startTheme } from "./theme.js";

const SWITCHES = { icicle: "icicle", invert: "inverted", recursion: "recursion", libraries: "libraries", inlined: "inlined", kernel: "kernel" };
const VIEWS = ["flame", "table", "sandwich"];

const app = new App(openSource(), {
  info: showInfo, series: showSeries, heat: showHeat, profile: showProfile, state: showState, waiting: showWaiting, failure: showFailure,
});
let selected = null;
// Milliseconds from each question to the picture of its answer.
const loads = [];

const flame = new FlameView(byId("flame"), {
  label: "Flame graph. Arrows move along the stacks, Enter zooms.", rootName,
  onhover: (node, event) => showTip(app.tree, node, event), onselect: (node) => select(app.tree, node),
  onzoom: (node) => app.set({ zoom: app.tree.pathHashes(node) }), onopen: (node) => openSandwich(app.tree.key[node]),
});
const halves = Object.fromEntries(["callers", "callees"].map((name) => [name, new FlameView(byId(name), {
  label: name === "callers" ? "Callers of the function, outermost at the far end" : "What the function calls", rootName,
  icicle: name === "callees", first: 1,
  onhover: (node, event) => showTip(halves[name].tree, node, event), onselect: (node) => select(halves[name].tree, node),
  onopen: (node) => openSandwich(halves[name].tree.key[node]),
})]));
const timeline = new Timeline(byId("timeline"), byId("legend"), (selection) => app.set({ selection }));
const heatmap = new HeatMap(byId("heatmap"), {
  onbrush: (selection) => app.set({ selection }, "heatmap"), onmove: announce,
  onhover: (text, event) => tipText(text, event),
});
const table = new Table(byId("table-view"), {
  onsort: (sort, ascending) => app.set({ sort, ascending }), onselect: selectKey, onopen: openSandwich,
});

function rootName() {
  const { profile, whole_: whole } = app;
  return `all · ${quantity(whole.total, profile.unit)}`;
}

// The controls' values, from the state.

function showInfo() {
  const { info } = app;
  fill(byId("kind"), ...info.kinds.map((kind) => h("option", { value: kind.name }, kind.name)));
  byId("kind").hidden = info.kinds.length < 2;
  const labels = info.labels.length ? info.labels : ["process", "pid", "container", "unit"];
  const named = labels.map((key) => (key === "comm" ? "process" : key));
  const keys = named.filter((key) => !["tid", "state"].includes(key)).concat(info.hosts.length > 1 ? ["host"] : []);
  const words = { process: "process", pid: "PID", container: "container", unit: "unit", host: "host" };
  fill(byId("by"), ...keys.filter((key, at) => keys.indexOf(key) === at).map((key) => h("option", { value: key }, words[key] ?? key)));
  fill(byId("color"), ...SCHEMES.map(([id, text]) => h("option", { value: id }, text)));
  const hasTimes = app.source.hasStore || app.source.hasTimes;
  byId("time").hidden = !hasTimes;
  byId("pin").hidden = byId("clear").hidden = !hasTimes;
}

function scheme() {
  const { color } = app.state;
  if (color && (color !== "diff" || app.profile.isDiff)) return color;
  return app.profile.isDiff ? "diff" : "package";
}

function showControls() {
  const { state, profile } = app;
  byId("kind").value = state.kind;
  byId("by").value = state.by;
  byId("color").value = scheme();
  byId("color").querySelector("[value=diff]").disabled = !profile.isDiff;
  byId("normalize").value = state.normalize;
  byId("normalize-label").hidden = !state.base;
  if (document.activeElement !== byId("search")) byId("search").value = state.search;
  byId("pin").setAttribute("aria-pressed", String(Boolean(state.base)));
  byId("pin").textContent = state.base ? "Unpin" : "Pin as base";
  byId("clear").disabled = !state.selection;
  byId("zoomtime").disabled = !state.selection;
  byId("wholetime").disabled = state.from === null && state.to === null;
  for (const [id, name] of Object.entries(SWITCHES)) byId(id).setAttribute("aria-pressed", String(state[name]));
  for (const view of VIEWS) {
    byId(`tab-${view}`).setAttribute("aria-selected", String(view === state.view));
    byId(`tab-${view}`).tabIndex = view === state.view ? 0 : -1;
    byId(`${view}-view`).hidden = view !== state.view;
  }
  showChips();
}

function showChips() {
  const { filters, focus } = app.state;
  const drop = (text, patch) => h("button", { type: "button", "aria-label": `Remove the filter ${text}`, onclick: () => app.set(patch()) }, `${text} ×`);
  const chips = Object.entries(filters).flatMap(([key, values]) => values.map((value) => drop(`${key}: ${value || "(none)"}`, () => {
    const left = values.filter((one) => one !== value);
    const next = { ...filters, [key]: left };
    if (!left.length) delete next[key];
    return { filters: next };
  })));
  if (focus) chips.push(drop(`with ${focus.name}`, () => ({ focus: null })));
  fill(byId("chips"), ...chips);
}

function showRange() {
  const { state, profile, whole_: whole } = app;
  const [from, to] = state.selection ?? [profile.raw.from_nanos / 1e9, profile.raw.to_nanos / 1e9];
  const { seconds } = profile;
  const time = to > from ? `${range(from, to)} (${duration(to - from)}) · ` : "";
  const cpus = profile.unit === "nanoseconds" && seconds > 0 ? `${number(whole.total / 1e9 / seconds)} CPUs · ` : "";
  byId("range").textContent = `${time}${cpus}${quantity(whole.total, profile.unit)} ${profile.raw.value.name} · ${plural(whole.count, "sample", "samples")}`;
  byId("base").textContent = state.base ? baseText() : "";
  timeline.setMarks(state.selection, state.base);
  heatmap.setMarks(state.selection, state.base);
}

function baseText() {
  const { state: { base }, profile, whole_: whole } = app;
  const sameDay = range(...base).slice(0, 10) === range(...app.range()).slice(0, 10);
  const text = `base ${sameDay ? range(...base).slice(11) : range(...base)} (${duration(base[1] - base[0])})`;
  const change = whole.total / whole.base - 1;
  return profile.isDiff && whole.base ? `${text}: ${signed(percent(change), change)}` : text;
}

// What was loaded.

function showSeries(data) {
  const unit = app.info.kinds.find((kind) => kind.name === app.state.kind)?.unit ?? "";
  timeline.show(data, unit);
  timeline.setMarks(app.state.selection, app.state.base);
}

function showHeat(data) {
  heatmap.show(data);
  heatmap.setMarks(app.state.selection, app.state.base);
  const [from, to] = app.heatWindow;
  const [first, last] = app.shown();
  byId("heat").hidden = !data.timed_windows;
  const left = data.untimed_windows ? `; ${plural(data.untimed_windows, "window", "windows")} without times of samples` : "";
  byId("heat-text").textContent = `Within seconds: ${clock(from)} – ${clock(to)}, a column a second, from below in rows of 20 ms${left}`;
  byId("heat-before").disabled = from <= first;
  byId("heat-after").disabled = to >= last;
}

function showProfile() {
  const { profile } = app;
  const { title } = profile.raw;
  byId("title").textContent = title || app.info.host || "";
  byId("title").title = title;
  document.title = `${title || app.info.host || "profile"} – rprof`;
  fill(byId("quality"), ...chipsOf(profile.raw));
  showState(new Set(["profile"]));
  requestAnimationFrame(() => requestAnimationFrame(() => loads.push(performance.now() - app.asked)));
}

function showWaiting(waits) {
  byId("main").setAttribute("aria-busy", String(waits));
}

function showFailure(text) {
  toast(text);
  announce(text);
  if (!app.profile) emptyText(text);
}

function emptyText(text) {
  byId("empty").textContent = text;
  byId("empty").hidden = !text;
}

const ONLY_ZOOM = new Set(["zoom"]);

// Everything that follows from the state. A zoom changes only the link: the graph has moved already.
function showState(changed) {
  if (!app.profile || [...changed].every((name) => ONLY_ZOOM.has(name))) return;
  const searchOnly = [...changed].every((name) => name === "search");
  if (!searchOnly) showAll(changed);
  flame.setMarked(app.search.marked);
  showSearch();
  if (app.state.view === "table") showTable();
  if (app.state.view === "sandwich") showSandwich(searchOnly);
}

// What a search leaves as it is.
function showAll(changed) {
  showControls();
  showRange();
  showLegend();
  emptyText(app.tree.width[0] > 0 ? "" : "No samples here: choose another time, or fewer filters.");
  if (flame.tree !== app.tree) {
    flame.setTree(app.tree, boxColors(app.tree, scheme()), app.tree.findPath(app.state.zoom));
    restoreSelection();
  } else if (changed.has("color") || changed.has("theme")) {
    flame.setColors(boxColors(app.tree, scheme()));
  }
  if (flame.icicle !== app.state.icicle) flame.setIcicle(app.state.icicle);
}

function showSearch() {
  const { search } = app;
  byId("search").setAttribute("aria-invalid", String(Boolean(search.bad)));
  byId("matched").textContent = search.marked ? `${percent(search.share)} matched` : "";
  byId("matched").title = search.marked ? plural(search.count, "function matches", "functions match") : "";
}

function showTable() {
  const { sort, ascending } = app.state;
  const key = selected?.of.key ?? -1;
  table.show(app.profile, app.sums, app.whole_.total || 1, { sort, ascending, marked: app.search.marked, selected: key });
}

function showSandwich(searchOnly) {
  const { profile, state } = app;
  const key = state.sandwich ? profile.findFunction(state.sandwich.name, state.sandwich.module) : -1;
  const mark = () => Object.values(halves).forEach((view) => { if (view.tree) view.setMarked(app.search.marked); });
  if (searchOnly && halves.callers.tree) {
    mark();
    return;
  }
  byId("sandwich-text").textContent = key < 0
    ? "Select a function in the flame graph or the table, then press 3."
    : `${profile.keyName(key)} · ${quantity(app.sums.total[key], profile.unit)}, ${percent(app.sums.total[key] / (app.whole_.total || 1))} of all; own ${quantity(app.sums.self[key], profile.unit)}`;
  for (const [name, make] of [["callers", callers], ["callees", callees]]) {
    const tree = make(profile, app.weights, app.options(), key);
    byId(name).hidden = key < 0;
    halves[name].setTree(tree, boxColors(tree, scheme()), tree.n > 1 ? 1 : 0);
  }
  mark();
  if (key >= 0) selectKey(key);
}

// Which boxes have the colour of a difference that may be chance.
function untested() {
  if (!app.profile.changes) return " Nothing is tested: one side is empty.";
  return app.state.libraries ? " Modules as one frame are not tested: theirs is the plain difference." : "";
}

function showLegend() {
  byId("color-legend").hidden = app.state.view === "table";
  const items = (pairs) => pairs.map(([color, text]) => {
    const swatch = h("span", { class: "swatch" });
    swatch.style.background = color;
    return h("span", { class: "legend-item" }, swatch, text);
  });
  const dark = isDark();
  const shown = scheme();
  if (shown === "diff") {
    const by = app.source.hasStore ? "not significant" : "not significant, by counting alone";
    const colors = [[diffColor(4, 1, true, dark), "more than in the base"], [diffColor(1, 4, true, dark), "less, or gone"]];
    if (app.profile.changes) colors.push([diffColor(1, 1, false, dark), by]);
    fill(byId("color-legend"), ...items(colors), h("span", {}, `A box is as wide as the greater side.${untested()}`));
  } else if (shown === "kind") {
    const kinds = [...new Set(app.profile.functionOrigin)].sort();
    fill(byId("color-legend"), ...items(kinds.map((kind) => [kindTint(kind), ORIGINS[kind]])));
  } else {
    fill(byId("color-legend"), h("span", {}, app.state.inverted ? "From the innermost function to its callers; width is the share of the value." : "Width is the share of the value, not time; beside each other stand the widest first."));
  }
}

// Selecting.

function select(tree, node) {
  selected = { tree, node, of: sumsOfNode(tree, node) };
  showDetail();
  const { of } = selected;
  announce(`${app.profile.keyName(of.key)}, ${percent(of.total / (app.whole_.total || 1))}, own ${percent(of.self / (app.whole_.total || 1))}`);
}

function selectKey(key) {
  selected = { tree: null, node: -1, of: sumsOfKey(app.sums, key) };
  showDetail();
  announce(`${app.profile.keyName(key)}, ${percent(selected.of.total / (app.whole_.total || 1))}`);
}

function restoreSelection() {
  const node = app.tree.findPath(app.state.zoom);
  selected = { tree: app.tree, node, of: sumsOfNode(app.tree, node) };
  if (node > 0) flame.cursor = node;
  showDetail();
}

function showDetail() {
  fill(byId("detail"), ...detailPanel(app.profile, app.whole_, app.weights, selected.of, {
    sandwich: openSandwich, focus: focusOn, copy: (text) => copy(text, "The name is copied."),
  }, { focus: app.state.focus, windows: app.source.hasStore ? app.info.windows : 0 }));
}

function nameOf(key) {
  return { name: app.profile.keyName(key), module: fileName(app.profile.keyModule(key)) };
}

function openSandwich(key) {
  if (key < 0) return;
  hideTip();
  app.set({ view: "sandwich", sandwich: nameOf(key) });
}

function focusOn(key) {
  if (key >= 0) app.set({ focus: nameOf(key) });
}

// The tooltip.

function showTip(tree, node, event) {
  if (!tree || node < 0) {
    hideTip();
    return;
  }
  fill(byId("tip"), ...tooltip(app.profile, app.whole_, sumsOfNode(tree, node)));
  placeTip(event);
}

function tipText(text, event) {
  if (!text) {
    hideTip();
    return;
  }
  byId("tip").textContent = text;
  placeTip(event);
}

function placeTip(event) {
  const tip = byId("tip");
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = event.clientX + 16 + width > innerWidth ? event.clientX - width - 12 : event.clientX + 16;
  const top = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

// What buttons and keys do.

async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
    toast(said);
  } catch {
    openDialog("Copy this", [h("input", { type: "text", value: text, readonly: true, "aria-label": "Text to copy", class: "wide" })]);
  }
}

function turn(name) {
  app.set({ [name]: !app.state[name] });
}

function pin() {
  const { state } = app;
  if (state.base) {
    app.set({ base: null });
    return;
  }
  app.set({ base: app.range(), selection: state.selection });
  toast("The range is the base now. Choose another one to compare it with.");
}

function showExports() {
  const { profile, state } = app;
  const stem = fileStem(profile.raw.title || "profile");
  const inPage = h("div", { class: "exports" },
    h("button", { type: "button", id: "export-svg", onclick: () => download(`${stem}.svg`, "image/svg+xml", pictureOf()) }, "SVG as on the screen"),
    h("button", { type: "button", id: "export-folded", onclick: () => download(`${stem}.folded`, "text/plain", folded(app.tree)) }, profile.isDiff ? "Folded stacks as on the screen: base, new" : "Folded stacks as on the screen"));
  const parts = [h("h3", {}, "What is shown, with filters and collapsed frames"), inPage];
  if (app.source.hasStore) {
    const [from, to] = app.range();
    const links = SERVER_FORMATS.map(([format, text]) => h("a", {
      href: app.source.exportAddress({ from, to, kind: state.kind, where: whereOf(state.filters, ["process", "comm", "pid", "tid", "container", "unit", "state"]), format }),
      download: "", "data-format": format,
    }, text));
    parts.push(h("h3", {}, state.base ? "The range with its filters, whole, without the base" : "The range with its filters, whole"), h("div", { class: "exports" }, ...links));
  }
  openDialog("Export", parts);
}

function showQuality() {
  const { raw } = app.profile;
  const isOther = Boolean(raw.base) && raw.base.quality !== raw.quality;
  openDialog("Quality of the profile", [
    ...remarkList(raw.remarks), ...qualityDetails(isOther ? "The range" : "", raw.quality), ...(isOther ? qualityDetails("The base", raw.base.quality) : []),
  ]);
}

function showFilters() {
  openDialog("Filters", filterList(app));
}

function nextMatch(step) {
  if (app.state.view !== "flame") return;
  flame.nextMarked(step);
}

function escape() {
  if (byId("dialog").open) return;
  hideTip();
  if (document.activeElement === byId("search")) byId("search").blur();
  if (app.state.search) {
    byId("search").value = "";
    app.set({ search: "" });
  } else if (flame.zoomed > 0) {
    flame.zoom(0);
  }
}

function openTab(view) {
  const patch = { view };
  if (view === "sandwich" && selected?.of.key >= 0) patch.sandwich = nameOf(selected.of.key);
  app.set(patch);
}

function zoomTime() {
  const { selection } = app.state;
  if (selection) app.set({ from: selection[0], to: selection[1] });
}

function nextColor() {
  const ids = SCHEMES.map(([id]) => id).filter((id) => id !== "diff" || app.profile.isDiff);
  app.set({ color: ids[(ids.indexOf(scheme()) + 1) % ids.length] });
}

function retheme() {
  timeline.render();
  heatmap.draw();
  if (!app.profile) return;
  showState(new Set(["theme"]));
  if (app.state.view === "sandwich") showSandwich(false);
}

const acts = {
  search: () => { byId("search").focus(); byId("search").select(); }, next: () => nextMatch(1), previous: () => nextMatch(-1),
  flame: () => openTab("flame"), table: () => openTab("table"), sandwich: () => openTab("sandwich"),
  icicle: () => turn("icicle"), invert: () => turn("inverted"), color: nextColor, recursion: () => turn("recursion"),
  libraries: () => turn("libraries"), inlined: () => turn("inlined"), kernel: () => turn("kernel"), filter: showFilters,
  focus: () => focusOn(selected?.of.key ?? -1), pin, clear: () => app.set({ selection: null }), zoomtime: zoomTime,
  export: showExports, link: () => copy(app.link(), "The link is copied: it shows what you see."), theme: () => nextTheme(retheme, toast),
  help: () => openDialog("Keys", [helpList()]), escape,
};

function wire() {
  const on = (id, event, act) => byId(id).addEventListener(event, act);
  for (const id of ["link", "export", "help", "pin", "clear", "filter", "zoomtime", "theme"]) on(id, "click", () => acts[id]());
  for (const view of VIEWS) on(`tab-${view}`, "click", () => openTab(view));
  for (const [id, name] of Object.entries(SWITCHES)) on(id, "click", () => turn(name));
  for (const id of ["kind", "by", "color", "normalize"]) on(id, "change", (event) => app.set({ [id]: event.target.value }));
  on("search", "input", (event) => app.set({ search: event.target.value }));
  on("search", "keydown", (event) => { if (event.key === "Enter") nextMatch(event.shiftKey ? -1 : 1); });
  on("quality", "click", showQuality);
  on("wholetime", "click", () => app.set({ from: null, to: null }));
  on("heat-before", "click", () => app.moveHeat(-1));
  on("heat-after", "click", () => app.moveHeat(1));
  on("dialog-close", "click", closeDialog);
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const view = VIEWS[(VIEWS.indexOf(app.state.view) + step + VIEWS.length) % VIEWS.length];
    openTab(view);
    byId(`tab-${view}`).focus();
  });
  addEventListener("popstate", () => app.restore());
  addEventListener("hashchange", () => app.restore());
  listen(acts);
}

function viewOf(name) {
  return name === "flame" ? flame : halves[name];
}

function verdictOf(key) {
  const { changes } = app.profile;
  const row = changes ? changes.row[key] : undefined;
  return row >= 0 ? { verdict: changes.verdict[row], significant: changes.significant[row] === 1, self: changes.significant_self[row] === 1, low: changes.low[row], high: changes.high[row] } : null;
}

// The boxes of the flame graph with both sides and their colours.
function drawn() {
  const { tree } = app;
  const colors = boxColors(tree, scheme());
  return Array.from({ length: tree.n - 1 }, (_, at) => at + 1).map((node) => ({
    name: app.profile.keyName(tree.key[node]), now: tree.total[node], base: tree.baseTotal?.[node] ?? 0, color: colors.of(node),
    verdict: verdictOf(tree.key[node]),
  }));
}

function pictureOf() {
  const title = app.profile.isDiff ? `${document.title} · ${baseText()}` : document.title;
  return svg(app.tree, boxColors(app.tree, scheme()), title, app.state.icicle, flame.zoomed);
}

// For tests and for programs that read the page: what is shown, without pixels.
window.rprof = {
  state: () => structuredClone(app.state),
  isReady: () => Boolean(app.profile) && byId("main").getAttribute("aria-busy") !== "true",
  whole: () => ({ ...app.whole_ }),
  selected: () => (selected ? { ...selected.of, name: app.profile.keyName(selected.of.key) } : null),
  search: () => ({ count: app.search.count, share: app.search.share, time: app.search.time ?? 0 }),
  boxes: () => app.tree.n,
  names: (view) => [...new Set(Array.from(viewOf(view).tree.key, (key) => app.profile.keyName(key)))],
  functions: () => app.sums.used.map((key) => ({ name: app.profile.keyName(key), ...sumsOfKey(app.sums, key) })),
  zoomed: () => app.profile.keyName(app.tree.key[flame.zoomed]),
  place: (name, view = "flame") => viewOf(view).place(name),
  verdict: (name) => verdictOf(app.profile.findFunction(name, "")),
  drawn: () => drawn(),
  link: () => app.link(),
  folded: () => folded(app.tree),
  svg: () => pictureOf(),
  timings: () => ({ build: app.buildTime, paints: [...flame.frames], loads: [...loads] }),
  forgetTimings: () => { flame.frames.length = 0; },
  heat: () => heatmap.data && { columns: heatmap.data.columns, sum: heatmap.data.cells.reduce((sum, value) => sum + value, 0) },
};

startTheme(retheme);
wire();
app.start().catch((error) => app.fail(error));
