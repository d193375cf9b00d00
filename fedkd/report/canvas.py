"""One drawing as inline SVG that takes the page's fonts and colours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#1d2530"
MUTED = "#67707d"
RULE = "#d5dae1"
PAPER = "#fdfdfc"
METHOD = "#2f74b5"
CONTROL = "#d98324"
REFERENCE = "#8f98a4"

# The page defines these variables for light and dark; the plots follow it.
_THEME = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedkd",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8.5,
}
_LONGEST = 30


def draw_svg(
    name: str, title: str, size: tuple[float, float], draw: Callable[[Figure], None]
) -> str:
    """Return ``<svg>`` markup of a figure of ``size`` inches that ``draw`` fills.

    ``name`` sets the ids apart from those of the page's other drawings; ``title`` is what a screen
    reader says. No state of matplotlib outlives the call.
    """
    style = mpl.rc_context(_STYLE)  # type: ignore[arg-type]  # the stubs want literal keys
    with style, warnings.catch_warnings():
        # The browser's fonts draw the text, so glyphs that matplotlib lacks are no loss.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = StringIO()
        figure.savefig(buffer, format="svg", dpi=192, transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), name, title, size[0])


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Return the text on one line, cut in its middle where it is longer than ``longest``."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    head = (longest - 1) // 2
    return f"{line[:head]}…{line[-(longest - 1 - head) :]}"


def _inline(svg: str, name: str, title: str, width: float) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    head, rest = body.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    for pattern, text in ((' id="', f' id="{name}-'), ("url(#", f"url(#{name}-")):
        rest = rest.replace(pattern, text)
    rest = rest.replace('xlink:href="#', f'href="#{name}-').replace("xlink:href=", "href=")
    for colour, variable in _THEME.items():
        rest = rest.replace(colour, variable)
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    pixels = round(width * 96)
    return (
        f'<svg {view.group() if view else ""} role="img" aria-label="{label}" '
        f'style="max-width:{pixels}px">{rest}'
    )
