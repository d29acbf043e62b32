"""All cases in one class."""

from __future__ import annotations

from oubliette_core.testing.kit.commands import CommandCases, InputCases, NotRunCases, OutputCases
from oubliette_core.testing.kit.conversations import ConversationCases, TerminalCases
from oubliette_core.testing.kit.copying import CopyCases
from oubliette_core.testing.kit.creating import ContentCases, CreatingCases, MountCases
from oubliette_core.testing.kit.deadlines import CancelCases, DeadlineCases
from oubliette_core.testing.kit.engine import EngineCases
from oubliette_core.testing.kit.honesty import DefaultCases, EnforcedCases, UndeclaredCases
from oubliette_core.testing.kit.leftovers import LeftoverCases
from oubliette_core.testing.kit.lifecycle import RemovingCases, StartingCases, StoppingCases
from oubliette_core.testing.kit.local_images import BuildCases, ImageArchiveCases, ImageCases, ImageRemovalCases
from oubliette_core.testing.kit.looking import InspectCases, ListCases
from oubliette_core.testing.kit.printed import LogCases
from oubliette_core.testing.kit.progress import ProgressCases
from oubliette_core.testing.kit.pulling import FailedPullCases, PullingCases
from oubliette_core.testing.kit.refusing import RefusalCases

__all__ = ["RuntimeConformance"]


class RuntimeConformance(
    # pytest runs the cases of the last base first.
    LeftoverCases,
    RefusalCases,
    DefaultCases,
    UndeclaredCases,
    EnforcedCases,
    CopyCases,
    ListCases,
    InspectCases,
    LogCases,
    TerminalCases,
    ConversationCases,
    CancelCases,
    DeadlineCases,
    NotRunCases,
    OutputCases,
    InputCases,
    CommandCases,
    RemovingCases,
    StoppingCases,
    StartingCases,
    MountCases,
    ContentCases,
    CreatingCases,
    BuildCases,
    ImageArchiveCases,
    ImageRemovalCases,
    ImageCases,
    ProgressCases,
    FailedPullCases,
    PullingCases,
    EngineCases,
):
    """Everything that a runtime has to do.

    A runtime's author inherits it under a name that begins with ``Test``, in a test module, and loads
    ``oubliette_core.testing.plugin`` in a conftest. A case that the runtime cannot pass is overridden with a method
    that is marked as an expected failure, with a reason; anything else in its place is refused.
    """
