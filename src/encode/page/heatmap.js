// The heat map within seconds: a column for each second, painted from below in rows of 20 ms. A burst that a time line of
// minutes hides is a spot here.

import { heat, isDark } from "./colors.js";
import { clock, duration, plural, quantity } from "./format.js";
import { eachFrame, fitCanvas, token } from "./dom.js";

const HEIGHT = 100;

export class HeatMap {
  // `onbrush([from, to])` in seconds since 1970.
  constructor(container, options) {
    this.options = options;
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "heat map");
    this.canvas.setAttribute("aria-label", "Samples by second and 20 ms. Arrows move, Enter begins a range, Enter again ends it.");
    this.container = container;
    container.append(this.canvas);
    this.data = null;
    this.cursor = null;
    this.anchor = null;
    this.marks = { selection: null, base: null };
    this.draw = eachFrame(() => this.paint());
    new ResizeObserver(() => this.draw()).observe(container);
    this.listen();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      this.anchor = this.cursor = this.cell(event);
      canvas.setPointerCapture(event.pointerId);
      this.draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      const cell = this.cell(event);
      this.options.onhover?.(this.describe(cell), event);
      if (this.anchor === null || !canvas.hasPointerCapture(event.pointerId)) return;
      this.cursor = cell;
      this.draw();
    });
    canvas.addEventListener("pointerup", () => this.finish());
    canvas.addEventListener("pointerleave", (event) => this.options.onhover?.("", event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.draw());
  }

  show(data) {
    this.data = data.columns > 0 && data.cells.length ? data : null;
    this.cursor = this.anchor = null;
    if (this.data) this.most = data.cells.reduce((most, value) => Math.max(most, value), 1);
    this.draw();
  }

  setMarks(selection, base) {
    this.marks = { selection, base };
    this.draw();
  }

  // A cell is a number in the order of time.
  cell(event) {
    const { rows, columns } = this.data ?? { rows: 1, columns: 1 };
    const column = Math.floor((event.offsetX / this.width) * columns);
    const row = rows - 1 - Math.floor((event.offsetY / HEIGHT) * rows);
    const clamp = (value, most) => Math.max(0, Math.min(most - 1, value));
    return clamp(column, columns) * rows + clamp(row, rows);
  }

  timeOf(cell) {
    const { from_nanos: from, column_nanos: column, row_nanos: row, rows } = this.data;
    return (from + Math.floor(cell / rows) * column + (cell % rows) * row) / 1e9;
  }

  cellOf(time) {
    const { from_nanos: from, column_nanos: column, row_nanos: row, rows } = this.data;
    const nanos = time * 1e9 - from;
    const at = Math.floor(nanos / column);
    return at * rows + (nanos - at * column) / row;
  }

  describe(cell) {
    if (!this.data) return "";
    const { cells, value_unit: unit } = this.data;
    const amount = unit === "samples" ? plural(cells[cell] ?? 0, "sample", "samples") : quantity(cells[cell] ?? 0, unit);
    return `${clock(this.timeOf(cell), 0.5)} · ${amount} in ${duration(this.data.row_nanos / 1e9)}`;
  }

  finish() {
    if (this.anchor === null || !this.data) return;
    const [first, last] = [Math.min(this.anchor, this.cursor), Math.max(this.anchor, this.cursor)];
    this.anchor = null;
    this.options.onbrush([this.timeOf(first), this.timeOf(last) + this.data.row_nanos / 1e9]);
  }

  key(event) {
    if (!this.data || event.ctrlKey || event.altKey || event.metaKey) return;
    const moves = { ArrowLeft: -this.data.rows, ArrowRight: this.data.rows, ArrowUp: 1, ArrowDown: -1 };
    const cells = this.data.cells.length;
    if (event.key in moves) {
      this.cursor = Math.max(0, Math.min(cells - 1, (this.cursor ?? 0) + (this.cursor === null ? 0 : moves[event.key])));
      this.options.onmove?.(this.describe(this.cursor));
    } else if (event.key === "Enter" || event.key === " ") {
      if (this.anchor === null) this.anchor = this.cursor ??= 0;
      else this.finish();
    } else if (event.key === "Escape" && this.anchor !== null) {
      this.anchor = null;
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  paint() {
    this.width = this.container.clientWidth;
    if (!this.width) return;
    const context = fitCanvas(this.canvas, this.width, HEIGHT);
    context.clearRect(0, 0, this.width, HEIGHT);
    if (!this.data) return;
    const dark = isDark();
    const { rows, columns, cells } = this.data;
    const [w, hgt] = [this.width / columns, HEIGHT / rows];
    const gap = w > 3 ? 0.5 : 0;
    const palette = Array.from({ length: 33 }, (_, at) => heat(at / 32, dark));
    for (let cell = 0; cell < cells.length; cell++) {
      if (!cells[cell]) continue;
      context.fillStyle = palette[Math.max(1, Math.round((cells[cell] / this.most) * 32))];
      const row = rows - 1 - (cell % rows);
      context.fillRect(Math.floor(cell / rows) * w, row * hgt, w - gap, hgt - (hgt > 2.5 ? 0.25 : 0));
    }
    this.paintRange(context, this.marks.base, "--base", w, hgt);
    this.paintRange(context, this.marks.selection, "--accent", w, hgt);
    if (this.anchor !== null) {
      const ends = [this.anchor, this.cursor].sort((a, b) => a - b);
      this.paintCells(context, ends[0], ends[1] + 1, "--accent", w, hgt);
    }
    if (this.cursor !== null && document.activeElement === this.canvas) this.paintCursor(context, w, hgt);
  }

  paintRange(context, range, stroke, w, hgt) {
    if (!range) return;
    const [from, to] = range.map((time) => Math.max(0, Math.min(this.data.cells.length, this.cellOf(time))));
    if (to > from) this.paintCells(context, from, to, stroke, w, hgt);
  }

  // The cells of a range run up a column and on in the next.
  paintCells(context, from, to, stroke, w, hgt) {
    const { rows } = this.data;
    context.fillStyle = token("--heat-fill");
    context.strokeStyle = token(stroke);
    context.lineWidth = 1.5;
    const [first, last] = [Math.floor(from / rows), Math.ceil(to / rows) - 1];
    const outline = new Path2D();
    for (let column = first; column <= last; column++) {
      const low = column === first ? from - first * rows : 0;
      const high = column === last ? to - last * rows : rows;
      outline.rect(column * w, (rows - high) * hgt, w, (high - low) * hgt);
    }
    context.fill(outline);
    const edge = (column, row) => [column * w, (rows - row) * hgt];
    for (const [column, row, size] of [[first, from - first * rows, 1], [last, to - last * rows, 1]]) {
      const [x, y] = edge(column, row);
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + Math.max(w * size, 3), y);
      context.stroke();
    }
    context.strokeRect(first * w + 0.75, 0.75, Math.max(1, (last - first + 1) * w - 1.5), HEIGHT - 1.5);
  }

  paintCursor(context, w, hgt) {
    const { rows } = this.data;
    const [x, y] = [Math.floor(this.cursor / rows) * w, (rows - 1 - (this.cursor % rows)) * hgt];
    context.strokeStyle = token("--outline");
    context.lineWidth = 2;
    context.strokeRect(x - 1, y - 1, Math.max(w, 3) + 2, hgt + 2);
  }
}
