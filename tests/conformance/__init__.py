"""The conformance kit, run over the runtimes of this repository, and over runtimes that are broken on purpose."""
