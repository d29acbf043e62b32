"""The group `system`: the service, its state, versions."""

import sys
from collections.abc import Callable
from typing import Any

from tests.apple.emulator import views
from tests.apple.emulator.context import Context
from tests.apple.emulator.failures import Failure, UsageError
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.lifecycle import end, remove
from tests.apple.emulator.profiles import COMMIT

_ROOT = "/Users/me/Library/Application Support/com.apple.container/"
_KERNEL = "https://github.com/kata-containers/kata-containers/releases/download/3.28.0/kata-static-3.28.0-arm64.tar.zst"
_NOT_RUNNING = "apiserver is not running and not registered with launchd"


def start(context: Context, parsed: Parsed) -> int:
    """`system start`: asks about the kernel where there is none and no flag says what to do."""
    if parsed.flag("enable-kernel-install") and parsed.flag("disable-kernel-install"):
        raise UsageError("options are exclusive", "system start [<options>]")
    context.faults.hang("system-start")
    if context.faults.get("start-fails"):
        raise Failure(
            "internalError", "failed to start apiserver", Failure("timeout", "XPC timeout for request to ping")
        )
    _say(context, "Verifying apiserver is running...")
    with context.state.change() as data:
        was_up, data["up"] = data["up"], True
    if not was_up:
        _restart(context)
    if not context.state.read()["kernel"]:
        _install_kernel(context, parsed)
    return 0


def _say(context: Context, line: str) -> None:
    if context.profile.at_least(1, 0):
        context.err(line)
    else:
        context.out(line)


def _restart(context: Context) -> None:
    """Bring the state to what it is after the service was away."""
    state = context.state
    for name, record in state.containers().items():
        if record["rm"]:
            remove(context, name)
        elif record["state"] == "running":
            end(context, name, 9, 1)
    with state.change() as data:
        for record in data["containers"].values():
            record.update(state="stopped", started=None, attachments=[])


def _install_kernel(context: Context, parsed: Parsed) -> None:
    if not (parsed.flag("enable-kernel-install") or parsed.flag("disable-kernel-install")):
        sys.stdout.write(f"Install the recommended default kernel from [{_KERNEL}]? [Y/n]: ")
        sys.stdout.flush()
        answer = sys.stdin.readline()
        if not answer:
            raise Failure("internalError", "failed to read user input")
        if answer.strip().lower() not in ("", "y", "yes"):
            return
    elif parsed.flag("disable-kernel-install"):
        return
    with context.state.change() as data:
        data["kernel"] = True


def stop(context: Context, parsed: Parsed) -> int:
    """`system stop`: stops every container, and always succeeds."""
    for name, record in context.state.containers().items():
        context.out(f"stopping container {name}")
        if record["state"] == "running":
            end(context, name, 15, 5)
    with context.state.change() as data:
        data["up"] = False
        for record in data["containers"].values():
            record["state"] = "stopped"
    return 0


def status(context: Context, parsed: Parsed) -> int:
    """`system status`: exit code 1 and the answer on standard output when the service does not run."""
    context.faults.hang("status")
    up = bool(context.state.read()["up"])
    if not context.profile.at_least(0, 10):
        context.out("apiserver is running" if up else _NOT_RUNNING)
    elif parsed.text("format") == "json":
        context.document(_nested(context, up=up) if context.profile.at_least(1, 4) else _flat(context, up=up))
    elif up:
        rows = [["status", "running"], ["appRoot", _ROOT], ["installRoot", "/usr/local/"]]
        views.table(context, ("FIELD", "VALUE"), rows)
    else:
        context.out(_NOT_RUNNING)
    return 0 if up else 1


def _flat(context: Context, *, up: bool) -> dict[str, Any]:
    known = {
        "apiServerAppName": "container-apiserver",
        "apiServerBuild": "release",
        "apiServerCommit": COMMIT,
        "apiServerVersion": context.profile.line("container-apiserver"),
        "appRoot": _ROOT,
        "installRoot": "/usr/local/",
        "status": "running",
    }
    return known if up else {**dict.fromkeys(known, ""), "status": "unregistered"}


def _nested(context: Context, *, up: bool) -> dict[str, Any]:
    if not up:
        return {"status": "unregistered"}
    part = {"build": "release", "commit": COMMIT[:7], "version": context.profile.text}
    found = context.containers()
    running = sum(record["state"] == "running" for record in found.values())
    return {
        "status": "running",
        "client": {"appName": "container", **part},
        "server": {"appName": "container-apiserver", **part},
        "host": {"architecture": "arm64", "cpus": 12, "operatingSystem": "Version 26.5.1 (Build 25F80)"},
        "paths": {"appRoot": _ROOT, "installRoot": "/usr/local/"},
        "resources": {
            "containersRunning": running,
            "containersTotal": len(found),
            "images": len(context.state.read()["images"]),
        },
    }


def version(context: Context, parsed: Parsed) -> int:
    """`system version`: one element when the service does not run."""
    own = {"appName": "container", "buildType": "release", "commit": COMMIT, "version": context.profile.text}
    long = context.profile.text if context.profile.at_least(1, 4) else context.profile.line("container-apiserver")
    service = {**own, "appName": "container-apiserver", "version": long}
    if context.faults.get("skew"):
        service["version"] = long.replace(context.profile.text, "0.11.0")
    elements = [own, service] if context.state.read()["up"] else [own]
    if parsed.text("format") == "json":
        context.document(elements)
    else:
        rows = [[item["appName"], item["version"], item["buildType"], item["commit"]] for item in elements]
        views.table(context, ("COMPONENT", "VERSION", "BUILD", "COMMIT"), rows)
    return 0


COMMANDS: dict[tuple[str, ...], Callable[[Context, Parsed], int]] = {
    ("system", "start"): start,
    ("system", "stop"): stop,
    ("system", "status"): status,
    ("system", "version"): version,
}
