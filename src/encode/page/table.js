// Functions as a table of real rows. Only those in sight are in the document, so that a hundred thousand scroll.

import { eachFrame, h } from "./dom.js";
import { fileName, minus, number, percent, quantity } from "./format.js";
import { direction, isTested } from "./colors.js";

const ROW = 26;

const NAME_COLUMNS = [
  { id: "name", title: "Function", text: true, of: (table, key) => table.profile.keyName(key) },
  { id: "module", title: "Module", text: true, of: (table, key) => fileName(table.profile.keyModule(key)) },
];

const COLUMNS = [
  { id: "self", title: "Self", bar: true, of: ({ sums }, key) => sums.self[key] },
  { id: "total", title: "Total", bar: true, of: ({ sums }, key) => sums.total[key] },
  { id: "count", title: "Samples", plain: true, of: ({ sums }, key) => sums.count[key] },
];

const change = (table, key, name) => {
  const { changes } = table.profile;
  const row = changes && key < table.profile.functions ? changes.row[key] : -1;
  return row < 0 ? null : changes[name][row];
};

const DIFF_COLUMNS = [
  { id: "delta", title: "Difference", delta: "total", of: ({ sums }, key) => sums.total[key] - sums.baseTotal[key] },
  { id: "baseTotal", title: "Base total", of: ({ sums }, key) => sums.baseTotal[key] },
  { id: "total", title: "Total", of: ({ sums }, key) => sums.total[key] },
  { id: "selfDelta", title: "Self difference", delta: "self", of: ({ sums }, key) => sums.self[key] - sums.selfBase[key] },
  { id: "verdict", title: "Verdict", text: true, of: (table, key) => (isTested(table.profile, key) ? verdictText(change(table, key, "verdict"), change(table, key, "significant")) : "not tested") },
];

export function verdictText(verdict, significant) {
  if (!verdict) return "–";
  const words = { new: "new", gone: "gone", up: "more", down: "less", same: "same", shifted: "shifted" };
  return significant || verdict === "same" ? words[verdict] ?? verdict : "not significant";
}

