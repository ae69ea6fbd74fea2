// Theme, type size, and the shortcuts of the keyboard. Nothing is remembered after the page is left.

const dark = matchMedia("(prefers-color-scheme: dark)");

export function toggleTheme(button) {
  setTheme(button, isDark() ? "light" : "dark");
}

export function toggleLarge(button) {
  const large = document.documentElement.dataset.type !== "large";
  document.documentElement.dataset.type = large ? "large" : "normal";
  button.setAttribute("aria-pressed", large);
}

export function followSystem(button) {
  const update = () => button.setAttribute("aria-pressed", isDark());
  dark.addEventListener("change", update);
  update();
}

const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

function setTheme(button, theme) {
  document.documentElement.dataset.theme = theme;
  button.setAttribute("aria-pressed", theme === "dark");
}

/** Single keys, off in text fields, with modifiers, and when the user has switched them off. */
export function onKeys(actions, enabled) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || (event.key.length === 1 && (!enabled() || isTyping(event.target)))) return;
    if (action(event) !== false) event.preventDefault();
  });
}

const isTyping = (target) => target.matches("textarea, select, input:not([type=radio], [type=checkbox])");
