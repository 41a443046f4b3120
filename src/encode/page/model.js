// A profile in typed arrays, and what is made of it: weights of stacks after filters, trees, sums of functions.

import { fileName } from "./format.js";

export const ORIGINS = ["user code", "inlined", "kernel", "made at run time", "no code", "interpreter"];
export const INLINED = 1;
export const KERNEL = 2;
const TEXT_KEYS = ["process", "comm", "container", "unit", "state"];

export class Profile {
  constructor(raw) {
    this.raw = raw;
    this.strings = raw.strings;
    this.unit = raw.value.unit;
    this.functionName = Int32Array.from(raw.functions.name);
    this.functionModule = Int32Array.from(raw.functions.module);
    this.functionFile = Int32Array.from(raw.functions.file);
    this.functionOrigin = Uint8Array.from(raw.functions.origin);
    this.frameFunction = Int32Array.from(raw.frames.function);
    this.frameLine = Int32Array.from(raw.frames.line);
    this.hasLines = raw.frames.line.some((line) => line > 0);
    this.frameOrigin = raw.frames.origin
      ? Uint8Array.from(raw.frames.origin)
      : Uint8Array.from(raw.frames.function, (id) => raw.functions.origin[id]);
    this.stackParent = Int32Array.from(raw.stacks.parent);
    this.stackFrame = Int32Array.from(raw.stacks.frame);
    this.sampleStack = Int32Array.from(raw.samples.stack);
    this.sampleGroup = Int32Array.from(raw.samples.group);
    this.sampleValue = Float64Array.from(raw.samples.value);
    this.sampleCount = Float64Array.from(raw.samples.count);
    this.isDiff = Boolean(raw.base);
    this.sampleBase = this.isDiff ? Float64Array.from(raw.samples.base) : null;
    this.sampleBaseCount = this.isDiff ? Float64Array.from(raw.samples.base_count ?? raw.samples.base) : null;
    this.sampleTime = raw.samples.time?.length ? Float64Array.from(raw.samples.time) : null;
    this.functions = this.functionName.length;
    this.stacks = this.stackParent.length;
    this.baseScale = this.isDiff ? baseScale(raw) : 1;
    this.readModules();
    this.changes = this.isDiff && raw.changes ? readChanges(raw.changes, this.functions) : null;
  }

  // Modules get numbers behind those of the functions: a module may be drawn as one frame.
  readModules() {
    const known = new Map();
    this.modules = [];
    const moduleOf = Int32Array.from(this.functionModule, (text) => {
      if (!known.has(text)) {
        known.set(text, this.modules.length);
        this.modules.push(this.strings[text]);
      }
      return known.get(text);
    });
    this.moduleIsLibrary = this.modules.map(isLibrary);
    this.keys = this.functions + this.modules.length;
    this.moduleOf = new Int32Array(this.keys);
    this.moduleOf.set(moduleOf);
    this.modules.forEach((_, module) => { this.moduleOf[this.functions + module] = module; });
    this.small = [];
  }

  // What is drawn of a key: a function, or a module as a whole.
  keyName(key) {
    if (key < 0) return "all";
    if (key < this.functions) return this.strings[this.functionName[key]];
    return fileName(this.modules[key - this.functions]) || "[no module]";
  }

  // Names in small letters, by key, for the search.
  smallNames() {
    this.prepareSearch(() => true);
    return this.small;
  }

  // Makes them while there is time, and answers whether all are there. In between it goes on where it was.
  prepareSearch(hasTime) {
    const { small, keys } = this;
    while (small.length < keys && hasTime()) {
      const end = Math.min(keys, small.length + 1000);
      while (small.length < end) small.push(this.keyName(small.length).toLowerCase());
    }
    return small.length === keys;
  }

  keyModule(key) {
    if (key < 0) return "";
    return key < this.functions ? this.strings[this.functionModule[key]] : this.modules[key - this.functions];
  }

  keyFile(key) {
    return key >= 0 && key < this.functions ? this.strings[this.functionFile[key]] : "";
  }

