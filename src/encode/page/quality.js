// How good the profile is: lost, cut, unknown, gaps. Always in view; a click tells all of it.

import { h } from "./dom.js";
import { clock, number, percent, plural } from "./format.js";

const POOR_LOST = 0.01;
const POOR_COMPLETE = 0.95;
const POOR_UNKNOWN = 0.05;

// A range may begin before all windows, and end behind them, as the whole does by a second: only what lies between is missing.
export function dropOuterGaps({ quality, base }, { from_nanos: first, to_nanos: last }) {
  for (const side of [quality, base?.quality]) {
    if (side?.gaps) side.gaps = side.gaps.filter(([from, to]) => from < last && to > first);
  }
}

// What is worse of both sides of a comparison, and the gaps and failures of both.
export function worse(one, other) {
  const least = (name) => [one[name], other[name]].filter((value) => value !== null && value !== undefined).sort((a, b) => a - b);
  const all = (name) => [...(one[name] ?? []), ...(other[name] ?? [])];
  const most = (name) => least(name).at(-1) ?? null;
  // A share in words is that of the side whose share it is.
  const told = (name, share, is_worse) => (is_worse(other[share] ?? null, one[share] ?? null) ? other : one).told?.[name] ?? null;
  const more = (a, b) => a !== null && (b === null || a > b);
  const less = (a, b) => a !== null && (b === null || a < b);
  return {
    lost: most("lost"), lost_share: most("lost_share"), throttled: most("throttled") ?? 0, complete_share: least("complete_share")[0] ?? null,
    unnamed_share: most("unnamed_share"), unknown_share: most("unknown_share"), gaps: all("gaps"), unreadable: all("unreadable"),
    told: { lost: told("lost", "lost_share", more), cut: told("cut", "complete_share", less), unnamed: told("unnamed", "unnamed_share", more) },
  };
}

// Of a comparison the chips tell the worse side, and whether there are doubts.
export function chipsOf({ quality, base, remarks }) {
  if (!base) return qualityChips(quality);
  const chips = base.quality === quality ? qualityChips(quality) : qualityChips(worse(quality, base.quality));
  if (!remarks?.length) return chips;
  const text = plural(remarks.length, "doubt about the comparison", "doubts about the comparison");
  return [h("span", { class: "chip is-poor", title: remarks.join("\n") }, text), ...chips];
}

export function qualityChips(quality) {
  const chips = [];
  const chip = (text, poor, meaning) => chips.push(h("span", { class: `chip${poor ? " is-poor" : ""}`, title: meaning }, text));
  if (quality.lost === null && quality.complete_share === null) chip("quality unknown", false, "The file does not tell what was lost");
  if (quality.lost !== null && quality.lost !== undefined) {
    const share = quality.lost_share ?? 0;
    const told = quality.told?.lost ?? percent(share);
    chip(quality.lost ? `${told} lost` : "0 lost", share > POOR_LOST, "samples of this kind that the kernel dropped");
  }
  if (quality.complete_share !== null && quality.complete_share !== undefined) {
    const cut = 1 - quality.complete_share;
    chip(cut ? `${quality.told?.cut ?? percent(cut)} of stacks cut` : "all stacks whole", quality.complete_share < POOR_COMPLETE, "user stacks that do not reach their root");
  }
  if (quality.unnamed_share !== null && quality.unnamed_share !== undefined) {
    const of = quality.frames ? `; ${number(quality.frames[0])} of ${number(quality.frames[1])} distinct frames have no name` : "";
    chip(
      `${quality.told?.unnamed ?? percent(quality.unnamed_share)} with an unnamed frame`, quality.unnamed_share > POOR_UNKNOWN,
      `value of samples whose stack has a frame without a function's name${of}`,
    );
  } else if (quality.unknown_share !== null && quality.unknown_share !== undefined) {
    chip(`${percent(quality.unknown_share)} without a name`, quality.unknown_share > POOR_UNKNOWN, "value of samples whose innermost function is unknown");
  }
  if (quality.gaps?.length) chip(plural(quality.gaps.length, "gap", "gaps"), true, "stretches without data");
  if (quality.throttled) chip(`throttled ${number(quality.throttled)}×`, true, "the kernel held events back");
  if (quality.unreadable?.length) chip(`${plural(quality.unreadable.length, "file", "files")} unreadable`, true, "not counted");
  return chips;
}

export function remarkList(remarks) {
  if (!remarks?.length) return [];
  return [h("h3", {}, "The comparison"), h("ul", {}, ...remarks.map((line) => h("li", {}, line)))];
}

export function qualityDetails(title, quality) {
  const list = (heading, lines) => lines?.length ? [h("h4", {}, heading), h("ul", {}, ...lines.map((line) => h("li", {}, line)))] : [];
  return [
    ...(title ? [h("h3", {}, title)] : []),
    ...list("Counted", (quality.health ?? []).map((row) => `${number(row.count)} ${row.meaning}`)),
    ...list("Gaps", (quality.gaps ?? []).map(([from, to]) => `${clock(from / 1e9)} – ${clock(to / 1e9)}`)),
    ...list("Not readable", quality.unreadable),
    ...list("Remarks", quality.remarks),
  ];
}
