"""Ending a command with everything that it started, and being certain of it."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

from oubliette_core.errors import RuntimeOperationError, RuntimeUnavailableError
from oubliette_core.guest import VERDICT_END, Verdict, kill_trees
from oubliette_docker._errors import EngineError
from oubliette_docker._refusals import NoShellError
from oubliette_docker._streams import STDOUT, Dialogue
from oubliette_docker._sweeps import Sweeps

if TYPE_CHECKING:
    from oubliette_core.guest import Marks
    from oubliette_docker._exec_calls import ExecCalls, Job

__all__ = ["Killer"]

_ROOT = "0:0"
_PAUSE = 0.02
_LONGEST = 1024 * 1024
_NO_SHELL = re.compile(rb"""["'` ]/bin/sh["'`:].*(no such file|not found|permission denied)""", re.IGNORECASE)


class Killer:
    """Kills the process trees of execs. Safe between threads.

    The Engine API cannot end an exec, so the killer of `oubliette_core.guest` is run beside it, in the same container.
    """

    def __init__(self, calls: ExecCalls, marks: Marks) -> None:
        self._calls, self._marks = calls, marks
        self._freezing = threading.Lock()
        self._sweeps = Sweeps(self._strike)

    def end(self, job: Job, identity: str, until: float) -> bool:
        """Kill everything that belongs to a job; never raises.

        That nothing is left counts only when nothing can come after: when the command was among what was killed, or
        when the engine had said before that it has ended. The engine may still be about to start it.

        :param identity: exec id of the command. :param until: end of the time for it, by `time.monotonic`.
        :returns: True if it was confirmed that nothing is left.
        """
        user: str | None = _ROOT
        ended, alone = False, job.plain
        while time.monotonic() < until:
            try:
                verdict = self._strike((job,), user, until) if alone else self._sweeps.join(job, user, until)
                # Next time: what others left undone may be why this does not do.
                alone = alone or (verdict.complete and not verdict.left)
                if verdict.complete and not verdict.left and (verdict.found or ended):
                    certain = self._marks.confirms(verdict, ended=ended)
                    if certain or ended:
                        return certain
                ended = self._calls.state(identity, timeout=_left(until)).ended
            except EngineError:
                if self._is_gone(job.container, until):
                    return True
            except (NoShellError, RuntimeUnavailableError):
                return False
            except RuntimeOperationError:
                pass
            else:
                if verdict.left:  # root without the right to kill other users' processes
                    user = job.spec.user if user == _ROOT else _ROOT
            time.sleep(_PAUSE)
        return False

    def _strike(self, jobs: tuple[Job, ...], user: str | None, until: float) -> Verdict:
        """Run the killer once for commands of one container, and read what it says."""
        freeze = self._freezing.acquire(blocking=False)
        try:
            age, limited = max(job.age() for job in jobs), not any(job.plain for job in jobs)
            argv = kill_trees([job.mark for job in jobs], age, limited=limited, freeze=freeze)
            identity = self._calls.create_killer(jobs[0].container, argv, user, timeout=_left(until))
            output = bytearray()

            def take(channel: int, part: memoryview) -> None:
                if channel == STDOUT and len(output) < _LONGEST:
                    output.extend(part)

            with self._calls.start_killer(identity, timeout=_left(until)) as stream:
                dialogue = Dialogue(stream, framed=True, take=take)
                # Its end is not waited for: an engine that is busy with other streams may tell of it seconds later.
                while not output.endswith(VERDICT_END) and time.monotonic() < until and dialogue.step(_left(until)):
                    pass
            if _NO_SHELL.search(output):
                raise NoShellError
            return Verdict.read(bytes(output))
        finally:
            if freeze:
                self._freezing.release()

    def _is_gone(self, container: str, until: float) -> bool:
        """Tell whether the container has ended, and all its processes with it."""
        try:
            return not self._calls.is_up(container, timeout=_left(until))
        except EngineError as error:
            return error.status == 404
        except RuntimeOperationError:
            return False


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)
