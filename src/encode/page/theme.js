// Light, dark, or as the system says; a choice is kept in this browser.

const ORDER = ["", "light", "dark"];
const WORDS = { "": "as the system", light: "light", dark: "dark" };
const NAME = "rprof-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  // From a file, storage may be refused.
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

let theme = ORDER.includes(stored()) ? stored() : "";

function apply() {
  const dark = theme === "dark" || (theme === "" && system.matches);
  document.documentElement.dataset.shade = dark ? "dark" : "light";
}

export function startTheme(changed) {
  apply();
  system.addEventListener("change", () => {
    apply();
    changed();
  });
}

export function nextTheme(changed, say) {
  theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
  try {
    localStorage.setItem(NAME, theme);
  } catch {
    // The choice lasts as long as the page.
  }
  apply();
  changed();
  say(`Theme: ${WORDS[theme]}`);
}
