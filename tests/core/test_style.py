"""The limits on length that no linter checks."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_FUNCTION = 50
LONGEST_MODULE = 500  # the aim is 400


def _product() -> list[Path]:
    return sorted(ROOT.glob("oubliette_*/src/**/*.py"))


def _functions(path: Path) -> list[tuple[str, int]]:
    """List the functions of a module with their lengths, docstrings not counted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", _lines(node)) for node in nodes]


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node
    return (node.end_lineno or first.lineno) - first.lineno + 1


def test_no_function_is_longer_than_a_screen() -> None:
    """What is longer is usually two ideas."""
    found = [function for path in _product() for function in _functions(path)]

    assert found
    assert [] == [(name, lines) for name, lines in found if lines > LONGEST_FUNCTION]


def test_no_module_is_too_long_to_be_read_at_one_sitting() -> None:
    """A module holds one thing; the docstrings of a contract count too."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _product()}

    assert lengths
    assert {} == {str(path): lines for path, lines in lengths.items() if lines > LONGEST_MODULE}
