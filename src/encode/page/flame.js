// A flame graph on a canvas. Only boxes that can be seen are drawn; those below a pixel are drawn as one.

import { eachFrame, fitCanvas, token } from "./dom.js";

const ROW = 20;
const GAP = 1;
const PAD = 5;
const MIN_TEXT = 26;
// Boxes narrower than this are drawn together.
const THIN = 1.2;
const ZOOM_TIME = 160;

export class FlameView {
  // `options`: label, onhover(node, event), onselect(node), onzoom(node), onopen(node).
  constructor(container, options) {
    this.options = options;
    this.tree = null;
    this.icicle = options.icicle ?? true;
    // The first row that is drawn: without the whole where a function stands at the root.
    this.first = options.first ?? 0;
    this.zoomed = 0;
    this.cursor = -1;
    this.hovered = -1;
    this.marked = null;
    this.view = [0, 1];
    // A motion from one part of the graph to another, while it lasts.
    this.motion = null;
    this.colors = null;
    this.frames = [];
    this.draw = eachFrame(() => this.paint());
    this.build(container);
    this.widths = new Map();
  }

  build(container) {
    container.classList.add("flame");
    this.container = container;
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "flame graph");
    this.canvas.setAttribute("aria-label", this.options.label);
    this.spacer = document.createElement("div");
    this.spacer.className = "flame-space";
    this.spacer.append(this.canvas);
    container.replaceChildren(this.spacer);
    this.listen();
    new ResizeObserver(() => this.resize()).observe(container);
  }

  listen() {
    const { canvas, container } = this;
    container.addEventListener("scroll", () => this.draw(), { passive: true });
    canvas.addEventListener("pointermove", (event) => this.hover(this.hit(event), event));
    canvas.addEventListener("pointerleave", (event) => this.hover(-1, event));
    canvas.addEventListener("click", (event) => this.click(this.hit(event)));
    canvas.addEventListener("dblclick", (event) => this.open(this.hit(event)));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.focused());
    canvas.addEventListener("blur", () => this.draw());
  }

  // Who comes by keyboard needs a place to start from; a click brings its own.
  focused() {
    if (this.cursor < 0 && this.tree && this.canvas.matches(":focus-visible")) this.moveTo(this.zoomed);
    this.draw();
  }

  setTree(tree, colors, zoomed = 0) {
    this.tree = tree;
    this.colors = colors;
    this.zoomed = zoomed;
    this.cursor = -1;
    this.hovered = -1;
    this.marked = null;
    this.motion = null;
    this.view = this.viewOf(zoomed);
    this.resize();
    this.reveal(zoomed);
  }

  setColors(colors) {
    this.colors = colors;
    this.look = null;
    this.draw();
  }

  setMarked(marked) {
    this.marked = marked;
    this.draw();
  }

  setIcicle(icicle) {
    this.icicle = icicle;
    this.resize();
    this.reveal(this.cursor >= 0 ? this.cursor : this.zoomed);
  }

  resize() {
    if (!this.tree) return;
    this.width = this.container.clientWidth;
    this.height = this.container.clientHeight;
    this.content = Math.max((this.tree.rows.length - this.first) * ROW + 2, this.height);
    this.spacer.style.height = `${this.content}px`;
    this.draw();
  }

  viewOf(node) {
    const { start, width } = this.tree;
    return [start[node], start[node] + Math.max(width[node], Number.MIN_VALUE)];
  }

  rowTop(depth) {
    const row = depth - this.first;
    return this.icicle ? row * ROW : this.content - (row + 1) * ROW;
  }

  depthAt(y) {
    return Math.floor((this.icicle ? y : this.content - y) / ROW) + this.first;
  }

  // Scrolls until a box can be seen.
  reveal(node) {
    const top = this.rowTop(this.tree.depth[node]);
    const seen = this.container.scrollTop;
    if (top < seen) this.container.scrollTop = top - ROW;
    else if (top + ROW > seen + this.height) this.container.scrollTop = top + 2 * ROW - this.height;
  }

  zoom(node, quiet = false) {
    this.zoomed = node;
    if (!quiet) this.options.onzoom?.(node);
    this.glide(this.viewOf(node));
  }

  // Moves to a part of the graph, in steps for the eye unless somebody asked for less motion.
  glide(target) {
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.motion = isStill ? null : { from: this.view, target, begun: performance.now() };
    if (isStill) this.view = target;
    this.draw();
  }

  // The part of the graph that a motion has come to.
  move() {
    if (!this.motion) return;
    const { from, target, begun } = this.motion;
    const share = Math.min(1, (performance.now() - begun) / ZOOM_TIME);
    const eased = 1 - (1 - share) ** 3;
    this.view = share === 1 ? target : from.map((value, at) => value + (target[at] - value) * eased);
    if (share === 1) this.motion = null;
    else this.draw();
  }

  wheel(event) {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const [from, to] = this.view;
    const whole = this.tree.width[0];
    const size = to - from;
    const at = from + size * (event.offsetX / this.width);
    const factor = event.shiftKey ? 1 : Math.exp(event.deltaY * 0.002);
    const next = Math.min(whole, Math.max(whole * 1e-7, size * factor));
    const shift = event.shiftKey ? (event.deltaY || event.deltaX) / this.width * size : 0;
    const start = Math.min(whole - next, Math.max(0, at - (at - from) * (next / size) + shift));
    this.motion = null;
    this.view = [start, start + next];
    this.draw();
  }

  hit(event) {
    if (!this.tree) return -1;
    const y = event.offsetY + this.container.scrollTop;
    const depth = this.depthAt(y);
    const row = this.tree.rows[depth];
    if (!row) return -1;
    const x = this.view[0] + (event.offsetX / this.width) * (this.view[1] - this.view[0]);
    const node = row[firstAbove(this.tree.ends[depth], x)];
    return node !== undefined && this.tree.start[node] <= x ? node : -1;
  }

  hover(node, event) {
    this.options.onhover?.(node, event);
    if (node === this.hovered) return;
    this.hovered = node;
    this.canvas.style.cursor = node >= 0 ? "pointer" : "default";
    this.draw();
  }

  click(node) {
    if (node < 0) return;
    this.cursor = node;
    this.options.onselect?.(node);
    this.zoom(node);
  }

  open(node) {
    if (node > 0) this.options.onopen?.(node);
  }

  moveTo(node) {
    if (node === undefined || node < 0) return;
    this.cursor = node;
    const [from, to] = this.view;
    const { start, width } = this.tree;
    if (start[node] < from || start[node] + width[node] > to * (1 + 1e-12)) this.zoom(this.tree.parent[node] < 0 ? 0 : this.tree.parent[node]);
    this.reveal(node);
    this.options.onselect?.(node);
    this.draw();
  }

  // Arrows go along the tree, whichever way it grows.
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.tree) return;
    const node = Math.max(0, this.cursor);
    const [rootward, leafward] = this.icicle ? ["ArrowUp", "ArrowDown"] : ["ArrowDown", "ArrowUp"];
    const acts = {
      [rootward]: () => this.moveTo(this.tree.parent[node]),
      [leafward]: () => this.moveTo(this.tree.childrenOf(node)[0]),
      ArrowLeft: () => this.moveTo(this.sibling(node, -1)),
      ArrowRight: () => this.moveTo(this.sibling(node, 1)),
      Home: () => this.moveTo(0),
      Enter: () => this.zoom(node),
      " ": () => this.zoom(node),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  sibling(node, step) {
    const row = this.tree.rows[this.tree.depth[node]];
    return row[row.indexOf(node) + step];
  }

  // The next box that search has marked, in the order of rows.
  nextMarked(step) {
    if (!this.marked) return -1;
    const order = this.tree.rows.flatMap((row) => [...row].filter((node) => this.isMarked(node)));
    if (!order.length) return -1;
    const at = order.indexOf(this.cursor);
    const next = order[(at + step + order.length) % order.length];
    this.moveTo(at < 0 ? order[0] : next);
    return at < 0 ? order[0] : next;
  }

  // Where the widest box of a name lies on the screen; for tests, which click on it.
  place(name) {
    const { tree } = this;
    let best = -1;
    for (let node = 1; node < tree.n; node++) {
      if (tree.profile.keyName(tree.key[node]) === name && (best < 0 || tree.width[node] > tree.width[best])) best = node;
    }
    const isInView = best >= 0 && tree.start[best] < this.view[1] && tree.start[best] + tree.width[best] > this.view[0];
    if (!isInView) return null;
    this.reveal(best);
    const { left, top } = this.canvas.getBoundingClientRect();
    const scale = this.width / (this.view[1] - this.view[0]);
    const from = Math.max(0, (tree.start[best] - this.view[0]) * scale);
    const to = Math.min(this.width, (tree.start[best] + tree.width[best] - this.view[0]) * scale);
    return { x: left + (from + to) / 2, y: top + this.rowTop(tree.depth[best]) - this.container.scrollTop + ROW / 2, width: to - from };
  }

  paint() {
    if (!this.tree || !this.width || !this.height) return;
    const begun = performance.now();
    this.move();
    const context = fitCanvas(this.canvas, this.width, this.height);
    context.clearRect(0, 0, this.width, this.height);
    this.look ??= readLook();
    context.font = this.look.font;
    context.textBaseline = "middle";
    const top = this.container.scrollTop;
    const last = this.tree.rows.length - 1;
    const [one, other] = [top, top + this.height].map((y) => this.depthAt(y));
    for (let depth = Math.max(this.first, Math.min(one, other)); depth <= Math.min(last, Math.max(one, other)); depth++) {
      this.paintRow(context, depth, this.rowTop(depth) - top);
    }
    this.paintOutline(context, this.hovered, top, this.look.hover, 1);
    if (this.cursor >= 0) this.paintOutline(context, this.cursor, top, this.look.outline, 2);
    this.frames.push(performance.now() - begun);
    if (this.frames.length > 600) this.frames.shift();
  }

  paintRow(context, depth, y) {
    const { tree, view } = this;
    const [row, ends] = [tree.rows[depth], tree.ends[depth]];
    const scale = this.width / (view[1] - view[0]);
    const crowds = { all: new Strips(), found: new Strips() };
    let at = firstAbove(ends, view[0]);
    while (at < row.length) {
      const start = tree.start[row[at]];
      const from = (start - view[0]) * scale;
      if (from >= this.width) break;
      // Of a hundred thousand boxes most are thin: those that end within one width are not looked at one by one.
      const next = firstAbove(ends, start + THIN / scale, at);
      if (next === at) {
        this.paintBox(context, row[at], from, (ends[at] - view[0]) * scale, y);
        at++;
        continue;
      }
      const to = (ends[next - 1] - view[0]) * scale;
      crowds.all.add(from, to);
      if (this.isFound(row, at, next)) crowds.found.add(from, Math.max(from + 1, to));
      at = next;
    }
    crowds.all.paint(context, this.marked ? this.look.faint : this.look.crowd, y);
    crowds.found.paint(context, this.look.found, y);
  }

  paintBox(context, node, from, to, y) {
    const [left, right] = [Math.max(0, from), Math.min(this.width, to)];
    const found = this.isMarked(node);
    context.fillStyle = this.fillOf(node, found);
    context.globalAlpha = this.tree.depth[node] < this.tree.depth[this.zoomed] ? 0.55 : 1;
    context.fillRect(left, y + GAP, Math.max(0.6, right - left - (to > this.width ? 0 : GAP)), ROW - GAP);
    if (right - left > MIN_TEXT) this.label(context, node, left, right, y, found);
    context.globalAlpha = 1;
  }

  isMarked(node) {
    return this.marked !== null && this.marked[this.tree.key[node]] === 1;
  }

  // Whether search has marked one of some boxes of a row.
  isFound(row, from, to) {
    const { marked, tree: { key } } = this;
    if (marked === null) return false;
    for (let at = from; at < to; at++) if (marked[key[row[at]]] === 1) return true;
    return false;
  }

  fillOf(node, found) {
    if (node === 0) return this.look.root;
    if (this.marked === null) return this.colors.of(node);
    return found ? this.look.found : this.look.faint;
  }

  label(context, node, left, right, y, found) {
    const name = node === 0 ? this.options.rootName?.() ?? "all" : this.tree.profile.keyName(this.tree.key[node]);
    const text = this.fitted(context, name, right - left - 2 * PAD);
    if (!text) return;
    context.fillStyle = node === 0 ? this.look.rootInk : this.marked !== null && !found ? this.look.faintInk : this.look.ink;
    context.fillText(text, left + PAD, y + ROW / 2 + 1);
  }

  // As much of a name as has room, measured letter by letter from a table: measuring texts is slow.
  fitted(context, name, room) {
    let used = 0;
    for (let at = 0; at < name.length; at++) {
      used += this.letterWidth(context, name[at]);
      if (used > room) return at > 3 ? `${name.slice(0, at - 1)}…` : "";
    }
    return name;
  }

  letterWidth(context, letter) {
    let width = this.widths.get(letter);
    if (width === undefined) {
      width = context.measureText(letter).width;
      if (this.widths.size < 4096) this.widths.set(letter, width);
    }
    return width;
  }

  paintOutline(context, node, top, color, size) {
    if (node < 0 || this.tree.depth[node] < this.first) return;
    const scale = this.width / (this.view[1] - this.view[0]);
    const from = Math.max(0, (this.tree.start[node] - this.view[0]) * scale);
    const to = Math.min(this.width, (this.tree.start[node] + this.tree.width[node] - this.view[0]) * scale);
    if (to < from) return;
    context.strokeStyle = color;
    context.lineWidth = size;
    const y = this.rowTop(this.tree.depth[node]) - top;
    context.strokeRect(from + size / 2, y + GAP + size / 2 - 0.5, Math.max(1, to - from - size - GAP / 2), ROW - size);
  }
}

