"""What runs inside a container, with nothing there but ``/bin/sh``.

A backend starts a command through `supervised`, with the variable `Mark.variable` in its environment, and ends it
with the command of `kill_tree`, run as root in the same container. How the processes of one command are told from
all others:

* ``supervised`` sets a limit on resident memory that no other command has. Linux keeps that limit and does not act on
  it, children inherit it, anybody may read it in ``/proc/PID/limits``, and it can only ever be lowered. So it survives
  ``env -i``, ``setsid``, a double fork and a change of user. (The core size, which could serve as well, is zero on
  hardened hosts, and daemons lower it themselves.)
* The variable is inherited too, and is looked for in ``/proc/PID/environ`` where the limit says nothing.
* A child of a process that was found belongs to the command as well.

The killer stops whatever it finds until two scans in a row find nothing new, kills it, and starts over until nothing
is left. It uses builtins of the shell only and never forks, so that a container full of processes does not stop it.

What a hostile command can do about it: lower its limit, clear its environment and detach itself. Then it is not killed,
but it is seen: a process with a lower limit whose origin cannot be told is a doubt, and `Marks.confirms` is False. It
passes unseen only when it copies the limit of another command that Oubliette runs, or, being root in the container,
replaces ``/bin/sh``: what a hostile container says about itself is worth no more than that.
"""

from __future__ import annotations

import collections
import math
import re
import secrets
import threading
import time
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "EXEC_VARIABLE",
    "IDLE_COMMAND",
    "VERDICT_END",
    "Doubt",
    "Mark",
    "Marks",
    "Verdict",
    "can_supervise",
    "kill_tree",
    "kill_trees",
    "not_run",
    "supervised",
]

VERDICT_END = b"\ndone\n"
"""The last that the killer prints; nothing has to be waited for after it."""

EXEC_VARIABLE = "OUBLIETTE_EXEC"
"""Name of the variable that every process of a command has in its environment."""

_IDLE = """
trap 'exit 0' HUP INT QUIT TERM
sleep 2147483647 2>/dev/null & wait $!
busybox sleep 2147483647 2>/dev/null & wait $!
while read -r line; do :; done
read -r line <>/dev/ptmx
"""
# Each line waits for as long as it can and gives way to the next when it cannot. The last one reads from a new
# terminal that nobody has opened on the other side, which blocks for ever and needs no program at all.

IDLE_COMMAND = ("/bin/sh", "-c", _IDLE, "oubliette-idle")
"""argv of a container's main process that waits, using no processor time, and ends at once on TERM or INT."""

_START = """
ulimit -m "$1" 2>/dev/null
unset PWD OLDPWD SHLVL
[ -z "$BASH_VERSION" ] || shopt -s execfail 2>/dev/null
shift
trap 'set -- $?; trap - 0; echo "$0 $1" >&2; exit $1' 0
exec "$@"
set -- $?; trap - 0; echo "$0 $1" >&2; exit $1
"""
# A shell whose exec fails either ends, which runs the trap, or, being bash, goes on. Nothing of this is left where it
# succeeds. No variables are used: one of the same name in the environment would change for the command.

