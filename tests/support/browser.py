"""A visitor with a real browser, whose console must stay empty."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# The browser makes no network requests of its own.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Chromium logs this when a network interface of the machine appears or goes away; no page can cause it.
ALWAYS_ALLOWED = ("net::ERR_NETWORK_CHANGED",)
LIMIT_MS = 60_000
# Cumulative layout shift over a visit, as Core Web Vitals define it.
MAX_LAYOUT_SHIFT = 0.02
# Runs in every page before the page's own scripts, outside its content security policy, and adds nothing to the page.
OBSERVER = """
window.observed = { shift: 0, shifts: [], filled: [], announced: [], violations: [] };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    observed.shift += entry.value;
    observed.shifts.push([entry.value, ...entry.sources.map((source) => source.node?.outerHTML?.slice(0, 120))]);
  }
}).observe({ type: "layout-shift", buffered: true });
addEventListener("securitypolicyviolation", (event) => observed.violations.push(event.violatedDirective));
const filled = (node) => {
  if (!node.matches?.("li[data-frame]")) return;
  const { frame, kind } = node.dataset;
  const state = document.querySelector("[data-state]")?.dataset.state;
  if (kind !== "empty") observed.filled.push({ frame: Number(frame), kind, state });
};
new MutationObserver((mutations) => {
  for (const { type, target, addedNodes } of mutations) {
    const live = (target.nodeType === 1 ? target : target.parentElement)?.closest("[aria-live=polite]");
    if (live && live.textContent && observed.announced.at(-1) !== live.textContent) {
      observed.announced.push(live.textContent);
    }
    if (type === "attributes") filled(target);
    for (const node of addedNodes) {
      filled(node);
      if (node.nodeType === 1) node.querySelectorAll("li[data-frame]").forEach(filled);
    }
  }
}).observe(document, {
  childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["data-kind"],
});
"""


class Visitor:
    """One browser context with one page or more. A test announces expected console lines; see `allow_console`."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context, self.url = context, url
        self.console: list[str] = []
        self.requests: list[Request] = []
        self._allowed = list(ALWAYS_ALLOWED)
        context.add_init_script(OBSERVER)
        context.set_default_timeout(LIMIT_MS)
        self.page: Page = self.new_page()

    def new_page(self) -> Page:
        """Another page in the same browser profile, of which everything is recorded as of the first."""
        page = self.context.new_page()
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.console.append(f"thrown: {error}"))
        page.on("request", lambda request: self.requests.append(request))
        return page

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def allow_console(self, pattern: str) -> None:
        """Expect console lines that the test itself causes, such as the one for a request answered with 404."""
        self._allowed.append(pattern)

    def wait_for(self, expression: str, argument: Any = None) -> None:
        """Wait until a JavaScript expression is true in the page."""
        self.page.wait_for_function(expression, arg=argument)

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Wait until a Python condition is true; the page keeps running meanwhile."""
        for _ in range(LIMIT_MS // 25):
            if condition():
                return
            self.page.wait_for_timeout(25)
        raise AssertionError("the condition did not become true in time")

    def observed(self, name: str) -> Any:
        """One list or number that OBSERVER has collected in the page."""
        return self.page.evaluate(f"() => observed.{name}")

    def requested_urls(self, pattern: str) -> list[str]:
        """The URLs requested so far that match a pattern."""
        return [request.url for request in self.requests if re.search(pattern, request.url)]

    def slot(self, frame: int) -> Locator:
        return self.page.locator(f"li[data-frame='{frame}']")

    def await_state(self, state: str) -> None:
        self.page.locator(f"[data-state='{state}']").wait_for(state="attached")

    def assert_no_layout_shift(self) -> None:
        """Nothing on the page has moved by itself; on failure the message lists what did, and by how much."""
        shifts = self.observed("shifts")
        assert self.observed("shift") <= MAX_LAYOUT_SHIFT, "\n".join(map(str, shifts))

    def clear_violations(self) -> None:
        """Forget the policy violations so far, which the test itself has caused."""
        self.page.evaluate("() => { observed.violations = []; }")

    def close(self) -> None:
        """Close the page. Fails if the console was not empty or the page sent a request to another origin."""
        violations = [] if self.page.is_closed() else self.observed("violations")
        self.context.close()
        lines = [line for line in self.console if not any(re.search(pattern, line) for pattern in self._allowed)]
        assert lines == [], lines
        assert violations == [], violations
        foreign = [url for url in self.requested_urls("") if not url.startswith((self.url, "blob:", "data:"))]
        assert foreign == [], foreign


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium or Google Chrome from the PATH, or Playwright's own build where neither is installed."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()