export class Table {
  // `options`: onsort(id, ascending), onselect(key), onopen(key).
  constructor(container, options) {
    this.options = options;
    this.head = h("div", { role: "row", class: "table-head", "aria-rowindex": "1" });
    this.body = h("div", { role: "rowgroup", class: "table-body", tabindex: "0", "aria-label": "Functions; arrows move, Enter shows callers and callees" });
    this.space = h("div", { class: "table-space", role: "presentation" });
    this.body.append(this.space);
    this.grid = h("div", { role: "grid", class: "table", "aria-label": "Functions" }, h("div", { role: "rowgroup" }, this.head), this.body);
    container.append(this.grid);
    this.at = 0;
    this.draw = eachFrame(() => this.paint());
    this.body.addEventListener("scroll", () => this.draw(), { passive: true });
    this.body.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.body);
    this.rows = [];
  }

  show(profile, sums, whole, { sort, ascending, marked, selected }) {
    Object.assign(this, { profile, sums, whole, sort, ascending, selected });
    this.columns = [...(profile.isDiff ? DIFF_COLUMNS : COLUMNS), ...NAME_COLUMNS];
    if (!this.columns.some((column) => column.id === sort)) this.sort = this.columns[0].id;
    this.grid.classList.toggle("is-diff", profile.isDiff);
    this.order(marked);
    this.paintHead();
    this.at = Math.max(0, this.rows.indexOf(selected));
    this.draw();
  }

  // All functions are sorted once for a column; a search picks from that.
  order(marked) {
    const sorting = `${this.sort} ${this.ascending}`;
    if (this.sortedOf !== this.sums || this.sorting !== sorting) {
      Object.assign(this, { sortedOf: this.sums, sorting, sorted: this.sortKeys() });
    }
    this.rows = marked ? this.sorted.filter((key) => marked[key]) : this.sorted;
    this.grid.setAttribute("aria-rowcount", String(this.rows.length + 1));
    this.space.style.height = `${this.rows.length * ROW}px`;
  }

  sortKeys() {
    const column = this.columns.find((one) => one.id === this.sort);
    const sign = this.ascending ? 1 : -1;
    const keys = Int32Array.from(this.sums.used);
    const { total } = this.sums;
    if (column.text) {
      const texts = new Map(this.sums.used.map((key) => [key, column.of(this, key)]));
      const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      return keys.sort((a, b) => -sign * compare(texts.get(a), texts.get(b)) || total[b] - total[a]);
    }
    const values = new Float64Array(this.profile.keys);
    for (const key of keys) values[key] = column.delta ? Math.abs(column.of(this, key)) : column.of(this, key);
    return keys.sort((a, b) => sign * (values[a] - values[b]) || total[b] - total[a]);
  }

  paintHead() {
    this.head.replaceChildren(...this.columns.map((column) => {
      const active = column.id === this.sort;
      const arrow = active ? (this.ascending !== Boolean(column.text) ? " ↑" : " ↓") : "";
      return h("div", { role: "columnheader", class: `cell cell-${column.id}${column.text ? " is-text" : ""}`, "aria-sort": active ? (this.ascending ? "ascending" : "descending") : "none" },
        h("button", { type: "button", "data-sort": column.id, onclick: () => this.options.onsort(column.id, active ? !this.ascending : false) }, column.title + arrow));
    }));
  }

  paint() {
    if (!this.profile) return;
    const first = Math.max(0, Math.floor(this.body.scrollTop / ROW) - 4);
    const last = Math.min(this.rows.length, Math.ceil((this.body.scrollTop + this.body.clientHeight) / ROW) + 4);
    const rows = [];
    for (let at = first; at < last; at++) rows.push(this.row(at));
    this.space.replaceChildren(...rows);
  }

  row(at) {
    const key = this.rows[at];
    const current = key === this.selected;
    const row = h("div", {
      role: "row", id: `row-${key}`, class: `table-row${current ? " is-current" : ""}`, "aria-rowindex": String(at + 2), "aria-selected": String(current),
      onclick: () => { this.at = at; this.select(); }, ondblclick: () => this.options.onopen(key),
    }, ...this.columns.map((column) => this.cell(column, key)));
    row.style.top = `${at * ROW}px`;
    return row;
  }

  cell(column, key) {
    const value = column.of(this, key);
    const role = column.id === "name" ? "rowheader" : "gridcell";
    const cell = h("div", { role, class: `cell cell-${column.id}${column.text ? " is-text" : ""}` });
    if (column.text) {
      cell.textContent = value;
      cell.title = column.id === "module" ? this.profile.keyModule(key) : value;
      const way = column.id === "verdict" ? direction(this.profile, key) : 0;
      if (way) cell.classList.add(way > 0 ? "is-up" : "is-down");
    } else if (column.plain) {
      cell.textContent = number(value);
    } else {
      this.fillValue(cell, column, value, key);
    }
    return cell;
  }

  fillValue(cell, column, value, key) {
    const text = minus(quantity(value, this.profile.unit));
    cell.append(h("span", { class: "cell-value" }, column.delta && value > 0 ? `+${text}` : text),
      h("span", { class: "cell-share" }, percent(value / this.whole)));
    if (column.bar) {
      const bar = h("span", { class: "cell-bar" });
      bar.style.width = `${Math.min(100, (value / this.whole) * 100)}%`;
      cell.prepend(bar);
    }
    if (!column.delta) return;
    const way = direction(this.profile, key, column.delta);
    cell.classList.add(way && Math.sign(value) === way ? (way > 0 ? "is-up" : "is-down") : "is-quiet");
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.body.clientHeight / ROW) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.ctrlKey || event.metaKey || event.altKey || !this.rows.length) return;
    if (event.key in moves) this.at = Math.max(0, Math.min(this.rows.length - 1, this.at + moves[event.key]));
    else if (event.key === "Enter") this.options.onopen(this.rows[this.at]);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key !== "Enter") this.select();
  }

  select() {
    this.selected = this.rows[this.at];
    const top = this.at * ROW;
    if (top < this.body.scrollTop) this.body.scrollTop = top;
    else if (top + ROW > this.body.scrollTop + this.body.clientHeight) this.body.scrollTop = top + ROW - this.body.clientHeight;
    this.body.setAttribute("aria-activedescendant", `row-${this.selected}`);
    this.options.onselect(this.selected);
    this.draw();
  }
}
