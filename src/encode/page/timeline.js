// The time line: totals over time, stacked by a label, and the brush on it. uPlot draws it.

import { areaColor, isDark } from "./colors.js";
import { clock, day, number, quantity } from "./format.js";
import { h, token, fill } from "./dom.js";

const SHOWN = 8;
const HEIGHT = 108;

export class Timeline {
  // `onbrush([from, to])` in seconds since 1970.
  constructor(container, legend, onbrush) {
    this.container = container;
    this.legend = legend;
    this.onbrush = onbrush;
    this.plot = null;
    this.marks = { selection: null, base: null };
    new ResizeObserver(() => this.plot?.setSize({ width: this.container.clientWidth, height: HEIGHT })).observe(container);
    container.addEventListener("keydown", (event) => this.key(event));
  }

  // Data as `rprof query --series --json` has them.
  show(data, unit) {
    this.data = data;
    this.unit = unit;
    const isRate = data.series.some((one) => one.cpus?.some((value) => value !== null));
    this.perStep = (one) => (isRate ? one.cpus : one.per_second ?? one.values);
    this.isRate = isRate;
    this.step = data.step_nanos / 1e9;
    this.start = data.start_nanos / 1e9;
    this.layers = layers(data, this.perStep);
    this.render();
  }

  render() {
    if (!this.data) return;
    const dark = isDark();
    this.layers.forEach((layer, at) => { layer.color = areaColor(layer.isOther ? "other" : at, dark); });
    const stacked = stack(this.layers);
    const times = Array.from({ length: this.layers[0]?.values.length ?? 0 }, (_, at) => this.start + at * this.step);
    // One point more, so that the last step has its width.
    const columns = [times.concat(times.length ? [this.start + times.length * this.step] : []),
      ...stacked.map((values) => values.concat(values.length ? [values[values.length - 1]] : []))];
    this.plot?.destroy();
    this.plot = new window.uPlot(this.settings(), columns, this.container);
    this.plot.root.querySelectorAll("canvas").forEach((canvas) => canvas.setAttribute("aria-hidden", "true"));
    this.showLegend();
    this.applyMarks();
  }

  settings() {
    const axis = { stroke: token("--muted"), grid: { stroke: token("--grid"), width: 1 }, ticks: { show: false }, font: token("--axis-font") };
    const last = this.start + this.step * (this.layers[0]?.values.length ?? 0);
    return {
      width: Math.max(80, this.container.clientWidth),
      height: HEIGHT,
      padding: [8, 0, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 3 }, bind: { dblclick: () => null } },
      scales: { x: { time: true, range: () => [this.start, last] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
      axes: [
        { ...axis, size: 22, gap: 2, space: 90, values: (_, splits) => splits.map((time) => (this.hasRoom(time, last) ? this.tick(time) : "")) },
        { ...axis, size: 56, gap: 4, space: 30, values: (_, splits) => splits.map((value) => this.amount(value)) },
      ],
      series: [{}, ...this.layers.map((layer) => ({
        label: layer.name, fill: layer.color, stroke: layer.color, width: 0.5, spanGaps: false, points: { show: false },
        paths: window.uPlot.paths.stepped({ align: 1 }),
      }))],
      hooks: {
        setSelect: [(plot) => this.brushed(plot)],
        drawClear: [(plot) => this.paintGaps(plot)],
        draw: [(plot) => this.paintMarks(plot)],
      },
    };
  }

  // A text at the right edge would be cut.
  hasRoom(time, last) {
    return (last - time) / (last - this.start) * this.container.clientWidth > 30;
  }

  tick(time) {
    const span = this.step * (this.layers[0]?.values.length ?? 1);
    if (span > 2 * 86400) return `${day(time).slice(5)} ${clock(time).slice(0, 5)}`;
    const text = clock(time, span / 10).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
    return span > 1200 ? text.replace(/:00$/, "") : text;
  }

  amount(value) {
    if (this.isRate) return `${number(value)}`;
    return quantity(value, this.unit === "nanoseconds" ? "" : this.unit);
  }

  unitText() {
    return this.isRate ? "CPUs" : this.unit === "nanoseconds" ? "" : this.unit === "count" ? "events a second" : `${this.unit} a second`;
  }

  // Steps without data are hatched: nothing recorded is not nothing burnt.
  paintGaps(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = token("--gap");
    this.data.covered_nanos?.forEach((covered, at) => {
      if (covered) return;
      const from = plot.valToPos(this.start + at * this.step, "x", true);
      const to = plot.valToPos(this.start + (at + 1) * this.step, "x", true);
      ctx.fillRect(from, bbox.top, to - from, bbox.height);
    });
    ctx.restore();
  }

  paintMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    for (const [name, color, fillColor] of [["base", "--base", "--base-fill"], ["selection", "--accent", "--accent-fill"]]) {
      const range = this.marks[name];
      if (!range) continue;
      const [from, to] = range.map((time) => plot.valToPos(time, "x", true));
      const width = Math.max(2, to - from);
      ctx.fillStyle = token(fillColor);
      ctx.fillRect(from, bbox.top, width, bbox.height);
      ctx.strokeStyle = token(color);
      ctx.lineWidth = 1.5 * (window.devicePixelRatio || 1);
      ctx.strokeRect(from, bbox.top, width, bbox.height);
    }
    ctx.restore();
  }

