// Keys for everything. Widgets take their own first (arrows in the graph); the rest comes here.

import { h } from "./dom.js";

// `acts` by name; the table is what the help shows.
export const KEYS = [
  ["/", "search", "Search (a regular expression)"],
  ["n", "next", "Next match"],
  ["N", "previous", "Match before"],
  ["1", "flame", "Flame graph"],
  ["2", "table", "Table of functions"],
  ["3", "sandwich", "Callers and callees of the selected function"],
  ["i", "icicle", "Root above or below"],
  ["v", "invert", "Invert: from the innermost function"],
  ["c", "color", "Next colouring"],
  ["r", "recursion", "Collapse recursion"],
  ["l", "libraries", "Collapse libraries"],
  ["d", "inlined", "Leave out inlined frames"],
  ["k", "kernel", "Leave out the kernel"],
  ["f", "filter", "Filters"],
  ["o", "focus", "Only stacks with the selected function"],
  ["p", "pin", "Pin the range as base, or let it go"],
  ["x", "clear", "Show the whole time again"],
  ["z", "zoomtime", "Zoom the time line to the range"],
  ["e", "export", "Export"],
  ["y", "link", "Copy a link to what is shown"],
  ["t", "theme", "Light, dark, or as the system"],
  ["?", "help", "This help"],
];

const WIDGET_KEYS = [
  ["arrows", "Move in the graph, the table, the time line and the heat map"],
  ["Enter", "Zoom to the box; callers and callees of the row; begin and end a range in the heat map"],
  ["Esc", "Close, end the search, zoom out"],
  ["Shift + arrows", "Move the end of the range in the time line"],
  ["Ctrl + wheel", "Zoom the graph in width; Shift + wheel moves it"],
  ["Tab", "To the next part"],
];

export function listen(acts) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      acts.escape(event);
      return;
    }
    if (event.target.closest("input, select, textarea, dialog")) return;
    const found = KEYS.find(([key]) => key === event.key);
    if (!found) return;
    event.preventDefault();
    acts[found[1]]();
  });
}

export function helpList() {
  const row = (key, text) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)];
  return h("dl", { class: "keys" }, ...KEYS.flatMap(([key, , text]) => row(key, text)), ...WIDGET_KEYS.flatMap(([key, text]) => row(key, text)));
}
