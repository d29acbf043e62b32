"""A stand-in for Apple's `container` command, for machines that are no Mac.

It follows what is known of the command's versions 0.9 to 1.4 from its source: grammar of arguments, streams, exit
codes, error texts, JSON. Containers are real ones, of the engine that tests use; images are kept in its own store
and come from registries on loopback addresses only. It is no proof of how a Mac behaves: the kit runs against the
real command in a CI job of its own.

Left out, because Oubliette does not call them: `copy`, `export`, `stats`, `prune`, `image push`, `registry`,
`machine`, `builder` and `system logs|df|dns|kernel|property`. A call of one says so and exits with 70.

Each call reads its settings from a folder (`settings.py`), shares the state in it with others, and writes a record of
its argv and environment there. What stands on PATH is a small program (`client.py`) that hands the call with its
streams to a process that has everything imported (`server.py`), and that forks for it.
"""
