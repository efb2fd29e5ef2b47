"""A visitor with a browser, who hears everything that the console says."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# Nothing but what is asked of it goes over the network.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# What Chromium says when an interface of the machine comes or goes, as containers' do: no page can bring that about.
PARDONED = ("net::ERR_NETWORK_CHANGED",)
LIMIT_MS = 60_000
# Of the whole screen, summed over a visit: what Core Web Vitals call cumulative layout shift.
MOST_SHIFT = 0.02
# Runs in every page before the page's own scripts; the page's policy does not bind it, and it adds nothing to the page.
WITNESS = """
window.witness = { shift: 0, shifts: [], filled: [], announced: [], violations: [] };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    witness.shift += entry.value;
    witness.shifts.push([entry.value, ...entry.sources.map((source) => source.node?.outerHTML?.slice(0, 120))]);
  }
}).observe({ type: "layout-shift", buffered: true });
addEventListener("securitypolicyviolation", (event) => witness.violations.push(event.violatedDirective));
const filled = (node) => {
  if (!node.matches?.("li[data-frame]")) return;
  const { frame, kind } = node.dataset;
  const state = document.querySelector("[data-state]")?.dataset.state;
  if (kind !== "empty") witness.filled.push({ frame: Number(frame), kind, state });
};
new MutationObserver((mutations) => {
  for (const { type, target, addedNodes } of mutations) {
    const ears = (target.nodeType === 1 ? target : target.parentElement)?.closest("[aria-live=polite]");
    if (ears && ears.textContent && witness.announced.at(-1) !== ears.textContent) {
      witness.announced.push(ears.textContent);
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
    """One browser context with one page. What it may say on its console is said beforehand; see `pardon`."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context, self.url = context, url
        self.said: list[str] = []
        self.asked: list[Request] = []
        self._pardoned = list(PARDONED)
        context.add_init_script(WITNESS)
        context.set_default_timeout(LIMIT_MS)
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"thrown: {error}"))
        self.page.on("request", lambda request: self.asked.append(request))

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def pardon(self, pattern: str) -> None:
        """A line that a test brings about itself, such as the browser's own about a call that it answers with 404."""
        self._pardoned.append(pattern)

    def until(self, happened: str, argument: Any = None) -> None:
        """Wait for an expression of the page to be true."""
        self.page.wait_for_function(happened, arg=argument)

    def until_it_is(self, condition: Callable[[], Any]) -> None:
        """Wait for something on this side; the page goes on meanwhile."""
        for _ in range(LIMIT_MS // 25):
            if condition():
                return
            self.page.wait_for_timeout(25)
        raise AssertionError("it did not happen in time")

    def witnessed(self, what: str) -> Any:
        """What the page has seen of itself; see WITNESS."""
        return self.page.evaluate(f"() => witness.{what}")

    def urls(self, pattern: str) -> list[str]:
        """The addresses asked for so far that a pattern is found in."""
        return [request.url for request in self.asked if re.search(pattern, request.url)]

    def slot(self, frame: int) -> Locator:
        return self.page.locator(f"li[data-frame='{frame}']")

    def await_state(self, state: str) -> None:
        self.page.locator(f"[data-state='{state}']").wait_for(state="attached")

    def assert_still(self) -> None:
        """Nothing has moved that the visitor did not move; says what did, and by how much."""
        shifts = self.witnessed("shifts")
        assert self.witnessed("shift") <= MOST_SHIFT, "\n".join(map(str, shifts))

    def forgive_violations(self) -> None:
        """Those so far, which a test has brought about itself."""
        self.page.evaluate("() => { witness.violations = []; }")

    def leave(self) -> None:
        """Close the page. Fails where the console was not empty, or the page asked anybody else for anything."""
        violations = [] if self.page.is_closed() else self.witnessed("violations")
        self.context.close()
        said = [line for line in self.said if not any(re.search(pardoned, line) for pardoned in self._pardoned)]
        assert said == [], said
        assert violations == [], violations
        strangers = [url for url in self.urls("") if not url.startswith((self.url, "blob:", "data:"))]
        assert strangers == [], strangers


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or what goes by that name here."""
    assert CHROMIUM, "no Chromium here; install one: apt-get install chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()
