// The page's one object: the state, what was loaded for it, and what is made of that. Data flows one way: a change of the
// state decides what is loaded anew, what is built anew, and then all is shown.

import { bottomUp, focusStacks, Profile, sumKeys, topDown, weigh } from "./model.js";
import { compareTimes } from "./compare.js";
import { whenIdle } from "./dom.js";
import { choicesOf } from "./filters.js";
import { dropOuterGaps } from "./quality.js";
import { fromFragment, toFragment, whereOf } from "./state.js";

const INDEX_KEYS = ["process", "pid", "container", "unit"];
const SAMPLE_KEYS = [...INDEX_KEYS, "comm", "tid", "state"];
const LOADS_PROFILE = ["kind", "from", "to", "selection", "base", "normalize"];
const LOADS_SERIES = ["kind", "from", "to", "by", "filters"];
const LOADS_HEAT = ["kind", "from", "to", "selection", "heat", "filters"];
const BUILDS = [...LOADS_PROFILE, "filters", "focus", "inverted", "recursion", "libraries", "inlined", "kernel"];
const MOVES_HEAT = ["from", "to", "selection"];
const STEPS_OF_HISTORY = ["selection", "base", "view", "sandwich", "focus"];
const HEAT_MOST = 600;
const HEAT_LEAST = 120;
const NANOS = 1e9;
const LONG = 7200;
const FIRST_SHOWN = 900;

export class App {
  // `shows`: what is called when something changed (see main.js).
  constructor(source, shows) {
    this.source = source;
    this.shows = shows;
    this.state = fromFragment(location.hash);
    this.heatWindow = null;
    this.search = { text: "", marked: null, share: 0, count: 0 };
  }

  async start() {
    this.info = await this.source.info();
    const known = this.info.kinds.map((kind) => kind.name);
    if (!known.includes(this.state.kind)) this.state.kind = known.includes("cpu") ? "cpu" : known[0] ?? "";
    this.shows.info();
    this.beginLate();
    await this.reload(new Set([...LOADS_PROFILE, ...LOADS_SERIES]), false);
  }

  // Of a long store the last quarter of an hour is shown at first: it is there at once, and what most want to see.
  beginLate() {
    const [from, to] = this.whole();
    if (location.hash.length < 2 && to - from > LONG) this.state.selection = [to - FIRST_SHOWN, to];
  }

  // The whole time of the store, in seconds since 1970.
  whole() {
    return [this.info.from_nanos / NANOS, this.info.to_nanos / NANOS];
  }

  shown() {
    const [from, to] = this.whole();
    return [this.state.from ?? from, this.state.to ?? to];
  }

  // The range that the graph is of.
  range() {
    return this.state.selection ?? this.shown();
  }

  // Changes the state. `from` tells which part asked, where that matters.
  set(patch, from = "") {
    const changed = new Set(Object.keys(patch).filter((name) => JSON.stringify(patch[name]) !== JSON.stringify(this.state[name])));
    if (!changed.size) return Promise.resolve();
    Object.assign(this.state, patch);
    // Where the heat map was moved to is left with the range, unless that was chosen in the heat map itself.
    if (from !== "heatmap" && !changed.has("heat") && MOVES_HEAT.some((name) => changed.has(name))) this.state.heat = null;
    const clears = BUILDS.some((name) => changed.has(name)) && !changed.has("zoom");
    if (clears) this.state.zoom = [];
    this.writeLink(STEPS_OF_HISTORY.some((name) => changed.has(name)));
    return this.reload(changed, from === "heatmap");
  }

  // The link for others: its times stand in it, whatever is recorded meanwhile. The end of the store is rounded up, so that nothing of
  // the last window is cut off.
  link() {
    const [from, to] = this.shown();
    const times = to > from ? { from, to: this.state.to ?? Math.ceil(to * 1000) / 1000, heat: this.heatWindow } : {};
    return `${location.href.split("#")[0]}#${toFragment({ ...this.state, ...times })}`;
  }

  writeLink(step) {
    const fragment = `#${toFragment(this.state)}`;
    if (fragment === location.hash) return;
    // From a file, some browsers do not let a page write its history.
    try {
      history[step ? "pushState" : "replaceState"](null, "", fragment);
    } catch {
      location.hash = fragment;
    }
  }

