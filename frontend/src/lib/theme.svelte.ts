/** Light or dark: as the system says, unless the visitor has switched. */

type Theme = "light" | "dark";
const KEY = "momalisa-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

const state = $state<{ shown: Theme }>({ shown: "light" });

export const theme: Readonly<typeof state> = state;

export function startTheme(): void {
  show();
  system.addEventListener("change", show);
}

/** To the other one. Where the system has that one too, it is followed again. */
export function switchTheme(): void {
  const other = state.shown === "dark" ? "light" : "dark";
  try {
    if (other === systems()) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, other);
  } catch {
    // Storage may be forbidden; the switch then lasts as long as the page.
  }
  show(other);
}

function systems(): Theme {
  return system.matches ? "dark" : "light";
}

function chosen(): Theme | null {
  try {
    const found = localStorage.getItem(KEY);
    return found === "light" || found === "dark" ? found : null;
  } catch {
    return null;
  }
}

function show(wanted: unknown = null): void {
  const own = wanted === "light" || wanted === "dark" ? wanted : chosen();
  state.shown = own ?? systems();
  if (own && own !== systems()) document.documentElement.dataset.theme = own;
  else delete document.documentElement.dataset.theme;
}
