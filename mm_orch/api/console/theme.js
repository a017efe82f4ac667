// Light, dark, or as the system has it; the choice is kept in this browser.

const THEME = "muai-theme";
const THEMES = ["system", "light", "dark"];
const changes = new EventTarget();

export function readTheme() {
  const kept = localStorage.getItem(THEME);
  return THEMES.includes(kept) ? kept : "system";
}

export const nextTheme = (theme) => THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];

export function applyTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem(THEME, theme);
  changes.dispatchEvent(new Event("change"));
  return theme;
}

/** Calls back whenever the colours have changed; returns what ends that. */
export function watchTheme(listener) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  changes.addEventListener("change", listener);
  system.addEventListener("change", listener);
  return () => {
    changes.removeEventListener("change", listener);
    system.removeEventListener("change", listener);
  };
}

/** What a custom property of the style sheet is as a colour now. */
export function readColor(property, element) {
  const probe = document.createElement("span");
  probe.style.color = `var(${property})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
