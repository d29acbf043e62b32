"""Pluggable container runtimes for AI-agent sandboxes.

The public names of the contract: errors, models, references, hooks, the `Runtime` face, what runs in a container, and
logins to registries.
They are loaded when one is first asked for: the command line imports this package before it knows what it will need.
Type checkers read ``__init__.pyi``.
"""

from importlib import import_module
from typing import Any

from oubliette_core._version import __version__ as __version__

_CONTRACT = ("errors", "reference", "models", "guest", "logins", "hookspecs", "runtime", "plugins")


def __getattr__(name: str) -> Any:
    """Find a public name in the module that has it (PEP 562), and keep it."""
    if name in _CONTRACT:
        return import_module(f"oubliette_core.{name}")
    if name == "__all__" or not name.startswith("_"):
        modules = [import_module(f"oubliette_core.{module}") for module in _CONTRACT]
        public = {each: getattr(module, each) for module in modules for each in module.__all__}
        globals().update(public, __all__=["__version__", *public])
    if name not in globals():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]