  // The link was changed by the user, or by the buttons back and forward.
  restore() {
    if (location.hash === `#${toFragment(this.state)}`) return;
    const kind = this.state.kind;
    const next = fromFragment(location.hash);
    next.kind ||= kind;
    const changed = new Set(Object.keys(next).filter((name) => JSON.stringify(next[name]) !== JSON.stringify(this.state[name])));
    this.state = next;
    this.reload(changed, false);
  }

  async reload(changed, keepHeat) {
    const touches = (names) => names.some((name) => changed.has(name));
    const jobs = [];
    const loads = touches(LOADS_PROFILE) || this.where() !== this.narrowedBy;
    if (loads) jobs.push(this.loadProfile());
    if (touches(LOADS_SERIES)) jobs.push(this.loadSeries());
    if (touches(LOADS_HEAT)) jobs.push(this.loadHeat(keepHeat));
    if (!loads) {
      if (touches(BUILDS)) this.build();
      else if (changed.has("search")) this.find();
      this.shows.state(changed);
    } else {
      this.shows.waiting(true);
    }
    await Promise.all(jobs.map((job) => job.catch((error) => this.fail(error))));
  }

  fail(error) {
    if (error.name === "AbortError") return;
    this.shows.waiting(false);
    this.shows.failure(error.message);
  }

  async loadProfile() {
    this.asked = performance.now();
    const where = this.where();
    this.narrowedBy = where;
    const raw = await this.rawProfile(where);
    dropOuterGaps(raw, this.info);
    this.shows.waiting(false);
    this.profile = new Profile(raw);
    if (!where) this.choices = choicesOf(this.profile);
    this.build();
    this.shows.profile();
    this.prepareSearch(this.profile);
  }

  // The first letter of a search is to be as quick as the others.
  prepareSearch(profile) {
    whenIdle((hasTime) => this.profile !== profile || profile.prepareSearch(hasTime));
  }

  // What is selected before anything is added up. A comparison judges only what filters leave, and where threads are not
  // told apart (in long ranges, in comparisons) only the server can choose one. All other filters are applied in the page.
  where() {
    const { base, filters } = this.state;
    if (base) return whereOf(filters, SAMPLE_KEYS);
    return this.source.hasStore ? whereOf(filters, ["tid"]) : "";
  }

  // The filters that the page applies itself.
  filtersHere() {
    const { tid, ...others } = this.state.filters;
    return this.source.hasStore ? others : this.state.filters;
  }

  async rawProfile(where) {
    const { kind, base, normalize, selection } = this.state;
    const [from, to] = this.range();
    if (!this.source.hasStore) {
      const raw = await this.source.profile();
      return base && this.source.hasTimes ? compareTimes(raw, base, [from, to], normalize, this.filter()) : raw;
    }
    if (base) return this.source.diff({ kind, from, to, base_from: base[0], base_to: base[1], normalize, where });
    return this.source.profile({ kind, from, to: selection || this.state.to !== null ? to : to + 1, where });
  }

  // Filters as a predicate over groups, for what is made in the page.
  filter() {
    const wanted = Object.entries(this.state.filters).filter(([, values]) => values.length);
    return (group) => wanted.every(([key, values]) => values.includes(this.source.text(key, group)));
  }

  async loadSeries() {
    const { kind, by, filters } = this.state;
    const [from, to] = this.shown();
    if (!(to > from)) return;
    const query = this.source.hasStore ? { where: whereOf(filters, INDEX_KEYS), step: step(from, to) } : { filter: this.filter() };
    const data = await this.source.series({ kind, from, to, by, ...query });
    if (data) this.shows.series(data);
  }

  // The part of the time that the heat map shows: about the range, and never more than ten minutes.
  chooseHeat(keep) {
    const [first, last] = this.shown();
    const [from, to] = this.range();
    const { heat } = this.state;
    if (heat) return [heat[0], Math.min(heat[1], heat[0] + HEAT_MOST)];
    const old = this.heatWindow;
    if (keep && old && from >= old[0] - 1 && to <= old[1] + 1) return old;
    if (to - from >= HEAT_LEAST) return [from, Math.min(to, from + HEAT_MOST)];
    const middle = (from + to) / 2;
    const start = Math.max(first, Math.min(middle - HEAT_LEAST / 2, last - HEAT_LEAST));
    return [start, Math.min(last, start + HEAT_LEAST)];
  }

