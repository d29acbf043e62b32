"""From the options of create and run to a container's configuration, and to what the engine is asked for."""

import os
import random
import re
from pathlib import Path
from typing import Any

from tests.apple.emulator.context import SPACE, Context
from tests.apple.emulator.failures import Failure, UsageError
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.store import Descriptor

_MIB = 1 << 20
_SMALLEST = 200 * _MIB
_SIZE = re.compile(r"(\d+)(?:\.\d+)?\s*([bkmgtp]?)(?:i?b)?", re.IGNORECASE)
_DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(context: Context, parsed: Parsed, inherited: list[str]) -> list[str]:
    """Return variables: inherited ones, then files, then options; each name once from 0.10 on."""
    found = list(inherited)
    for path in parsed.many("env-file"):
        found += _file(Path(path))
    found += [entry for text in parsed.many("env") for entry in _entry(text)]
    if not context.profile.at_least(0, 10):
        return found
    return list({entry.partition("=")[0]: entry for entry in found}.values())


def _file(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        raise Failure("notFound", f"failed to read env file {path}") from None
    found = []
    for line in (line.lstrip() for line in text.split("\n")):
        if not line or line.startswith("#"):
            continue
        if re.search(r"\s", line.partition("=")[0]):
            raise Failure("invalidArgument", f"invalid variable in env file: {line.partition('=')[0]}")
        found += _entry(line)
    return found


def _entry(text: str) -> list[str]:
    if "=" in text:
        return [text]
    return [f"{text}={os.environ[text]}"] if text in os.environ else []


def size(text: str) -> int:
    """Read a size; a number without a unit is bytes, and what is no whole MiB is dropped."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise Failure("invalidArgument", f"invalid memory size {text}")
    whole: int = int(match[1]) * 1024 ** "bkmgtp".index(match[2].lower() or "b")
    return whole // _MIB * _MIB


def labels(parsed: Parsed) -> dict[str, str]:
    """Read labels; more than one ``=`` is refused."""
    found = {}
    for text in parsed.many("label"):
        parts = text.split("=")
        if not parts[0] or len(parts) > 2:
            raise Failure("invalidArgument", f"invalid label format {text}")
        found[parts[0]] = parts[1] if len(parts) == 2 else ""
    return found


def _volume(context: Context, text: str) -> dict[str, Any]:
    parts = text.split(":")
    if len(parts) == 1:
        parts = [f"anonymous-{os.urandom(8).hex()}", parts[0]]
    source, target, *more = parts
    options = more[0].split(",") if more else []
    if "/" not in source and source not in (".", ".."):
        return _named(context, source, target, options)
    path = Path(source).absolute()
    if not path.exists():
        raise Failure("invalidArgument", f"path '{path}' does not exist")
    return {"type": {"virtiofs": {}}, "source": str(path), "destination": target, "options": options}


def _named(context: Context, name: str, target: str, options: list[str]) -> dict[str, Any]:
    with context.state.change() as data:
        if name not in data["volumes"]:
            data["volumes"][name] = {"labels": {}}
            context.err(f'named volume was automatically created: ["volume": "{name}"]')
    image = f"/Users/me/Library/Application Support/com.apple.container/volumes/{name}/volume.img"
    kind = {"volume": {"name": name, "format": "ext4", "cache": {"on": {}}, "sync": {"fsync": {}}}}
    return {"type": kind, "source": image, "destination": target, "options": options}


def _mount(context: Context, text: str) -> dict[str, Any]:
    values: dict[str, str] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        key = {"src": "source", "dst": "destination", "target": "destination", "ro": "readonly"}.get(key, key)
        if key not in ("type", "source", "destination", "readonly", "size", "mode") or "=" in value:
            raise Failure("invalidArgument", f"unknown directive {key} when parsing mount {text}")
        values[key] = value
    options = ["ro"] if "readonly" in values else []
    target = values.get("destination", "")
    if values.get("type") == "tmpfs":
        options += [f"{key}={values[key]}" for key in ("size", "mode") if key in values]
        return {"type": {"tmpfs": {}}, "source": "tmpfs", "destination": target, "options": options}
    if values.get("type") == "volume":
        return _named(context, values["source"], target, options)
    source = Path(values.get("source", "")).absolute()
    if not source.exists():
        raise Failure("invalidArgument", f"path '{source}' does not exist")
    if not source.is_dir():
        raise Failure("invalidArgument", f"path '{source}' is not a directory")
    return {"type": {"virtiofs": {}}, "source": str(source), "destination": target, "options": options}


def _mounts(context: Context, parsed: Parsed) -> list[dict[str, Any]]:
    found = [_mount(context, text) for text in parsed.many("mount")]
    found += [_volume(context, text) for text in parsed.many("volume")]
    empty = [
        {"type": {"tmpfs": {}}, "source": "tmpfs", "destination": path, "options": []} for path in parsed.many("tmpfs")
    ]
    return found + empty


def _networks(context: Context, parsed: Parsed, name: str) -> list[dict[str, Any]]:
    chosen = [text.partition(",")[0] for text in parsed.many("network")] or ["default"]
    if "none" in chosen:
        if len(chosen) > 1:
            raise Failure("invalidArgument", "no other networks may be created along with network none")
        return []
    known = context.state.read()["networks"]
    for network in chosen:
        if network != "default" and network not in known:
            raise Failure("notFound", f"network {network} not found")
    hostname = name.partition(".")[0]
    return [{"network": network, "options": {"hostname": hostname, "mtu": 1280}} for network in chosen]


def _user(text: str | None, image_user: str) -> dict[str, Any]:
    chosen = text if text is not None else image_user
    ids = chosen.split(":")
    if chosen and all(part.isdigit() for part in ids):
        return {"id": {"uid": int(ids[0]), "gid": int(ids[1]) if len(ids) > 1 else int(ids[0])}}
    return {"raw": {"userString": chosen}}


def _command(parsed: Parsed, config: dict[str, Any]) -> list[str]:
    entrypoint, arguments = parsed.text("entrypoint"), parsed.words[1:]
    if entrypoint:
        return [entrypoint, *arguments]
    words = [*(config.get("Entrypoint") or []), *(arguments or config.get("Cmd") or [])]
    if not words:
        raise Failure("invalidArgument", "command/entrypoint not specified for container process")
    return words


def check(parsed: Parsed) -> None:
    """Refuse what cannot be asked for together."""
    if parsed.flag("no-dns") and any(
        parsed.options.get(key) for key in ("dns", "dns-domain", "dns-option", "dns-search")
    ):
        raise UsageError("`--no-dns` cannot be used together with other DNS options", f"{'create'} [<options>] <image>")


def configuration(
    context: Context, parsed: Parsed, name: str, image: tuple[str, Descriptor, dict[str, Any]]
) -> dict[str, Any]:
    """Return the configuration of a container as `inspect` of version 1.2 prints it."""
    reference, index, variant = image
    config = variant["config"].get("config") or {}
    words = _command(parsed, config)
    memory = size(parsed.text("memory") or "1g")
    if memory < _SMALLEST and context.profile.at_least(0, 10):
        raise Failure("invalidArgument", f"minimum memory amount allowed is 200 MiB (got {memory} bytes)")
    variables = environment(context, parsed, config.get("Env") or [_DEFAULT_PATH])
    found = {
        "id": name,
        "image": {"reference": reference, "descriptor": index},
        "initProcess": {
            "executable": words[0],
            "arguments": words[1:],
            "environment": random.sample(variables, len(variables)),
            "workingDirectory": parsed.text("workdir") or config.get("WorkingDir") or "/",
            "terminal": parsed.flag("tty"),
            "user": _user(parsed.text("user") or parsed.text("uid"), config.get("User") or ""),
            "supplementalGroups": [],
            "rlimits": [],
        },
        "mounts": _mounts(context, parsed),
        "networks": _networks(context, parsed, name),
        "labels": labels(parsed),
        "sysctls": {},
        "platform": variant["platform"],
        "resources": {"cpus": parsed.number("cpus") or 4, "cpuOverhead": 1, "memoryInBytes": memory},
        "publishedPorts": [],
        "publishedSockets": [],
        "runtimeHandler": "container-runtime-linux",
        "capAdd": parsed.many("cap-add"),
        "capDrop": parsed.many("cap-drop"),
        "readOnly": parsed.flag("read-only"),
        "rosetta": parsed.flag("rosetta"),
        "ssh": parsed.flag("ssh"),
        "useInit": parsed.flag("init"),
        "virtualization": parsed.flag("virtualization"),
    }
    if not parsed.flag("no-dns"):
        found["dns"] = {"nameservers": parsed.many("dns"), "searchDomains": [], "options": []}
    return {**found, **({"stopSignal": config["StopSignal"]} if config.get("StopSignal") else {})}


def for_engine(context: Context, made: dict[str, Any], tag: str) -> dict[str, Any]:
    """Return what the engine is asked for, to run a container of this configuration."""
    process = made["initProcess"]
    return {
        "Image": tag,
        "Entrypoint": [],
        "Cmd": [process["executable"], *process["arguments"]],
        "Env": process["environment"],
        "WorkingDir": process["workingDirectory"],
        "User": user_text(process["user"]),
        "Tty": process["terminal"],
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "Hostname": made["id"].partition(".")[0][:63],
        "Labels": {SPACE: context.settings.space},
        "HostConfig": {
            "Memory": made["resources"]["memoryInBytes"],
            "NanoCpus": min(made["resources"]["cpus"], os.cpu_count() or 1) * 10**9,
            "ReadonlyRootfs": made["readOnly"],
            "CapAdd": made["capAdd"],
            "CapDrop": made["capDrop"],
            "Init": made["useInit"],
            "Mounts": [_engine_mount(context, mount) for mount in made["mounts"]],
            "NetworkMode": _engine_network(context, made["networks"]),
            "LogConfig": {"Type": "local", "Config": {"max-size": "200m", "compress": "false"}},
        },
    }


def user_text(user: dict[str, Any]) -> str:
    """Return a user of a configuration as the engine takes it."""
    if "raw" in user:
        return str(user["raw"]["userString"])
    return f"{user['id']['uid']}:{user['id']['gid']}"


def _engine_network(context: Context, networks: list[dict[str, Any]]) -> str:
    if not networks:
        return "none"
    name = networks[0]["network"]
    return "bridge" if name == "default" else context.engine_name(name)


def _engine_mount(context: Context, mount: dict[str, Any]) -> dict[str, Any]:
    shared = {"Target": mount["destination"], "ReadOnly": "ro" in mount["options"]}
    if "virtiofs" in mount["type"]:
        return {**shared, "Type": "bind", "Source": mount["source"]}
    if "volume" in mount["type"]:
        labels_of_ours = {"VolumeOptions": {"NoCopy": True, "Labels": {SPACE: context.settings.space}}}
        return {
            **shared,
            **labels_of_ours,
            "Type": "volume",
            "Source": context.engine_name(mount["type"]["volume"]["name"]),
        }
    options = dict(option.partition("=")[::2] for option in mount["options"])
    tmpfs: dict[str, int] = {"SizeBytes": size(options["size"])} if "size" in options else {}
    tmpfs |= {"Mode": int(options["mode"], 8)} if "mode" in options else {}
    return {**shared, "Type": "tmpfs", "TmpfsOptions": tmpfs}
