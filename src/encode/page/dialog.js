// The one dialog, for help, quality, filters and exports. The browser keeps the focus within it.

import { byId, fill } from "./dom.js";

export function openDialog(title, parts) {
  byId("dialog-title").textContent = title;
  fill(byId("dialog-body"), ...parts);
  const dialog = byId("dialog");
  if (!dialog.open) dialog.showModal();
  dialog.setAttribute("aria-labelledby", "dialog-title");
}

export function closeDialog() {
  byId("dialog").close();
}
