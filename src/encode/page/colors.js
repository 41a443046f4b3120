// Colours of boxes. All hues have one lightness, so that text on them reads the same; differences are blue and red, which
// people who do not tell red from green can tell apart.

import { hash } from "./model.js";
import { fileName } from "./format.js";

export const SCHEMES = [
  ["package", "package"], ["module", "module"], ["kind", "kind of frame"], ["diff", "difference"],
];

// By origin: user, inlined, kernel, made at run time, no code, interpreter.
const KIND_HUES = [250, 200, 55, 150, null, 310];
const HUES = [28, 45, 62, 85, 110, 135, 160, 185, 205, 225, 245, 265, 285, 305, 325, 350];

export function isDark() {
  return document.documentElement.dataset.shade === "dark";
}

// One tint of a hue; the seed makes neighbours differ a little.
function tint(hue, seed, dark) {
  const shade = ((seed % 7) - 3) * 0.009;
  if (hue === null) return dark ? `oklch(${0.4 + shade} 0.004 260)` : `oklch(${0.86 + shade} 0.004 260)`;
  return dark ? `oklch(${0.46 + shade} 0.085 ${hue})` : `oklch(${0.83 + shade} 0.085 ${hue})`;
}

const NAMESPACE = /^(?:[<&(*\s]|dyn |mut |impl |const )*([A-Za-z_$][\w$]*(?:\.[a-z_][\w]*)*)(?:::|\/)/;

// The crate, namespace or package that a name begins with; else its module.
export function packageOf(name, module) {
  const go = /^([\w.-]+(?:\/[\w.-]+)*)\.[\w(*]/.exec(name);
  if (go && name.includes("/")) return go[1];
  const space = NAMESPACE.exec(name);
  if (space) return space[1];
  const dotted = /^([a-z]\w*)\.[\w(*]/.exec(name);
  return dotted ? dotted[1] : fileName(module) || "[no module]";
}

// The colour of each key of a profile under a scheme.
export function keyColors(profile, scheme) {
  const dark = isDark();
  const colors = new Array(profile.keys);
  for (let key = 0; key < profile.keys; key++) {
    const seed = hash(profile.keyName(key));
    colors[key] = tint(keyHue(profile, key, scheme), seed, dark);
  }
  return colors;
}

function keyHue(profile, key, scheme) {
  const own = key < profile.functions;
  if (own && profile.functionOrigin[key] === 4) return null;
  if (scheme === "kind") return own ? KIND_HUES[profile.functionOrigin[key]] : KIND_HUES[0];
  const module = profile.keyModule(key);
  if (module.startsWith("[kernel")) return KIND_HUES[2];
  const group = scheme === "module" ? fileName(module) : packageOf(profile.keyName(key), module);
  return HUES[hash(group) % HUES.length];
}

// The kinds by their colours, for the legend.
export function kindTint(origin) {
  return tint(KIND_HUES[origin], 3, isDark());
}

// What changed: red for more, blue for less, grey where it may be chance. The strength is that of the change, in doublings.
export function diffColor(now, before, significant, dark) {
  if (!significant || now === before) return dark ? "oklch(0.39 0.003 260)" : "oklch(0.89 0.003 260)";
  const ratio = before === 0 ? 2 : now === 0 ? -2 : Math.log2(now / before);
  const strength = Math.min(1, 0.25 + Math.abs(ratio) / 1.5);
  const hue = ratio > 0 ? 25 : 255;
  return dark
    ? `oklch(${(0.36 + 0.2 * strength).toFixed(3)} ${(0.05 + 0.12 * strength).toFixed(3)} ${hue})`
    : `oklch(${(0.9 - 0.22 * strength).toFixed(3)} ${(0.03 + 0.13 * strength).toFixed(3)} ${hue})`;
}

// The colour of each box of a tree.
export function boxColors(tree, scheme) {
  const { profile } = tree;
  if (scheme !== "diff" || !profile.isDiff) {
    const colors = keyColors(profile, scheme === "diff" ? "package" : scheme);
    return { of: (node) => colors[tree.key[node]] };
  }
  const dark = isDark();
  const known = new Array(tree.n);
  return {
    of: (node) => (known[node] ??= nodeColor(tree, node, dark)),
  };
}

function nodeColor({ profile, key, total, baseTotal }, node, dark) {
  const marked = isMarked(profile, key[node], total[node] - baseTotal[node]);
  return diffColor(total[node], baseTotal[node], marked, dark);
}

// Whether functions of a key are tested. A module as one frame is not, nor is anything where a side is empty.
export function isTested(profile, key) {
  return Boolean(profile.changes) && key < profile.functions;
}

// Whether a change of a box is told by a colour: that of a function which changed beyond chance, if the box changed the same way. What
// went the other way is another thing, of which nothing was shown.
export function isMarked(profile, key, change) {
  if (!isTested(profile, key)) return true;
  return change !== 0 && Math.sign(change) === direction(profile, key);
}

// Which way a function changed beyond chance: 1 for more, -1 for less, 0 for neither. `part` is "total", "self", or "" for the total
// and, where only its own part changed, that.
export function direction(profile, key, part = "") {
  const row = isTested(profile, key) ? profile.changes.row[key] : -1;
  if (!(row >= 0)) return 0;
  const { changes } = profile;
  const of = (name) => (changes[`significant_${name}`][row] ? Math.sign(changes[`new_${name}`][row] - changes[`base_${name}`][row]) : 0);
  return part ? of(part) : of("total") || of("self");
}

// Counts of the heat map: one hue from nothing to the most, light to dark or dark to light.
export function heat(share, dark) {
  const value = share ** 0.75;
  const hue = 75 - 50 * value;
  return dark
    ? `oklch(${(0.28 + 0.55 * value).toFixed(3)} ${(0.03 + 0.14 * value).toFixed(3)} ${hue.toFixed(0)})`
    : `oklch(${(0.97 - 0.47 * value).toFixed(3)} ${(0.02 + 0.16 * value).toFixed(3)} ${hue.toFixed(0)})`;
}

// Areas of the time line.
export function areaColor(at, dark) {
  const hues = [250, 55, 150, 310, 95, 200, 20, 280];
  if (at === "other") return dark ? "oklch(0.42 0.01 260)" : "oklch(0.82 0.01 260)";
  return dark ? `oklch(0.58 0.11 ${hues[at % hues.length]})` : `oklch(0.74 0.11 ${hues[at % hues.length]})`;
}
