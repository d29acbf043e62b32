"""``python -m release STEP``: the steps of a release."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from release import images, versions


def main() -> int:
    """Parse the command line and do one step; what is expected to go wrong becomes one message."""
    arguments = _parser().parse_args()
    try:
        arguments.step(arguments)
    except versions.ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release", description="The steps of a release.")
    steps = parser.add_subparsers(required=True, metavar="STEP")

    check = steps.add_parser("check", help="see that a tag fits the version and the changelogs; print the version")
    check.add_argument("tag")
    check.set_defaults(step=lambda given: print(versions.check(given.tag)))

    notes = steps.add_parser("notes", help="print the notes of a version, from all changelogs")
    notes.add_argument("version")
    notes.set_defaults(step=lambda given: print(versions.notes(given.version)))

    build = steps.add_parser("build-images", help="build both images for this machine and push them")
    _registry(build)
    build.add_argument("--revision", required=True, help="the commit")
    build.add_argument("--containers", type=Path, default=versions.ROOT / "containers", help="their directory")
    build.add_argument("options", nargs="*", metavar="-- OPTION...", help="more options of docker build")
    build.set_defaults(step=_build)

    publish = steps.add_parser("publish-images", help="join the images of all architectures under the public tags")
    _registry(publish)
    publish.add_argument("--insecure", action="store_true", help="the registry speaks plain HTTP")
    publish.set_defaults(step=_publish)
    return parser


def _registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registry", required=True, help="registry and path, such as ghcr.io/hyphagroup")
    parser.add_argument("--version", required=True, help="such as 1.2.0")


def _build(given: argparse.Namespace) -> None:
    images.build(given.registry, given.version, given.revision, containers=given.containers, options=given.options)


def _publish(given: argparse.Namespace) -> None:
    # One NAME=DIGEST a line: what the workflow signs and attests.
    for name, digest in images.publish(given.registry, given.version, insecure=given.insecure).items():
        print(f"{name}={digest}")


if __name__ == "__main__":
    sys.exit(main())