  findFunction(name, module) {
    for (let key = 0; key < this.keys; key++) {
      if (this.keyName(key) === name && (!module || fileName(this.keyModule(key)) === module)) return key;
    }
    return -1;
  }

  // The labels that samples have, as texts: "comm" of a group.
  groupText(key, group) {
    const value = this.raw.groups[key]?.[group];
    if (value === undefined) return "";
    return TEXT_KEYS.includes(key) ? this.strings[value] : value < 0 ? "" : String(value);
  }

  groupKeys() {
    return Object.keys(this.raw.groups);
  }

  groupCount() {
    const [first] = Object.values(this.raw.groups);
    return first ? first.length : 1;
  }
}

function isLibrary(path) {
  return /\.so(\.|$)/.test(path) || path.startsWith("[") || /\.(dll|dylib)$/.test(path);
}

// By how much values of the base are multiplied to stand beside those of the new side.
function baseScale(raw) {
  const { base } = raw;
  if (raw.normalize === "samples") return 1;
  if (raw.normalize === "share") return base.total ? raw.total / base.total : 1;
  const cpus = (side) => side.covered_nanos * Math.max(1, side.cpus || 0);
  return cpus(base) > 0 && cpus(raw) > 0 ? cpus(raw) / cpus(base) : 1;
}

function readChanges(raw, functions) {
  const row = new Int32Array(functions).fill(-1);
  raw.function.forEach((id, at) => { row[id] = at; });
  return { ...raw, row };
}

// The weight of each stack itself, of the samples that filters leave.
export function weigh(profile, filters, time) {
  const { stacks, sampleStack, sampleGroup } = profile;
  const weights = {
    value: new Float64Array(stacks),
    count: new Float64Array(stacks),
    base: profile.isDiff ? new Float64Array(stacks) : null,
    baseCount: profile.isDiff ? new Float64Array(stacks) : null,
  };
  const kept = keptGroups(profile, filters);
  const times = time && profile.sampleTime;
  for (let at = 0; at < sampleStack.length; at++) {
    if (kept && !kept[sampleGroup[at]]) continue;
    if (times && (times[at] < time[0] || times[at] >= time[1])) continue;
    const stack = sampleStack[at];
    weights.value[stack] += profile.sampleValue[at];
    weights.count[stack] += profile.sampleCount[at];
    if (weights.base) {
      weights.base[stack] += profile.sampleBase[at] * profile.baseScale;
      weights.baseCount[stack] += profile.sampleBaseCount[at];
    }
  }
  return weights;
}

// Filters are { key: [values] }: of a key any value, of all keys.
function keptGroups(profile, filters) {
  const wanted = Object.entries(filters).filter(([, values]) => values.length);
  if (!wanted.length) return null;
  return Uint8Array.from({ length: profile.groupCount() }, (_, group) =>
    wanted.every(([key, values]) => values.includes(profile.groupText(key, group))) ? 1 : 0);
}

// Drops the stacks that do not hold any of the marked functions.
export function focusStacks(profile, weights, marked) {
  const { stackParent, stackFrame, frameFunction, stacks } = profile;
  const inside = new Uint8Array(stacks);
  for (let stack = 0; stack < stacks; stack++) {
    const parent = stackParent[stack];
    inside[stack] = (parent >= 0 && inside[parent]) || marked[frameFunction[stackFrame[stack]]] ? 1 : 0;
    if (inside[stack]) continue;
    for (const column of Object.values(weights)) if (column) column[stack] = 0;
  }
}

// What stands for a frame under the options of the view: a key, or -1 if it is left out.
function frameKeys(profile, options) {
  const { frameFunction, frameOrigin, moduleOf, moduleIsLibrary, functions } = profile;
  return Int32Array.from(frameFunction, (id, frame) => {
    if (options.inlined && frameOrigin[frame] === INLINED) return -1;
    if (options.kernel && frameOrigin[frame] === KERNEL) return -1;
    const module = moduleOf[id];
    return options.libraries && moduleIsLibrary[module] ? functions + module : id;
  });
}