_LOOK = """
describe() {
    state= parent=
    while read -r key value rest; do
        case $key in
            State:) state=$value ;;
            PPid:) parent=$value; case $state in [ZX]) ;; *) return 0 ;; esac ;;
            Threads:) [ "$value" -gt 1 ]; return ;;
        esac
    done <"/proc/$1/status"
    return 1
}
grouped() {
    group=
    while read -r key value rest; do
        case $key in NSpgid:) group=$value; return ;; esac
    done <"/proc/$1/status"
}
limited() {
    hard=
    while read -r a b c soft hard rest; do
        case "$a $b $c" in 'Max resident set') return 0 ;; esac
    done <"/proc/$1/limits"
    hard=
}
above() {
    case $1 in unlimited) [ "$limit" != none ] ;; *[!0-9]* | '') false ;; *) [ "$1" -gt "$limit" ] ;; esac
}
marked() {
    while IFS= read -r text || [ -n "$text" ]; do
        for mark in $marks; do
            case $text in *"$mark"*) return 0 ;; esac
        done
    done <"/proc/$1/environ"
    return 1
}
alive() {
    describe "$1" || return
    case $state in [ZX]) return 0 ;; esac
    pages=0
    read -r pages rest <"/proc/$1/statm"
    [ "$pages" -gt 0 ]
}
older() {
    line=
    while IFS= read -r text || [ -n "$text" ]; do line=$text; done <"/proc/$1/stat"
    set -- ${line##*) }
    [ "${20:-$birth}" -lt "$birth" ]
}
doubt() {
    limited "$1"
    case $hard in *[!0-9]* | '') hard=0 ;; esac
    pid=$1 steps=0
    while describe "$pid" && [ "$parent" -gt 1 ] && [ "$steps" -lt 99 ]; do pid=$parent steps=$((steps + 1)); done
    case $parent in 0) echo "doubt $1 $hard exec" ;; *) echo "doubt $1 $hard orphan" ;; esac
}
"""
# A process whose first thread has ended looks like a zombie; only the number of its threads tells that it lives. One
# that has threads and no memory is at its end, and starts nothing any more.
# `above`: processes with a higher limit, or none, are not the command's. That says nothing where no limit could be set.

_SCAN = """
take() {
    ours="$ours$1 " new=1
    kill -s "$signal" "$1"
    grouped "$1"
    case $groups in *" ${group:-0} "*) return ;; esac
    groups="$groups$group "
    kill -s "$signal" -- "-$group"
}
examine() {
    case $1 in 0 | 1 | "$$" | *[!0-9]*) return ;; esac
    case $ours in *" $1 "*) return ;; esac
    describe "$1" || return
    case $ours in *" $parent "*) take "$1"; return ;; esac
    limited "$1"
    case $limits in
        *" $hard "*) take "$1"; hit "$hard" ;;
        *) above "$hard" || suspects="$suspects$1 " ;;
    esac
}
hit() {
    case $hits in *" $1 "*) ;; *) hits="$hits$1 " ;; esac
}
newest() {
    last=0
    read -r a b c d last </proc/loadavg
}
expired() {
    read -r now rest </proc/uptime
    [ "${now%.*}" -ge "$end" ]
}
escalate() {
    [ "$signal" = STOP ] || return 0
    signal=KILL
    if [ "$may" = freeze ]; then
        trap 'kill -s CONT -- -1' 0
        trap exit HUP INT TERM
        kill -s STOP -- -1
    fi
    for pid in $ours; do kill -s KILL "$pid"; done
}
scan() {
    new= suspects= chases=0
    newest; seen=$last
    set -- /proc/[0-9]*
    [ $# -lt 64 ] || escalate
    for path; do examine "${path#/proc/}"; done
    while newest; [ "$seen" -lt "$last" ] && ! expired; do
        chases=$((chases + 1))
        [ "$chases" -lt 4 ] || escalate
        while [ "$seen" -lt "$last" ]; do seen=$((seen + 1)); examine "$seen"; done
    done
    [ "$seen" -eq "$last" ] || new=1
}
settle() {
    scan
    while [ -n "$new" ] && ! expired; do
        rounds=$((rounds + 1))
        [ "$rounds" -lt 6 ] || escalate
        scan
    done
}
gather() {
    ours=' ' groups=' 0 1 '
    settle
    [ "$ours" = ' ' ] || return
    for pid in $suspects; do if marked "$pid"; then take "$pid"; fi; done
    [ "$ours" = ' ' ] || settle
}
"""
# A scan is exact: what was made while it ran has a number between the newest before and the newest now, and is looked
# at too, until there is nothing newer. Without that, a storm of short-lived processes is never seen.
# Stopping its group at once takes the processor away from a storm before each member has been looked at. Where that
# does not help (every member a session of its own, or members that continue each other), what is found is killed at
# once, and the whole container is stopped for the moment that it takes.