// Boxes of a row that are too narrow for one of their own, as few and broad ones as there can be.
class Strips {
  constructor() {
    this.edges = [];
  }

  add(from, to) {
    const { edges } = this;
    if (edges.length && from <= edges.at(-1) + 0.8) edges[edges.length - 1] = to;
    else edges.push(from, to);
  }

  paint(context, color, y) {
    context.fillStyle = color;
    for (let at = 0; at < this.edges.length; at += 2) {
      const size = this.edges[at + 1] - this.edges[at];
      if (size > 0.12) context.fillRect(this.edges[at], y + GAP, Math.max(0.4, size), ROW - GAP);
    }
  }
}

// The place of the first value above a limit, of values that rise, from a place on. What is sought is often near.
function firstAbove(values, limit, from = 0) {
  let [low, step] = [from, 1];
  while (low + step <= values.length && values[low + step - 1] <= limit) {
    low += step;
    step *= 2;
  }
  let high = Math.min(values.length, low + step - 1);
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > limit) high = middle;
    else low = middle + 1;
  }
  return low;
}

// What the style sheet says of boxes.
function readLook() {
  const names = {
    font: "--flame-font", ink: "--flame-ink", faint: "--flame-faint", faintInk: "--flame-faint-ink", found: "--found",
    root: "--flame-root", rootInk: "--flame-root-ink", crowd: "--flame-crowd", hover: "--outline-hover", outline: "--outline",
  };
  return Object.fromEntries(Object.entries(names).map(([name, of]) => [name, token(of)]));
}
