"""What the command prints of containers and images, in the shape of each version."""

import datetime as dt
from typing import Any

from tests.apple.emulator.context import Context
from tests.apple.emulator.references import parse
from tests.apple.emulator.state import Record

_SINCE_2001 = 978307200
_NEW_IN_1_0 = ("creationDate", "stopSignal", "shmSize")


def iso(seconds: float) -> str:
    """Print a time as versions from 1.0 on do."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def container(context: Context, record: Record) -> dict[str, Any]:
    """Return what inspect and list print of a container."""
    shown = _new(record) if context.profile.at_least(1, 0) else _old(context, record)
    unknown = context.faults.get("unknown-state")
    if unknown and isinstance(shown["status"], dict):
        shown["status"]["state"] = unknown
    elif unknown:
        shown["status"] = unknown
    if context.faults.get("extra-keys"):
        shown["futureKey"] = {"nested": [1, 2]}
        shown["configuration"]["futureKey"] = None
    return shown


def _new(record: Record) -> dict[str, Any]:
    status: dict[str, Any] = {"state": record["state"], "networks": _attachments(record, mtu=True)}
    if record["started"] is not None:
        status["startedDate"] = iso(record["started"])
    configuration = {**record["configuration"], "creationDate": iso(record["created"])}
    return {"id": configuration["id"], "configuration": configuration, "status": status}


def _old(context: Context, record: Record) -> dict[str, Any]:
    configuration = {key: value for key, value in record["configuration"].items() if key not in _NEW_IN_1_0}
    configuration["resources"] = {key: configuration["resources"][key] for key in ("cpus", "memoryInBytes")}
    if not context.profile.at_least(0, 10):
        configuration.pop("useInit")
    if not context.profile.at_least(0, 12):
        configuration.pop("capAdd")
        configuration.pop("capDrop")
    mtu = context.profile.at_least(0, 11)
    if not mtu:
        networks = configuration["networks"]
        configuration["networks"] = [
            {**item, "options": {"hostname": item["options"]["hostname"]}} for item in networks
        ]
    shown = {"status": record["state"], "networks": _attachments(record, mtu=mtu), "configuration": configuration}
    if record["started"] is not None:
        shown["startedDate"] = record["started"] - _SINCE_2001
    return shown


def _attachments(record: Record, *, mtu: bool) -> list[dict[str, Any]]:
    if record["state"] != "running":
        return []
    return [{key: value for key, value in item.items() if mtu or key != "mtu"} for item in record["attachments"]]


CONTAINER_COLUMNS = ("ID", "IMAGE", "OS", "ARCH", "STATE", "IP", "CPUS", "MEMORY", "STARTED")


def container_row(record: Record) -> list[str]:
    """Return a container's line of the table."""
    configuration, running = record["configuration"], record["state"] == "running"
    addresses = [item["ipv4Address"] for item in record["attachments"]] if running else []
    return [
        configuration["id"],
        parse(configuration["image"]["reference"]).short,
        configuration["platform"]["os"],
        configuration["platform"]["architecture"],
        record["state"],
        ",".join(addresses),
        str(configuration["resources"]["cpus"]),
        f"{configuration['resources']['memoryInBytes'] >> 20} MB",
        iso(record["started"]) if record["started"] is not None else "",
    ]


def table(context: Context, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    """Print a table; its header also where there are no rows."""
    lines = [list(columns), *rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        context.out("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def image(context: Context, reference: str, index: dict[str, Any]) -> dict[str, Any]:
    """Return what `image inspect` prints of an image."""
    variants = list(context.store.variants(index["digest"]))
    if not context.profile.at_least(1, 0):
        old = [{key: item[key] for key in ("platform", "config", "size")} for item in variants]
        return {"name": reference, "index": index, "variants": old}
    dates = sorted(item["config"]["created"] for item in variants if item["config"].get("created"))
    configuration = {"name": reference, "creationDate": dates[0] if dates else iso(0), "descriptor": index}
    identity = index["digest"].removeprefix("sha256:")
    return {"id": identity, "configuration": configuration, "variants": variants}


def image_line(context: Context, reference: str, index: dict[str, Any]) -> dict[str, Any]:
    """Return what `image list` prints of an image."""
    if context.profile.at_least(1, 0):
        return image(context, reference, index)
    line: dict[str, Any] = {"reference": reference, "descriptor": index}
    if context.profile.at_least(0, 10):
        size = sum(item["size"] for item in context.store.variants(index["digest"]))
        line["fullSize"] = f"{size / 1e6:.1f} MB"
    return line