  async loadHeat(keep) {
    this.heatWindow = this.chooseHeat(keep);
    const [from, to] = this.heatWindow;
    if (!(to > from)) return;
    const query = this.source.hasStore ? { where: whereOf(this.state.filters, SAMPLE_KEYS) } : { filter: this.filter() };
    const data = await this.source.heatmap({ kind: this.state.kind, from, to, ...query });
    this.shows.heat(data);
  }

  moveHeat(direction) {
    const [first, last] = this.shown();
    const [from, to] = this.heatWindow;
    const size = to - from;
    const start = Math.max(first, Math.min(last - size, from + direction * size));
    this.set({ heat: [start, start + size] });
  }

  options() {
    const { recursion, libraries, inlined, kernel } = this.state;
    return { recursion, libraries, inlined, kernel };
  }

  // Weights, trees and sums anew.
  build() {
    const begun = performance.now();
    const { profile, state } = this;
    const within = this.timeWithin();
    profile.seconds = (within ? within[1] - within[0] : profile.raw.covered_nanos) / NANOS;
    this.weights = weigh(profile, this.filtersHere(), within);
    if (state.focus) this.focusOn(state.focus);
    const down = topDown(profile, this.weights, this.options());
    this.sums = sumKeys(down);
    this.tree = state.inverted ? bottomUp(profile, this.weights, this.options()) : down;
    this.whole_ = { total: down.total[0], count: down.count[0], base: down.baseTotal?.[0] ?? 0 };
    this.find();
    this.buildTime = performance.now() - begun;
  }

  // In a file of one profile the range is cut here; a server has cut it.
  timeWithin() {
    if (this.source.hasStore || !this.state.selection || this.profile.isDiff) return null;
    const start = this.profile.raw.from_nanos / NANOS;
    return this.state.selection.map((time) => (time - start) * NANOS);
  }

  focusOn({ name, module }) {
    const key = this.profile.findFunction(name, module);
    const marked = new Uint8Array(this.profile.keys);
    if (key >= 0) marked[key] = 1;
    focusStacks(this.profile, this.weights, marked);
  }

  // Marks the functions that the search matches: names, and files of code.
  find() {
    const { search } = this.state;
    if (!search) {
      this.search = { text: "", marked: null, share: 0, count: 0, bad: false };
      return;
    }
    const begun = performance.now();
    const { matches, bad, anyCase } = compile(search);
    const { profile } = this;
    const marked = new Uint8Array(profile.keys);
    const names = anyCase ? profile.smallNames() : null;
    const modules = profile.modules.map((module) => matches(anyCase ? module.toLowerCase() : module));
    let count = 0;
    for (const key of this.sums.used) {
      if (!modules[profile.moduleOf[key]] && !matches(names ? names[key] : profile.keyName(key))) continue;
      marked[key] = 1;
      count++;
    }
    const whole = this.tree.total[0];
    this.search = { text: search, marked, count, bad, share: whole ? this.tree.matched(marked) / whole : 0, time: performance.now() - begun };
  }
}

// Capital letters make the search tell them from small ones. What is no expression is taken as it is written.
// A plain text is looked for among names that are in small letters already: of a hundred thousand, each letter that is typed has to be quick.
function compile(text) {
  const plain = !/[\\^$.*+?()[\]{}|]/.test(text);
  const anyCase = plain && !/[A-Z]/.test(text);
  if (plain) return { matches: (name) => name.includes(text), bad: false, anyCase };
  try {
    const pattern = new RegExp(text, /[A-Z]/.test(text) ? "" : "i");
    return { matches: (name) => pattern.test(name), bad: false, anyCase };
  } catch {
    const small = /[A-Z]/.test(text) ? null : text.toLowerCase();
    return { matches: (name) => (small === null ? name.includes(text) : name.toLowerCase().includes(small)), bad: true, anyCase };
  }
}

// A step that gives some hundred points, as a duration that the server reads.
function step(from, to) {
  const wanted = (to - from) / 300;
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  return `${steps.find((one) => one >= wanted) ?? Math.ceil(wanted / 86400) * 86400}s`;
}
