"""``oubliette image``: list, pull, save, load and lock the images of the configured container types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oubliette_core.cli.apps import JsonOption, new_group
from oubliette_core.cli.boundary import report
from oubliette_core.cli.completion import TypesArgument
from oubliette_core.cli.invocation import Invocation, current
from oubliette_core.cli.progress import pull_display
from oubliette_core.cli.targets import end_with
from oubliette_core.cli.text import plain, size
from oubliette_core.cli.views import error_object
from oubliette_core.images import ImageAction, ImageManager, ImageOutcome

if TYPE_CHECKING:
    from oubliette_core.models import ImageInfo

app = new_group()


@app.command("list")
def list_images(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the images of the container types, and whether they are here."""
    invocation = current(context)
    with invocation.app() as opened:
        images = opened.images
        local = {name: images.find_local(name) for name in images.valid_types}
        platforms = {name: one.platform for name, one in opened.loaded.config.container_types.items()}
    if as_json:
        invocation.output.json([_image_object(images, name, platforms[name], info) for name, info in local.items()])
        return
    rows = [
        (name, images.get_image_name(name), images.get_policy(name).value, *_looks(info))
        for name, info in local.items()
    ]
    invocation.output.table(("TYPE", "IMAGE", "PULL", "HERE", "SIZE", "CREATED", "ID"), rows)


def _image_object(images: ImageManager, name: str, platform: str | None, info: ImageInfo | None) -> dict[str, Any]:
    return {
        "type": name,
        "image": images.get_image_name(name),
        "pull": images.get_policy(name).value,
        "platform": platform,
        "local": plain(info),
    }


def _looks(info: ImageInfo | None) -> tuple[object, ...]:
    if info is None:
        return False, None, None, None
    return True, size(info.size), info.created_at, info.id.removeprefix("sha256:")[:12]


@app.command()
def pull(
    context: typer.Context,
    types: TypesArgument = None,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Only those that are not here.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pull the newest images, several at a time."""
    invocation = current(context)
    with invocation.app() as opened:
        images = opened.images
        names = tuple(dict.fromkeys(types or images.valid_types))
        if if_missing:
            names = tuple(name for name in names if images.find_local(name) is None)
        outcomes = pull_all(invocation, images, names, refresh=True)
    if as_json:
        invocation.output.json(list(map(_outcome_object, outcomes)))
    for outcome in outcomes:
        if outcome.error is not None:
            report(outcome.error, invocation.output, subject=outcome.type)
        elif not as_json:
            invocation.output.line(describe(outcome))
    if not outcomes and not as_json:
        invocation.output.note("All of them are here.")
    end_with([outcome.error for outcome in outcomes])


@app.command()
def save(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write; replaced when it is there.")],
    types: TypesArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Write images into an archive (an OCI image layout), for machines without a registry."""
    invocation = current(context)
    with invocation.app() as opened, invocation.interrupts.cancellable() as cancel:
        names = tuple(dict.fromkeys(types or opened.images.valid_types))
        archive = opened.images.save(file.absolute(), names, cancel=cancel)
    much = archive.stat().st_size
    if as_json:
        invocation.output.json({"file": str(archive), "types": list(names), "size": much})
    else:
        invocation.output.line(f"saved {', '.join(names)} in {file} ({size(much)})")


@app.command()
def load(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive of images.")],
    as_json: JsonOption = False,
) -> None:
    """Load the images of an archive, without the network."""
    invocation = current(context)
    output = invocation.output
    with invocation.app() as opened, invocation.interrupts.cancellable() as cancel:
        loaded = opened.images.load(file.absolute(), cancel=cancel)
        missing = [name for name in opened.images.valid_types if opened.images.find_local(name) is None]
    if as_json:
        output.json({"images": plain(loaded), "missing_types": missing})
        return
    for info in loaded:
        output.line(f"loaded {', '.join(info.references) or info.id} ({size(info.size)})")
    if missing:
        output.note(f"Still not here: the image of {', '.join(missing)}.")


@app.command()
def lock(
    context: typer.Context,
    update: Annotated[bool, typer.Option("--update", help="Hold all types to what the registries have now.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hold each type to the digest of its image, in config/oubliette.lock.

    Types that are locked stay as they are; with --update all are locked anew.
    """
    invocation = current(context)
    with invocation.app() as opened:
        images = opened.images
        with (
            invocation.interrupts.cancellable() as cancel,
            pull_display(invocation.output, invocation.interrupts, image_names(images)) as progress,
        ):
            outcomes = images.lock(update=update, progress=progress, cancel=cancel)
        ok = all(outcome.ok for outcome in outcomes)
        locked = {name: images.get_image_name(name) for name in images.valid_types} if ok else {}
        file = opened.home.lock_file
    if as_json:
        invocation.output.json({"file": str(file), "locked": locked, "images": list(map(_outcome_object, outcomes))})
    for outcome in outcomes:
        if outcome.error is not None:
            report(outcome.error, invocation.output, subject=outcome.type)
    if not as_json:
        for name, image in locked.items():
            invocation.output.line(f"{name}: {image}")
        invocation.output.note(f"Locked in {file}." if ok else f"{file} is as it was.")
    end_with([outcome.error for outcome in outcomes])


def pull_all(
    invocation: Invocation, images: ImageManager, names: Sequence[str], *, refresh: bool
) -> tuple[ImageOutcome, ...]:
    """Have the images of container types here, showing how it gets on."""
    with (
        invocation.interrupts.cancellable() as cancel,
        pull_display(invocation.output, invocation.interrupts, image_names(images)) as progress,
    ):
        return images.ensure_all_images(names, refresh=refresh, progress=progress, cancel=cancel)


def image_names(images: ImageManager) -> Mapping[str, str]:
    """Return what to call each image: by the container types that it is for."""
    names: dict[str, str] = {}
    for name in images.valid_types:
        image = images.get_image_name(name)
        names[image] = f"{names[image]}, {name}" if image in names else name
    return names


def describe(outcome: ImageOutcome) -> str:
    """Return what became of an image that is here now, in one line."""
    done = {
        ImageAction.PRESENT: f"{outcome.image} is here",
        ImageAction.UNCHANGED: f"{outcome.image} is the newest",
        ImageAction.PULLED: f"pulled {outcome.image}",
    }
    much = f" ({size(outcome.info.size)})" if outcome.info is not None and outcome.info.size else ""
    return f"{outcome.type}: {done[outcome.action]}{much}"


def _outcome_object(outcome: ImageOutcome) -> dict[str, Any]:
    return {
        "type": outcome.type,
        "image": outcome.image,
        "action": outcome.action.value,
        "id": outcome.id,
        "previous_id": outcome.previous_id,
        "size": outcome.info.size if outcome.info is not None else None,
        "seconds": round(outcome.duration, 3),
        "error": error_object(outcome.error) if outcome.error is not None else None,
    }
