"""`start` of a container, `stop`, `kill`, `delete`, `inspect` and `list`."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.apple.emulator import views
from tests.apple.emulator.context import Context
from tests.apple.emulator.failures import Failure, Failures
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.http import EngineError
from tests.apple.emulator.state import Record, now

_SIGNALS = {
    name: number
    for number, name in enumerate(
        [
            "HUP",
            "INT",
            "QUIT",
            "ILL",
            "TRAP",
            "ABRT",
            "BUS",
            "FPE",
            "KILL",
            "USR1",
            "SEGV",
            "USR2",
            "PIPE",
            "ALRM",
            "TERM",
            "STKFLT",
            "CHLD",
            "CONT",
            "STOP",
            "TSTP",
            "TTIN",
            "TTOU",
        ],
        1,
    )
}


def boot(context: Context, name: str, *, keep_stdin: bool = False) -> socket.socket | None:
    """Start the process of a container; return the stream of its input and output if it is to be kept."""
    context.faults.hang("bootstrap")
    if context.faults.get("slow-boot"):
        time.sleep(float(context.faults.get("slow-boot")))
    with context.state.one_at_a_time():
        record = context.containers().get(name)
        if record is None:
            raise Failure("notFound", f"get failed: container {name} not found")
        for mount in record["configuration"]["mounts"]:
            _check_source(context, mount)
        stream, since = _attach(context, name), time.time()
        try:
            context.engine.call("POST", f"/containers/{context.engine_name(name)}/start")
        except EngineError as error:
            stream.close()
            raise _not_booted(record, error) from None
        _note_start(context, name, since)
    if keep_stdin:
        return stream
    # Without -i the process has nothing to read; closing our end is what tells it.
    stream.close()
    return None


def _attach(context: Context, name: str) -> socket.socket:
    query = "stream=1&stdin=1&stdout=1&stderr=1"
    return context.engine.upgrade(f"/containers/{context.engine_name(name)}/attach?{query}").sock


def _check_source(context: Context, mount: dict[str, Any]) -> None:
    if "virtiofs" in mount["type"] and not Path(mount["source"]).exists():
        text = f"mount source path '{mount['source']}' does not exist"
        raise Failure(
            "invalidArgument",
            text if context.profile.at_least(0, 12) else f"path '{mount['source']}' is not a directory",
        )


def _not_booted(record: Record, error: EngineError) -> Failure:
    process = record["configuration"]["initProcess"]
    missing = "not found" in error.text or "no such file" in error.text
    words = f"failed to find target executable {process['executable']}" if missing else error.text
    inner = f'startProcess: failed to start process: internalError: "vmexec error: internalError: "{words}""'
    cause = Failure(
        "internalError", "failed to start process", Failure("internalError", f"internal error (13): {inner}")
    )
    return Failure("internalError", "failed to bootstrap container", cause)


def _note_start(context: Context, name: str, since: float) -> None:
    seen = context.engine.call("GET", f"/containers/{context.engine_name(name)}/json")
    with context.state.change() as data:
        record = data["containers"].get(name)
        if record is None:
            return
        record.update(state="running", started=now(), boot=record["boot"] + 1, since=f"{since:.9f}")
        attached = seen["NetworkSettings"]["Networks"]
        record["attachments"] = [
            _attachment(item, found)
            for item, found in zip(record["configuration"]["networks"], attached.values(), strict=False)
        ]


def _attachment(network: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return {
        "network": network["network"],
        "hostname": network["options"]["hostname"],
        "ipv4Address": f"{found['IPAddress']}/{found['IPPrefixLen']}",
        "ipv4Gateway": found["Gateway"],
        "macAddress": found["MacAddress"],
        "mtu": 1280,
    }


def _targets(context: Context, parsed: Parsed, *, running_only: bool = False) -> list[str]:
    if not parsed.words and not parsed.flag("all"):
        raise Failure("invalidArgument", "no containers specified and --all not supplied")
    if parsed.words and parsed.flag("all"):
        raise Failure("invalidArgument", "explicitly supplied container IDs conflict with the --all flag")
    if not parsed.flag("all"):
        return parsed.words
    found = context.containers()
    return [name for name, record in found.items() if not running_only or record["state"] == "running"]


def _each(context: Context, names: list[str], act: Callable[[str], bool]) -> None:
    """Do something to each container, print the ids where it was done, and fail with all that failed."""
    failures = []
    for name in names:
        try:
            if act(name):
                context.out(name)
        except Failure as failure:
            failures.append(failure)
    if failures:
        raise Failures(failures)


def _service(context: Context) -> None:
    try:
        context.state.require_service()
    except Failure as failure:
        raise Failures([failure]) from None


def _missing(verb: str, name: str) -> Failure:
    return Failure(
        "internalError", f"failed to {verb} container", Failure("notFound", f"container with ID {name} not found")
    )


def signal_number(text: str) -> int:
    """Read a signal: a number, or a name with or without SIG, in capitals or not."""
    name = text.upper().removeprefix("SIG")
    if name.isdigit():
        return int(name)
    if name not in _SIGNALS:
        raise Failure("invalidArgument", f"invalid signal: {text}")
    return _SIGNALS[name]


def stop(context: Context, parsed: Parsed) -> None:
    """`stop`: idempotent."""
    names = _targets(context, parsed, running_only=True)
    _service(context)
    context.faults.hang("stop")

    def act(name: str) -> bool:
        record = context.container(name)
        if record is None:
            if context.profile.at_least(0, 11):
                raise _missing("stop", name)
            return False
        if record["state"] == "running":
            grace = parsed.number("time")
            end(context, name, _stop_signal(context, parsed, record), 5 if grace is None else grace)
        return True

    _each(context, names, act)


def _stop_signal(context: Context, parsed: Parsed, record: Record) -> int:
    own = record["configuration"].get("stopSignal") if context.profile.at_least(1, 0) else None
    return signal_number(parsed.text("signal") or own or "TERM")


def end(context: Context, name: str, signal: int, grace: float) -> None:
    """Send a signal, and kill what still runs after `grace` seconds."""
    path = f"/containers/{context.engine_name(name)}"
    try:
        context.engine.call("POST", f"{path}/kill?signal={signal}")
        if not _ended(context, path, grace):
            context.engine.call("POST", f"{path}/kill?signal=9")
            _ended(context, path, 60)
    except EngineError as error:
        if error.status not in (404, 409):
            raise
    if not context.faults.get("stuck-running"):
        context.containers()


def _ended(context: Context, path: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while context.engine.call("GET", f"{path}/json")["State"]["Running"]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True


def kill(context: Context, parsed: Parsed) -> None:
    """`kill`: sends a signal; from 1.0 on it waits for the end after SIGKILL."""
    names = _targets(context, parsed, running_only=True)
    _service(context)
    signal = signal_number(parsed.text("signal") or "KILL")

    def act(name: str) -> bool:
        record = context.container(name)
        if record is None:
            if context.profile.at_least(0, 10):
                raise _missing("kill", name)
            return False
        if record["state"] != "running":
            cause = Failure("invalidState", "no runtime client exists: container is stopped")
            raise Failure("internalError", "failed to kill container", cause)
        path = f"/containers/{context.engine_name(name)}"
        context.engine.call("POST", f"{path}/kill?signal={signal}")
        if signal == 9 and context.profile.at_least(1, 0):
            _ended(context, path, 60)
            context.containers()
        return True

    _each(context, names, act)


def delete(context: Context, parsed: Parsed) -> None:
    """`delete`: refuses running containers unless forced."""
    names = _targets(context, parsed)
    _service(context)
    context.faults.hang("delete")
    if parsed.flag("all") and not parsed.flag("force"):
        found = context.containers()
        names = [name for name in names if found.get(name, {}).get("state") != "running"]
    if not context.profile.at_least(0, 11):
        _delete_old(context, names, force=parsed.flag("force"))
        return
    if context.profile.at_least(0, 12):
        names = list(dict.fromkeys(names))
    _each(context, names, lambda name: _delete(context, name, force=parsed.flag("force")))


def _delete(context: Context, name: str, *, force: bool) -> bool:
    record = context.container(name)
    if record is None:
        raise _missing("delete", name)
    if record["state"] == "running":
        if not force:
            cause = Failure("invalidState", f"container {name} is running and can not be deleted")
            raise Failure("internalError", "failed to delete container", cause)
        end(context, name, 9, 5)
    remove(context, name)
    return True


def _delete_old(context: Context, names: list[str], *, force: bool) -> None:
    known = context.containers()
    unknown = [name for name in names if name not in known]
    if unknown:
        shown = ", ".join(f'"{name}"' for name in unknown)
        raise Failure("internalError", f"failed to delete one or more containers: [{shown}]")
    failed = []
    for name in names:
        try:
            _delete(context, name, force=force)
            context.out(name)
        except Failure as failure:
            context.err(f"failed to delete container {name}: {failure.coded()}")
            failed.append(f'"{name}"')
    if failed:
        raise Failure("internalError", f"delete failed for one or more containers: [{', '.join(failed)}]")


def remove(context: Context, name: str) -> None:
    """Take a container out of the state and out of the engine."""
    context.remove(name)
    with context.state.change() as data:
        data["containers"].pop(name, None)


def _wrapped_list(context: Context) -> dict[str, Record]:
    try:
        return context.containers()
    except Failure as failure:
        raise Failure("internalError", "failed to list containers", failure) from None


def inspect(context: Context, parsed: Parsed) -> None:
    """`inspect`: all or nothing from 1.0 on, what there is before."""
    context.faults.hang("inspect")
    found = _wrapped_list(context)
    missing = sorted(name for name in parsed.words if name not in found)
    if missing and context.profile.at_least(1, 0):
        raise Failure("notFound", f"container not found: {', '.join(missing)}")
    chosen = [found[name] for name in dict.fromkeys(parsed.words) if name in found]
    _skewed(context)
    context.document([views.container(context, record) for record in context.shuffled(chosen)], pretty=True)


def listed(context: Context, parsed: Parsed) -> None:
    """`list`: in no order."""
    context.faults.hang("list")
    found = _wrapped_list(context)
    machine = "com.apple.container.plugin"
    everything = [item for item in found.values() if item["configuration"]["labels"].get(machine) != "machine"]
    as_json = parsed.text("format") == "json"
    shown = everything
    if not parsed.flag("all") and not (as_json and not context.profile.at_least(0, 10)):
        shown = [item for item in everything if item["state"] == "running"]
    shown = context.shuffled(shown)
    _skewed(context)
    if as_json:
        context.document([views.container(context, record) for record in shown])
    elif parsed.flag("quiet"):
        for record in shown:
            context.out(record["configuration"]["id"])
    else:
        columns: tuple[str, ...] = views.CONTAINER_COLUMNS
        if not context.profile.at_least(1, 0):
            columns = tuple("ADDR" if column == "IP" else column for column in columns)
        views.table(context, columns, [views.container_row(record) for record in shown])


def _skewed(context: Context) -> None:
    """Fail as a command does that cannot read what a service of another version says."""
    if context.faults.get("skew"):
        key = 'CodingKeys(stringValue: "creationDate", intValue: nil)'
        raise Failure("unknown", f"keyNotFound({key}, Swift.DecodingError.Context(codingPath: []))")
