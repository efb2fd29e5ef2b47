/** Light or dark theme: as the system has it, unless the visitor has switched. */

type Theme = "light" | "dark";
const KEY = "momalisa-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

const state = $state<{ shown: Theme }>({ shown: "light" });

export const theme: Readonly<typeof state> = state;

export function startTheme(): void {
  show();
  system.addEventListener("change", show);
}

/** Switch to the other theme. If the system uses that one, follow the system again. */
export function switchTheme(): void {
  const other = state.shown === "dark" ? "light" : "dark";
  try {
    if (other === systemTheme()) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, other);
  } catch {
    // If storage is blocked, the switch lasts until the page is left.
  }
  show(other);
}

function systemTheme(): Theme {
  return system.matches ? "dark" : "light";
}

function storedTheme(): Theme | null {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === "light" || stored === "dark" ? stored : null;
  } catch {
    return null;
  }
}

function show(requested: unknown = null): void {
  const own = requested === "light" || requested === "dark" ? requested : storedTheme();
  state.shown = own ?? systemTheme();
  if (own && own !== systemTheme()) document.documentElement.dataset.theme = own;
  else delete document.documentElement.dataset.theme;
}
