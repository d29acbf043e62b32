"""Images in files, for machines that reach no registry."""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_core.errors import InvalidSpecError, OperationCancelledError, RuntimeOperationError
from oubliette_core.images.layout import LayoutWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oubliette_core.models import Cancel
    from oubliette_core.runtime import Runtime

__all__ = ["write_archive"]


def write_archive(
    runtime: Runtime, images: Sequence[tuple[str, Sequence[str]]], archive: Path, cancel: Cancel | None
) -> None:
    """Write local images into one archive, an OCI image layout; the file appears only when it is whole.

    :param images: for each the reference or id that it is known by here, and the names that it gets in the archive.
    :raises OperationCancelledError: ``cancel`` came first. :raises InvalidSpecError: the file cannot be written.
    """

    def stop() -> None:
        if cancel is not None and cancel.cancelled:
            raise OperationCancelledError("saving was cancelled", runtime=runtime.name, subject=str(archive))

    try:
        # Beside the archive: what an engine saves may be too large for the place of temporary files.
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{archive.name}.") as scratch:
            whole, saved = Path(scratch) / "archive", Path(scratch) / "saved"
            with tarfile.open(whole, "w") as out:
                writer = LayoutWriter(out, stop)
                for image, names in images:
                    # One at a time: in an archive of several, an image without a name could not be told from others.
                    stop()
                    runtime.save_images((image,), saved, cancel=cancel)
                    writer.add(saved, names)
                    saved.unlink()
                writer.close()
            with whole.open("rb") as written:
                os.fsync(written.fileno())
            whole.replace(archive)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not archive.parent.is_dir():
            raise InvalidSpecError(f"{archive.parent} is not a directory", value=str(archive)) from error
        raise RuntimeOperationError(
            f"{archive} cannot be written: {error.strerror or error}", runtime=runtime.name, subject=str(archive)
        ) from error