class TreeBuilder {
  constructor(profile, options) {
    this.profile = profile;
    this.options = options;
    this.key = frameKeys(profile, options);
    this.n = 1;
    this.grow(1 << 10);
    this.slots = new Int32Array(1 << 12).fill(-1);
    this.nodeKey[0] = -1;
    this.parent[0] = -1;
    this.frame[0] = -1;
  }

  grow(room) {
    for (const name of ["parent", "nodeKey", "frame"]) {
      const old = this[name];
      this[name] = new Int32Array(room);
      if (old) this[name].set(old);
    }
    for (const name of ["self", "selfCount", "base", "baseCount"]) {
      const old = this[name];
      this[name] = new Float64Array(room);
      if (old) this[name].set(old);
    }
  }

  // The child of a node for a key; open addressing, as a map of objects would be slow.
  child(parent, key, frame) {
    const mask = this.slots.length - 1;
    let slot = (Math.imul(parent, 0x9e3779b1) ^ Math.imul(key + 1, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & mask;
    for (;;) {
      const node = this.slots[slot];
      if (node < 0) break;
      if (this.parent[node] === parent && this.nodeKey[node] === key) return node;
      slot = (slot + 1) & mask;
    }
    const node = this.n++;
    if (node >= this.parent.length) this.grow(this.parent.length * 2);
    this.parent[node] = parent;
    this.nodeKey[node] = key;
    this.frame[node] = frame;
    this.slots[slot] = node;
    if (this.n * 2 > this.slots.length) this.rehash();
    return node;
  }

  rehash() {
    const size = this.slots.length * 2;
    this.slots = new Int32Array(size).fill(-1);
    for (let node = 1; node < this.n; node++) {
      let slot = (Math.imul(this.parent[node], 0x9e3779b1) ^ Math.imul(this.nodeKey[node] + 1, 0x85ebca6b)) >>> 0;
      slot = (slot ^ (slot >>> 15)) & (size - 1);
      while (this.slots[slot] >= 0) slot = (slot + 1) & (size - 1);
      this.slots[slot] = node;
    }
  }

  // Below a node, with the folding that options ask for.
  step(node, frame) {
    const key = this.key[frame];
    if (key < 0) return node;
    if (key >= this.profile.functions && this.nodeKey[node] === key) return node;
    if (this.options.recursion) {
      for (let up = node; up > 0; up = this.parent[up]) if (this.nodeKey[up] === key) return up;
    }
    return this.child(node, key, frame);
  }

  add(node, value, count, base, baseCount) {
    this.self[node] += value;
    this.selfCount[node] += count;
    this.base[node] += base;
    this.baseCount[node] += baseCount;
  }

  finish() {
    const cut = (array) => array.slice(0, this.n);
    return new Tree(this.profile, {
      parent: cut(this.parent), key: cut(this.nodeKey), frame: cut(this.frame), self: cut(this.self),
      selfCount: cut(this.selfCount), selfBase: cut(this.base), selfBaseCount: cut(this.baseCount),
    });
  }
}

// Sums up from the leaves: a parent stands before its children.
function totals(parent, own) {
  const sum = Float64Array.from(own);
  for (let at = sum.length - 1; at >= 0; at--) if (parent[at] >= 0) sum[parent[at]] += sum[at];
  return sum;
}

// A tree of boxes. Node 0 is the whole.
class Tree {
  constructor(profile, columns) {
    Object.assign(this, columns);
    this.profile = profile;
    this.n = this.parent.length;
    this.total = totals(this.parent, this.self);
    this.count = totals(this.parent, this.selfCount);
    this.baseTotal = profile.isDiff ? totals(this.parent, this.selfBase) : null;
    this.baseCount = profile.isDiff ? totals(this.parent, this.selfBaseCount) : null;
    this.layOut();
  }

  // In a comparison a box is as wide as the greater of both sides, leaf by leaf: what vanished has a place.
  layOut() {
    const { parent, n } = this;
    const widthSelf = this.baseTotal ? this.self.map((value, at) => Math.max(value, this.selfBase[at])) : this.self;
    this.width = this.baseTotal ? totals(parent, widthSelf) : this.total;
    const first = new Int32Array(n + 1);
    for (let at = 1; at < n; at++) first[parent[at] + 1]++;
    for (let at = 0; at < n; at++) first[at + 1] += first[at];
    const next = first.slice();
    const children = new Int32Array(Math.max(0, n - 1));
    for (let at = 1; at < n; at++) children[next[parent[at]]++] = at;
    this.firstChild = first;
    this.children = children;
    this.start = new Float64Array(n);
    this.depth = new Int32Array(n);
    // The boxes of each depth in the order of the screen, and where each ends, side by side: these are searched for each frame.
    this.rows = [Int32Array.of(0)];
    this.ends = [Float64Array.of(this.width[0])];
    const byWidth = (a, b) => this.width[b] - this.width[a] || a - b;
    while (this.placeChildren(this.rows.at(-1), byWidth));
  }

  // Places the row below another; answers whether there is one.
  placeChildren(row, byWidth) {
    const { firstChild, children } = this;
    let size = 0;
    for (const node of row) size += firstChild[node + 1] - firstChild[node];
    if (!size) return false;
    const [below, ends] = [new Int32Array(size), new Float64Array(size)];
    let at = 0;
    for (const node of row) {
      const own = children.subarray(firstChild[node], firstChild[node + 1]);
      if (own.length > 1) own.sort(byWidth);
      let x = this.start[node];
      for (const child of own) {
        this.start[child] = x;
        this.depth[child] = this.depth[node] + 1;
        x += this.width[child];
        below[at] = child;
        ends[at++] = x;
      }
    }
    this.rows.push(below);
    this.ends.push(ends);
    return true;
  }

  childrenOf(node) {
    return this.children.subarray(this.firstChild[node], this.firstChild[node + 1]);
  }

  // The names of a node's keys from the root, as numbers that stay the same from load to load.
  pathHashes(node) {
    const path = [];
    for (let at = node; at > 0; at = this.parent[at]) path.push(hash(this.profile.keyName(this.key[at])).toString(36));
    return path.reverse();
  }

  findPath(hashes) {
    let node = 0;
    for (const wanted of hashes) {
      const child = [...this.childrenOf(node)].find((at) => hash(this.profile.keyName(this.key[at])).toString(36) === wanted);
      if (child === undefined) return node;
      node = child;
    }
    return node;
  }

  // How much of the whole lies in boxes whose key is marked, or within such.
  matched(marked) {
    let sum = 0;
    const inside = new Uint8Array(this.n);
    for (let at = 1; at < this.n; at++) {
      if (inside[this.parent[at]]) inside[at] = 1;
      else if (marked[this.key[at]]) {
        inside[at] = 1;
        sum += this.total[at];
      }
    }
    return sum;
  }
}

export function hash(text) {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return value >>> 0;
}

function stackTotals(profile, weights) {
  const sum = totals(profile.stackParent, weights.value);
  if (weights.base) totals(profile.stackParent, weights.base).forEach((value, at) => { sum[at] += value; });
  return sum;
}

// Root to leaf.
export function topDown(profile, weights, options) {
  const builder = new TreeBuilder(profile, options);
  const { stackParent, stackFrame, stacks } = profile;
  const used = stackTotals(profile, weights);
  const place = new Int32Array(stacks);
  for (let stack = 0; stack < stacks; stack++) {
    if (used[stack] === 0) continue;
    const parent = stackParent[stack];
    const node = builder.step(parent < 0 ? 0 : place[parent], stackFrame[stack]);
    place[stack] = node;
    addStack(builder, node, weights, stack);
  }
  return builder.finish();
}

// Leaf to root.
export function bottomUp(profile, weights, options) {
  const builder = new TreeBuilder(profile, options);
  for (let stack = 0; stack < profile.stacks; stack++) {
    if (weights.value[stack] === 0 && !weights.base?.[stack]) continue;
    addStack(builder, climb(builder, profile, 0, stack), weights, stack);
  }
  return builder.finish();
}

function climb(builder, profile, from, stack) {
  let node = from;
  for (let at = stack; at >= 0; at = profile.stackParent[at]) node = builder.step(node, profile.stackFrame[at]);
  return node;
}

function addStack(builder, node, weights, stack) {
  builder.add(node, weights.value[stack], weights.count[stack], weights.base ? weights.base[stack] : 0,
    weights.base ? weights.baseCount[stack] : 0);
}

// What a function calls, all its outermost calls together.
export function callees(profile, weights, options, key) {
  const builder = new TreeBuilder(profile, options);
  const { stackParent, stackFrame, stacks } = profile;
  const used = stackTotals(profile, weights);
  const place = new Int32Array(stacks);
  for (let stack = 0; stack < stacks; stack++) {
    if (used[stack] === 0) continue;
    const above = stackParent[stack] < 0 ? 0 : place[stackParent[stack]];
    const starts = above === 0 && builder.key[stackFrame[stack]] === key;
    if (above === 0 && !starts) continue;
    place[stack] = builder.step(above, stackFrame[stack]);
    addStack(builder, place[stack], weights, stack);
  }
  return builder.finish();
}

// Who calls a function: from its outermost calls up to the root.
export function callers(profile, weights, options, key) {
  const builder = new TreeBuilder(profile, options);
  const { stackParent, stackFrame, stacks } = profile;
  const sums = Object.fromEntries(Object.entries(weights).map(([name, own]) => [name, own && totals(stackParent, own)]));
  const inside = new Uint8Array(stacks);
  for (let stack = 0; stack < stacks; stack++) {
    if (stackParent[stack] >= 0 && inside[stackParent[stack]]) inside[stack] = 1;
    else if (builder.key[stackFrame[stack]] === key && (sums.value[stack] || sums.base?.[stack])) {
      inside[stack] = 1;
      addStack(builder, climb(builder, profile, 0, stack), sums, stack);
    }
  }
  return builder.finish();
}

// The sums of each key: own, and with all it calls (a call of itself counts once).
export function sumKeys(tree) {
  const { profile, n, parent, key } = tree;
  const columns = ["self", "total", "count", ...(profile.isDiff ? ["selfBase", "baseTotal", "baseCount"] : [])];
  const sums = Object.fromEntries(columns.map((name) => [name, new Float64Array(profile.keys)]));
  const open = new Int32Array(profile.keys);
  const stack = [0];
  while (stack.length) {
    const node = stack.pop();
    if (node < 0) {
      open[key[~node]]--;
      continue;
    }
    if (node > 0) addNode(tree, node, sums, open[key[node]]++ === 0);
    if (node > 0) stack.push(~node);
    for (const child of tree.childrenOf(node)) stack.push(child);
  }
  sums.used = usedKeys(tree);
  return sums;
}

// The keys that the tree has boxes of.
function usedKeys({ profile, n, parent, key }) {
  const seen = new Uint8Array(profile.keys);
  for (let at = 1; at < n; at++) if (parent[at] >= 0) seen[key[at]] = 1;
  return seen.reduce((used, is, at) => { if (is) used.push(at); return used; }, []);
}

function addNode(tree, node, sums, outermost) {
  const key = tree.key[node];
  sums.self[key] += tree.self[node];
  if (sums.selfBase) sums.selfBase[key] += tree.selfBase[node];
  if (!outermost) return;
  sums.total[key] += tree.total[node];
  sums.count[key] += tree.count[node];
  if (!sums.selfBase) return;
  sums.baseTotal[key] += tree.baseTotal[node];
  sums.baseCount[key] += tree.baseCount[node];
}

// The own weight of each source line of a function, the heaviest first.
export function sourceLines(profile, weights, id) {
  const lines = new Map();
  for (let stack = 0; stack < profile.stacks; stack++) {
    const frame = profile.stackFrame[stack];
    if (weights.value[stack] === 0 || profile.frameFunction[frame] !== id) continue;
    const line = profile.frameLine[frame];
    if (line > 0) lines.set(line, (lines.get(line) ?? 0) + weights.value[stack]);
  }
  return [...lines].sort((a, b) => b[1] - a[1]);
}
