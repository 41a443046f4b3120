// What is shown as a file: made in the page (SVG, folded) or by the server from the same range.

import { hash } from "./model.js";
import { percent, quantity } from "./format.js";

export const SERVER_FORMATS = [
  ["pprof", "pprof"], ["folded", "folded stacks"], ["svg", "flame graph (SVG)"], ["speedscope", "speedscope"],
  ["firefox", "Firefox Profiler"], ["html", "this page as one file"],
];

export function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Stacks as lines; `;` and line ends separate, so they are replaced in names. Of a comparison a line has two numbers: the base as if it
// were like the new side, and the new one.
export function folded(tree) {
  const lines = [];
  const safe = (name) => name.replace(/;/g, ":").replace(/[\u0000-\u001f\u007f]/g, "?").trim() || "[unknown]";
  const names = new Map();
  const nameOf = (key) => names.get(key) ?? (names.set(key, safe(tree.profile.keyName(key))), names.get(key));
  for (let node = 1; node < tree.n; node++) {
    const numbers = (tree.profile.isDiff ? [tree.selfBase[node], tree.self[node]] : [tree.self[node]]).map(Math.round);
    if (numbers.every((value) => value === 0)) continue;
    const stack = [];
    for (let at = node; at > 0; at = tree.parent[at]) stack.push(nameOf(tree.key[at]));
    lines.push(`${stack.reverse().join(";")} ${numbers.join(" ")}`);
  }
  return `${lines.sort().join("\n")}\n`;
}

const WIDTH = 1200;
const ROW = 18;
const LETTER = 6.6;

// The graph as a picture: what is zoomed to, in the colours of the screen.
export function svg(tree, colors, title, icicle, zoomed) {
  const escape = (text) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "?")
    .replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
  const scale = WIDTH / tree.width[zoomed];
  const base = tree.start[zoomed];
  const depth = tree.depth[zoomed];
  const boxes = [];
  let rows = 1;
  tree.rows.slice(depth).forEach((row, down) => {
    for (const node of row) {
      const x = (tree.start[node] - base) * scale;
      const width = tree.width[node] * scale;
      if (x < -1e-6 || x >= WIDTH || width < 0.3) continue;
      rows = Math.max(rows, down + 1);
      boxes.push({ node, x, width, down });
    }
  });
  const height = rows * ROW + 34;
  const shapes = boxes.map(({ node, x, width, down }) => {
    const name = node === 0 ? "all" : tree.profile.keyName(tree.key[node]);
    const y = icicle ? 30 + down * ROW : height - 4 - (down + 1) * ROW;
    const room = Math.floor((width - 6) / LETTER);
    const text = room < 4 ? "" : name.length > room ? `${name.slice(0, room - 1)}…` : name;
    const figures = figuresOf(tree, node);
    return `<g><title>${escape(name)} (${figures})</title><rect x="${x.toFixed(2)}" y="${y}" width="${Math.max(0.3, width - 0.5).toFixed(2)}" height="${ROW - 1}" rx="1" fill="${node === 0 ? "#9aa0aa" : rgb(colors.of(node))}"/>`
      + `${text ? `<text x="${(x + 3).toFixed(2)}" y="${y + 12.5}">${escape(text)}</text>` : ""}</g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="monospace" font-size="11">`
    + `<rect width="100%" height="100%" fill="#ffffff"/><text x="6" y="18" font-size="13">${escape(title)}</text>${shapes.join("")}</svg>\n`;
}

function figuresOf(tree, node) {
  const amount = (value, whole) => `${quantity(value, tree.profile.unit)}, ${percent(value / whole)}`;
  const now = amount(tree.total[node], tree.total[0]);
  return tree.profile.isDiff ? `${now}; base ${amount(tree.baseTotal[node], tree.baseTotal[0])}` : now;
}

// A colour as every reader of SVG knows it.
function rgb(color) {
  rgb.context ??= Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  rgb.known ??= new Map();
  if (rgb.known.has(color)) return rgb.known.get(color);
  rgb.context.fillStyle = color;
  rgb.context.fillRect(0, 0, 1, 1);
  const [r, g, b] = rgb.context.getImageData(0, 0, 1, 1).data;
  const text = `#${[r, g, b].map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  rgb.known.set(color, text);
  return text;
}

export function fileStem(title) {
  const words = title.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  return words || `profile-${hash(title).toString(36)}`;
}
