"""The commands of the group `image`, and what others need of images."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.apple.emulator import views
from tests.apple.emulator.context import Context
from tests.apple.emulator.failures import Failure, UsageError
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.progress import Progress
from tests.apple.emulator.references import candidates, parse
from tests.apple.emulator.store import Descriptor, matches, native_platform, platform_of, platform_text

_INFRA = ("ghcr.io/apple/containerization/vminit:", "ghcr.io/apple/container-builder-shim/builder:")


def find(context: Context, text: str) -> tuple[str, Descriptor] | None:
    """Return an image by any of the names it goes by: its stored reference and its index."""
    images: dict[str, Descriptor] = context.state.require_service()["images"]
    return next(((name, images[name]) for name in candidates(text) if name in images), None)


def wanted_platform(parsed: Parsed) -> dict[str, str] | None:
    """Return the platform that the options name; None without them."""
    if text := parsed.text("platform") or os.environ.get("CONTAINER_DEFAULT_PLATFORM"):
        return platform_of(text)
    if parsed.text("os") or parsed.text("arch"):
        own = native_platform()
        return {"os": parsed.text("os") or own["os"], "architecture": parsed.text("arch") or own["architecture"]}
    return None


def download(
    context: Context, text: str, parsed: Parsed, wanted: dict[str, str] | None, progress: Progress
) -> tuple[str, Descriptor]:
    """Fetch an image from its registry and keep it under its complete reference."""
    from tests.apple.emulator.registry import Download, Registry  # noqa: PLC0415 - most calls need no such module

    if (limit := parsed.number("max-concurrent-downloads")) is not None and limit <= 0:
        raise Failure("invalidArgument", f"maximum number of concurrent downloads must be greater than 0, got {limit}")
    reference = parse(text)
    registry = Registry(context.settings, reference, _scheme(context, parsed))
    progress.step("Fetching image")
    context.faults.hang("pull")
    index = Download(registry, context.store, progress.amount).run(registry.head(), wanted)
    progress.step("Unpacking image")
    with context.state.change() as data:
        data["images"][str(reference)] = index
    if wanted and context.store.variant(index["digest"], wanted) is None:
        raise Failure("unsupported", f"platform {platform_text(wanted)}")
    return str(reference), index


def _scheme(context: Context, parsed: Parsed) -> str:
    new = context.profile.at_least(1, 3)
    scheme = parsed.text("scheme") or ("https" if new else "auto")
    if scheme not in (("http", "https") if new else ("http", "https", "auto")):
        raise Failure("invalidArgument", f"unsupported scheme {scheme}")
    return scheme


def local(context: Context, text: str, parsed: Parsed, progress: Progress) -> tuple[str, Descriptor, dict[str, Any]]:
    """Return an image for a new container and its variant, and pull it first where it is not here."""
    wanted = wanted_platform(parsed) or native_platform()
    found = find(context, text)
    if found and (variant := context.store.variant(found[1]["digest"], wanted)):
        return *found, variant
    if found and not any(matches(item["platform"], wanted) for item in context.store.offered(found[1]["digest"])):
        raise Failure("unsupported", f"platform {platform_text(wanted)}")
    name, index = download(context, text, parsed, wanted, progress)
    variant = context.store.variant(index["digest"], wanted)
    if variant is None:
        raise Failure("unsupported", f"platform {platform_text(wanted)}")
    return name, index, variant


def shows_progress(context: Context, parsed: Parsed) -> bool:
    """Whether lines of progress are written where standard error is no terminal."""
    if not context.profile.at_least(0, 12):
        return False
    return (parsed.text("progress") or "auto") in ("auto", "plain")


def pull(context: Context, parsed: Parsed) -> None:
    """`image pull`: prints nothing on standard output."""
    context.state.require_service()
    progress = Progress(2, quiet=not shows_progress(context, parsed))
    download(context, parsed.words[0], parsed, wanted_platform(parsed), progress)


def inspect(context: Context, parsed: Parsed) -> None:
    """`image inspect`."""
    context.faults.hang("image-inspect")
    found = {text: find(context, text) for text in parsed.words}
    missing = sorted(text for text, image in found.items() if image is None)
    if missing and context.profile.at_least(1, 0):
        raise Failure("notFound", f"image not found: {', '.join(missing)}")
    context.document([views.image(context, *image) for image in found.values() if image], pretty=True)
    for text in missing:
        context.err(f'failed to get image {text}: notFound: "image with reference {parse(text)}"')
    if missing:
        raise Failure("notFound", f"images: {', '.join(missing)}")


def listed(context: Context, parsed: Parsed) -> None:
    """`image list`."""
    as_json = parsed.text("format") == "json"
    if parsed.flag("quiet") and parsed.flag("verbose"):
        raise UsageError("cannot use flag --quiet and --verbose together", "image list [<options>]")
    if as_json and not context.profile.at_least(1, 0) and (parsed.flag("quiet") or parsed.flag("verbose")):
        raise UsageError("cannot use flag --quiet or --verbose with --format json", "image list [<options>]")
    images = context.state.require_service()["images"]
    shown = {name: images[name] for name in sorted(images) if not name.startswith(_INFRA)}
    if as_json:
        context.document([views.image_line(context, name, index) for name, index in shown.items()])
    elif parsed.flag("quiet"):
        for name in shown:
            context.out(_short(name))
    else:
        rows = [[*_short(name).rpartition(":")[::2], index["digest"][7:31]] for name, index in shown.items()]
        views.table(context, ("NAME", "TAG", "DIGEST"), rows)


def _short(name: str) -> str:
    return name.removeprefix("docker.io/library/").removeprefix("docker.io/")


def delete(context: Context, parsed: Parsed) -> None:
    """`image delete`."""
    missing, images = [], context.state.require_service()["images"]
    names = list(images) if parsed.flag("all") else parsed.words
    for text in names:
        found = find(context, text)
        if found is None:
            missing.append(text)
        elif not found[0].startswith(_INFRA):
            with context.state.change() as data:
                data["images"].pop(found[0], None)
            context.out(found[0])
    if not context.profile.at_least(1, 0):
        context.out("Reclaimed 0 KB in disk space")
    if missing and not (parsed.flag("force") and context.profile.at_least(0, 9)):
        shown = ", ".join(f'"{text}"' for text in missing)
        raise Failure("internalError", f"failed to delete one or more images: [{shown}]")


def tag(context: Context, parsed: Parsed) -> None:
    """`image tag`."""
    source, target = parsed.words
    found = find(context, source)
    if found is None:
        raise Failure("notFound", f"image with reference {parse(source)}")
    with context.state.change() as data:
        data["images"][str(parse(target))] = found[1]
    context.out(target)


def load(context: Context, parsed: Parsed) -> None:
    """`image load`: takes OCI layouts."""
    from tests.apple.emulator.archives import read_layout  # noqa: PLC0415 - most calls need no such module

    context.state.require_service()
    with contextlib.ExitStack() as stack:
        path = Path(parsed.text("input") or stack.enter_context(_from_stdin()))
        if not path.exists():
            raise Failure("notFound", f'file does not exist: ["path": "{path}"]')
        loaded = read_layout(context.store, path)
    if not context.profile.at_least(1, 0):
        context.out("Loaded images:")
    with context.state.change() as data:
        data["images"].update(loaded)
    for name in loaded:
        context.out(name)


@contextlib.contextmanager
def _from_stdin() -> Any:
    with tempfile.NamedTemporaryFile() as file:
        while chunk := sys.stdin.buffer.read(1 << 20):
            file.write(chunk)
        file.flush()
        yield file.name


def save(context: Context, parsed: Parsed) -> None:
    """`image save`: writes an OCI layout."""
    from tests.apple.emulator.archives import write_layout  # noqa: PLC0415 - most calls need no such module

    found = {text: find(context, text) for text in parsed.words}
    for text, image in found.items():
        if image is None:
            raise Failure("notFound", f"image with reference {parse(text)}")
    images = dict(image for image in found.values() if image)
    target = parsed.text("output")
    with Path(target).open("wb") if target else contextlib.nullcontext(sys.stdout.buffer) as file:
        write_layout(context.store, images, wanted_platform(parsed), file)
    for name in images:
        if target:
            context.out(name)


COMMANDS: dict[tuple[str, ...], Callable[[Context, Parsed], None]] = {
    ("image", "pull"): pull,
    ("image", "inspect"): inspect,
    ("image", "list"): listed,
    ("image", "delete"): delete,
    ("image", "tag"): tag,
    ("image", "load"): load,
    ("image", "save"): save,
}
