"""``python -m oubliette_core``: the command line, where its script is not on PATH."""

import sys

from oubliette_core.cli import main

sys.exit(main())
