"""What a release does, step by step: ``python -m release --help``. The workflow calls these steps; tests do, too.

Standard library only: it runs before anything is installed.
"""