_KILL = f"""
[ ! -w /dev/null ] || exec 2>/dev/null
{_LOOK}{_SCAN}
age=$1 may=$2 limit=$3 limits=" $3 " marks=$4 hits=' ' signal=STOP rounds=0 found=0 end=0
shift 4
while [ $# -gt 1 ]; do
    limits="$limits$1 " marks="$marks $2"
    [ "$1" -le "$limit" ] || limit=$1
    shift 2
done
limited self
above "$hard" || limit=none limits=' none '
expired
end=$((${{now%.*}} + 10)) birth=$((${{now%.*}} * 100 + 1${{now#*.}} - 100 - age))
while :; do
    gather
    [ "$ours" != ' ' ] || break
    hit=
    for pid in $ours; do if kill -s KILL "$pid" || ! describe "$pid"; then hit=1; fi; found=$((found + 1)); done
    [ -n "$hit" ] && ! expired || break
done
echo "found $found"
for hard in $hits; do echo "hit $hard"; done
for pid in $ours; do if describe "$pid"; then echo "left $pid"; fi; done
for pid in $suspects; do if alive "$pid" && ! older "$pid"; then doubt "$pid"; fi; done
expired || echo done
"""

_EPOCH_MS = 1_577_836_800_000  # 2020-01-01; the numbers last until 2159
_REMEMBERED = 16384
_CLOCK_MARGIN = 20
"""Hundredths of a second by which an age may be wrong; the kernel counts in those too."""
_LONGEST_VERDICT = 1024 * 1024
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL_OWN = re.compile(
    "BASH.*|COMP_WORDBREAKS|EPOCH.*|HISTCMD|IFS|LINENO|OLDPWD|OPTERR|OPTIND|POSIXLY_CORRECT|PPID|PS[124]|PWD|S?RANDOM"
    "|SHELLOPTS|SHLVL|_"
)


@attrs.frozen(kw_only=True)
class Mark:
    """What the processes of one command are known by.

    :param limit: their limit on resident memory in KiB. :param token: value of `EXEC_VARIABLE`.
    :param secret: what the shell says when it could not run the command; no command ever learns it.
    """

    limit: int
    token: str
    secret: str = attrs.field(repr=False)

    @property
    def variable(self) -> dict[str, str]:
        """The variable that has to be added to the command's environment."""
        return {EXEC_VARIABLE: self.token}


@attrs.frozen
class Doubt:
    """A process that may belong to the command although it does not carry its mark.

    :param pid: in the container. :param limit: its limit on resident memory in bytes; 0 where it has none.
    :param detached: it does not descend from a process that was started from outside the container.
    """

    pid: int
    limit: int
    detached: bool


@attrs.frozen(kw_only=True)
class Verdict:
    """What the killer says.

    :param complete: it came to its end. :param found: how many processes it found, at least.
    :param hits: limits in bytes, each of a command of which a process was found by it.
    :param left: process ids that it could not kill.
    """

    complete: bool = False
    found: int = 0
    hits: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @classmethod
    def read(cls, output: bytes) -> Verdict:
        """Read the standard output of the command of `kill_tree`.

        A container may answer anything: what is not understood is a verdict that is not complete.
        """
        lines = [line.split() for line in output[:_LONGEST_VERDICT].decode("ascii", "replace").split("\n")]
        said: dict[str, list[list[str]]] = {"found": [], "hit": [], "left": [], "doubt": []}
        try:
            for kind, *words in filter(None, lines[:-2]):
                said[kind].append(words)
            return cls(
                complete=lines[-2:] == [["done"], []],
                found=sum(int(count) for (count,) in said["found"]),
                hits=tuple(int(limit) for (limit,) in said["hit"]),
                left=tuple(int(pid) for (pid,) in said["left"]),
                doubts=tuple(Doubt(int(pid), int(limit), origin != "exec") for pid, limit, origin in said["doubt"]),
            )
        except (KeyError, ValueError):
            return cls()

    def of(self, mark: Mark) -> Verdict:
        """Return what the verdict of `kill_trees` says of one command: what was found by its limit counts as found.

        What is left, and what is in doubt, could be any command's, and counts for each.
        """
        return attrs.evolve(self, found=self.hits.count(mark.limit * 1024))