  brushed(plot) {
    const { left, width } = plot.select;
    if (width < 3) return;
    const from = plot.posToVal(left, "x");
    const to = plot.posToVal(left + width, "x");
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.onbrush([from, to]);
  }

  setMarks(selection, base) {
    this.marks = { selection, base };
    this.applyMarks();
  }

  applyMarks() {
    const { selection } = this.marks;
    this.container.setAttribute("aria-valuetext", selection ? `${clock(selection[0])} to ${clock(selection[1])}` : "the whole time");
    this.plot?.redraw(false);
  }

  // Arrows move the range by a step, with Shift its end.
  key(event) {
    const acts = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
    const step = acts[event.key];
    if (!step || !this.data || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const end = this.start + this.step * this.layers[0].values.length;
    const [from, to] = this.marks.selection ?? [this.start, this.start + this.step];
    const by = step * this.step;
    const next = !this.marks.selection ? [from, to] : event.shiftKey ? [from, Math.max(from + this.step / 4, to + by)] : [from + by, to + by];
    if (next[0] < this.start - 1e-9 || next[1] > end + 1e-9) return;
    this.onbrush(next);
  }

  showLegend() {
    fill(this.legend, ...this.layers.map((layer) => {
      const swatch = h("span", { class: "swatch" });
      swatch.style.background = layer.color;
      return h("span", { class: "legend-item" }, swatch, layer.name || "(none)");
    }), h("span", { class: "legend-unit" }, this.unitText()));
  }
}

// The largest series, and the others as one.
function layers(data, valuesOf) {
  const sum = (one) => one.values.reduce((total, value) => total + (value ?? 0), 0);
  const series = [...data.series].sort((a, b) => sum(b) - sum(a));
  const shown = series.length > SHOWN + 1 ? series.slice(0, SHOWN) : series;
  const others = series.slice(shown.length);
  const made = shown.map((one) => ({ name: one.name, values: valuesOf(one).map((value) => value ?? 0) }));
  if (others.length) {
    const values = made[0].values.map((_, at) => others.reduce((total, one) => total + (valuesOf(one)[at] ?? 0), 0));
    made.push({ name: `${others.length} others`, values, isOther: true });
  }
  return made;
}

// Sums from below, the highest first, so that each covers what lies under it.
function stack(layers) {
  const sums = [];
  let before = null;
  for (const layer of [...layers].reverse()) {
    before = layer.values.map((value, at) => value + (before ? before[at] : 0));
    sums.push(before);
  }
  return sums.reverse();
}
