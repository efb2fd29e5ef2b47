"""What axe finds wrong on a page that a visitor sees."""

from tests.support.browser import Visitor
from tests.support.processes import REPOSITORY

AXE = REPOSITORY / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def axe_violations(visitor: Visitor) -> list[tuple[str, list[str]]]:
    """The rules that are broken, each with its elements.

    axe is injected through the debugger, which the page's policy does not block.
    """
    visitor.page.evaluate(AXE.read_text())
    found = visitor.page.evaluate("(tags) => axe.run({ runOnly: tags, resultTypes: ['violations'] })", TAGS)
    return [(rule["id"], [node["html"][:160] for node in rule["nodes"]]) for rule in found["violations"]]
