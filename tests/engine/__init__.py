"""A Docker Engine and a registry for tests and the demo, wherever they can be had.

In this order: the engine named by `OUBLIETTE_TEST_ENGINE`; the one that the docker CLI would find; as root on Debian
or Ubuntu a private one, from packages unpacked into a cache. `python -m tests.engine --help` does the same for
commands. Standard library only: this runs before anything is installed.
"""

from tests.engine.provide import Engine, EngineUnavailableError, private_engine, running_engine

__all__ = ["Engine", "EngineUnavailableError", "private_engine", "running_engine"]
