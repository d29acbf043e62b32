# ruff: noqa: F403 - the stars of a stub re-export; what runs is in __init__.py

from oubliette_core import errors as errors
from oubliette_core import guest as guest
from oubliette_core import hookspecs as hookspecs
from oubliette_core import logins as logins
from oubliette_core import models as models
from oubliette_core import plugins as plugins
from oubliette_core import reference as reference
from oubliette_core import runtime as runtime
from oubliette_core._version import __version__ as __version__
from oubliette_core.errors import *
from oubliette_core.guest import *
from oubliette_core.hookspecs import *
from oubliette_core.logins import *
from oubliette_core.models import *
from oubliette_core.plugins import *
from oubliette_core.reference import *
from oubliette_core.runtime import *

__all__: list[str]
