"""The shipped images, built for real: a session of its own (``nox -s images``), since it takes minutes."""