class Marks:
    """Gives every command a mark of its own, and knows its marks again. Safe between threads.

    Limits fall with time, so the processes of an earlier command, whoever ran it, have a higher limit than those of a
    later one can have.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 2**42
        self._limits: collections.deque[int] = collections.deque(maxlen=_REMEMBERED)

    def new(self) -> Mark:
        """Return a mark that no other command has."""
        with self._lock:
            self._last = min(self._last - 1, 2**42 - 1 - (time.time_ns() // 1_000_000 - _EPOCH_MS))
            limit = 2**52 + self._last * 2**10 + secrets.randbelow(2**10)
            self._limits.append(limit * 1024)
        return Mark(limit=limit, token=secrets.token_hex(16), secret=secrets.token_hex(16))

    def confirms(self, verdict: Verdict, *, ended: bool) -> bool:
        """Tell whether it is certain that nothing is left of the command.

        :param ended: the engine says that the process which it started for the command has ended. A process that was
            started from outside the container then belongs to another command, and so do its descendants.
        """
        with self._lock:
            known = set(self._limits)
        strangers = [doubt for doubt in verdict.doubts if doubt.limit not in known and (doubt.detached or not ended)]
        return verdict.complete and not verdict.left and not strangers


def can_supervise(command: tuple[str, ...], env: Iterable[str]) -> bool:
    """Tell whether `supervised` runs this command as it stands.

    A program whose name begins with a dash would be an option of the shell's ``exec``, and most shells do not pass on
    variables whose names they could not use themselves, such as ``npm.config``, or those that they set themselves.

    :param env: names of the variables that are given to the command.
    """
    return not command[0].startswith("-") and all(
        _SHELL_NAME.fullmatch(name) is not None and _SHELL_OWN.fullmatch(name) is None for name in env
    )


def supervised(command: tuple[str, ...], mark: Mark) -> tuple[str, ...]:
    """Return the argv that runs ``command`` with its mark, as the same process; `Mark.variable` has to be set as well.

    Exit codes and signals are the command's own.
    """
    return ("/bin/sh", "-c", _START, mark.secret, str(mark.limit), *command)


def not_run(mark: Mark, exit_code: int, last_output: bytes) -> bool:
    """Tell whether the shell of `supervised` could not run the command, as opposed to what the command itself said.

    :param exit_code: 127 when the command is absent, 126 when it cannot be executed.
    :param last_output: the end of standard error, or of the terminal's output; 100 bytes are enough.
    """
    report = f"{mark.secret} {exit_code}".encode()
    return exit_code in (126, 127) and last_output.rstrip(b"\r\n").endswith(report)


def kill_tree(mark: Mark, age: float, *, limited: bool = True, freeze: bool = False) -> tuple[str, ...]:
    """Return the argv that kills all processes of a command and prints what `Verdict.read` reads.

    It has to run in the command's container, as root or else as the command's user. It takes milliseconds, and gives
    up after ten seconds.

    :param age: seconds since the command was started, or more; a process that is older is not suspected.
    :param limited: the command was started through `supervised`.
    :param freeze: it may stop everything in the container for a moment when there is a crowd or a storm of processes.
        Never let two killers do that in one container at a time: they could stop each other for good.
    """
    return kill_trees((mark,), age, limited=limited, freeze=freeze)


def kill_trees(marks: Iterable[Mark], age: float, *, limited: bool = True, freeze: bool = False) -> tuple[str, ...]:
    """Return the argv that kills all processes of several commands of one container in one sweep: see `kill_tree`.

    :param marks: one at least; `Verdict.of` tells what the verdict says of each. :param age: of the oldest.
    """
    ticks = str(math.ceil(age * 100) + _CLOCK_MARGIN)
    words = [ticks, "freeze" if freeze else ""]
    for mark in marks:
        words += [str(mark.limit * 1024) if limited else "none", f"{EXEC_VARIABLE}={mark.token}"]
    return ("/bin/sh", "-c", _KILL, "oubliette-kill", *words)
