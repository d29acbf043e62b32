"""The picture of the demo in the README: its middle, drawn from what a real run printed."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

PICTURE = Path(__file__).parents[2] / "docs" / "_static" / "demo.svg"
_COLUMNS = 112
_STYLES = {"$": "bold", "#": "dim", "(": "dim"}
_SVG = "{http://www.w3.org/2000/svg}"


def middle(transcript: str) -> str:
    """Return the chapters that are shown: from the first project to the newer image."""
    [shown] = re.findall(r"^2\. .*?(?=\n+5\. )", transcript, flags=re.MULTILINE | re.DOTALL)
    return str(shown)


def draw(transcript: str) -> str:
    """Return the picture of a transcript, an SVG that needs nothing from anywhere else."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    for line in middle(transcript).splitlines():
        chapter = re.match(r"\d\. ", line)
        console.print(Text(line, style="bold cyan" if chapter else _STYLES.get(line[:1], "")))
    svg = console.export_svg(title="./dev demo", theme=DIMMED_MONOKAI, unique_id="demo")
    svg = re.sub(r"\s*@font-face \{[^}]*\}", "", svg)  # Rich would have a font fetched from far away
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


def commands(transcript: str) -> list[str]:
    """Return what is typed in the middle of a transcript."""
    return [line for line in middle(transcript).splitlines() if line.startswith("$ ")]


def commands_drawn() -> list[str]:
    """Return what is typed in the picture that is kept."""
    texts = ET.fromstring(PICTURE.read_text(encoding="utf-8")).iter(f"{_SVG}text")  # noqa: S314 - our own
    lines = [(text.text or "").replace("\xa0", " ") for text in texts]
    return [line for line in lines if line.startswith("$ ")]
