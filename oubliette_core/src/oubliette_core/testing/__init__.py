"""What runtimes are tested with.

* `suite.RuntimeConformance`: the conformance kit, which says what every runtime has to do. A runtime's author inherits
  it with `plugin` loaded, or runs ``python -m oubliette_core.testing NAME``; a program calls `check.run_kit`.
* `fake`: a complete runtime in memory, for the tests of what uses a runtime.
* `images`, `upload`, `registry`, `faults`: images made on the spot, and a registry that fails on demand.

Nothing in Oubliette itself imports this package.
"""
