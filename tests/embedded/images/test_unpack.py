"""A layer becomes a directory that overlayfs stacks, and nothing in it reaches anything else. As root and as a user."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.testing.images import Layer, digest_of
from oubliette_embedded.images._failures import Failure
from oubliette_embedded.images._tar import Source, _zstd
from tests.embedded.images.conftest import USER, Unpacking
from tests.embedded.images.tars import Entry, file, folder, hard_link, layer, link, member, node, tar


def names(tree: Path) -> list[str]:
    """Give the paths of all that is in a directory."""
    return sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))


def is_whiteout(path: Path) -> bool:
    """Tell whether overlayfs takes this for a whiteout."""
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path) -> bool:
    """Tell whether overlayfs takes this directory for opaque."""
    return "user.overlay.opaque" in os.listxattr(path) and os.getxattr(path, "user.overlay.opaque") == b"y"


# -- What is good -----------------------------------------------------------------------------------------------------


def test_files_arrive_with_content_mode_and_time(unpacking: Unpacking) -> None:
    """Bytecode of Python, among others, goes by the time of its source."""
    tree = unpacking.good(
        layer(
            folder("d", 0o750, mtime=1_000_000_000),
            file("d/script", "#!/bin/sh\n", mode=0o755, mtime=1_234_567_890),
            file("d/empty", mode=0o600),
            link("d/link", "script", mtime=999),
        )
    )
    script, directory = (tree / "d/script").stat(), (tree / "d").stat()

    assert "#!/bin/sh\n" == (tree / "d/script").read_text()
    assert (0o755, 1_234_567_890) == (stat.S_IMODE(script.st_mode), script.st_mtime)
    assert (0o750, 1_000_000_000) == (stat.S_IMODE(directory.st_mode), directory.st_mtime)
    assert (b"", "script", 999) == (
        (tree / "d/empty").read_bytes(),
        str((tree / "d/link").readlink()),
        (tree / "d/link").lstat().st_mtime,
    )


def test_the_root_of_a_layer_has_its_mode(unpacking: Unpacking) -> None:
    """It becomes the mode of the container's root, if the layer is the uppermost."""
    given = unpacking.good(layer(folder("./", 0o711)))
    default = unpacking.good(layer(file("a")))

    assert [0o711, 0o755] == [stat.S_IMODE(tree.stat().st_mode) for tree in (given, default)]


def test_the_superuser_gives_files_to_their_owners(unpacking: Unpacking) -> None:
    """An ordinary user cannot, and keeps all; what belonged to somebody else could not be touched inside."""
    ids: dict[str, Any] = {"uid": 1000, "gid": 1001}
    tree = unpacking.good(
        layer(
            *(folder("d", **ids), file("d/f", mode=0o640, **ids), link("d/l", "f", **ids)),
            *(node("d/p", tarfile.FIFOTYPE, **ids), hard_link("d/h", "d/f"), file("implied/f", **ids)),
        )
    )
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (tree / "d", *(tree / "d").iterdir())}
    ours = os.geteuid() if unpacking.is_self else USER

    assert {(1000, 1001)} if ours == 0 else {(ours, tree.stat().st_gid)} == owners
    assert (0o640, ours) == (stat.S_IMODE((tree / "d/f").stat().st_mode), (tree / "implied").stat().st_uid)


def test_an_owner_that_cannot_be_is_left_out(unpacking: Unpacking) -> None:
    """Numbers in a header may be anything."""
    tree = unpacking.good(
        layer(*(file(f"f{uid}", uid=uid, gid=uid) for uid in (1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62)))
    )

    assert 4 == len(names(tree))


def test_the_owner_may_go_everywhere_and_read_everything(unpacking: Unpacking) -> None:
    """Images of the Red Hat family have directories that only root's powers let it write to; here root has none."""
    tree = unpacking.good(layer(folder("d", 0o555), file("d/a", mode=0), folder("e", 0), file("e/b", mode=0o444)))
    modes = [stat.S_IMODE((tree / name).stat().st_mode) for name in ("d", "d/a", "e", "e/b")]

    assert [0o755, 0o400, 0o700, 0o444] == modes


def test_missing_directories_are_made(unpacking: Unpacking) -> None:
    """They have the mode that Docker gives them, whatever our umask."""
    old = os.umask(0o077)
    try:
        tree = unpacking.good(layer(file("a/b/c", "c")))
    finally:
        os.umask(old)

    assert ["a", "a/b", "a/b/c"] == names(tree)
    assert 0o755 == stat.S_IMODE((tree / "a/b").stat().st_mode)


def test_a_later_entry_replaces_an_earlier_one(unpacking: Unpacking) -> None:
    """As on Docker; a directory keeps what is in it."""
    tree = unpacking.good(
        layer(
            *(file("f", "1"), file("f", "2")),
            *(folder("d"), file("d/a"), folder("d", 0o700)),
            *(folder("x"), file("x/a"), file("x", "file")),
            *(file("y"), folder("y"), file("y/a")),
            *(folder("z"), file("z/a"), link("z", "f")),
            *(link("w", "d"), folder("w"), file("w/own")),
        )
    )

    assert ["d", "d/a", "f", "w", "w/own", "x", "y", "y/a", "z"] == names(tree)
    assert ("2", "file", "f") == ((tree / "f").read_text(), (tree / "x").read_text(), str((tree / "z").readlink()))
    assert 0o700 == stat.S_IMODE((tree / "d").stat().st_mode)


def test_hard_links_share_a_file(unpacking: Unpacking) -> None:
    """Also over an existing name, by an absolute name, to a link, and to itself."""
    tree = unpacking.good(
        layer(
            file("a", "1"),
            *(hard_link("b", "a"), hard_link("d/c", "/a"), hard_link("a", "a")),
            *(file("old"), hard_link("old", "./a"), link("s", "nowhere"), hard_link("t", "s")),
        )
    )
    same = {(tree / name).stat().st_ino for name in ("a", "b", "d/c", "old")}

    assert (1, 4) == (len(same), (tree / "a").stat().st_nlink)
    assert "nowhere" == str((tree / "t").readlink())


def test_sparse_files_stay_sparse(unpacking: Unpacking) -> None:
    """A hole of half a mebibyte costs no half a mebibyte."""
    size = 512 * 1024
    tree = unpacking.good(layer(file("zeros", bytes(size)), file("mixed", b"x" + bytes(size) + b"y")))

    assert size == (tree / "zeros").stat().st_size
    assert (tree / "zeros").stat().st_blocks * 512 < size
    assert b"x" + bytes(size) + b"y" == (tree / "mixed").read_bytes()


def test_a_map_of_holes_is_understood(unpacking: Unpacking) -> None:
    """GNU tar writes sparse files so (PAX format 1.0)."""
    content = b"2\n0\n3\n1000000\n2\n".ljust(512, b"\0") + b"abcde"
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "sparse",
        "GNU.sparse.realsize": "1000002",
    }
    tree = unpacking.good(layer(file("GNUSparseFile.0/sparse", content, pax_headers=headers), file("after", "a")))
    found = (tree / "sparse").read_bytes()

    assert (1_000_002, b"abc", b"de", b"a") == (len(found), found[:3], found[-2:], (tree / "after").read_bytes())


@pytest.mark.parametrize("name", ["n" * 255, "/".join(["d" * 100] * 30), "ü/日本", "sp ace\nnew\\line*?"])
def test_names_of_any_form_arrive(unpacking: Unpacking, name: str) -> None:
    """Long ones need headers of their own."""
    tree = unpacking.good(layer(file(name, "x")))

    assert "x" == (tree / name).read_text()


def test_names_need_not_be_text(unpacking: Unpacking) -> None:
    """To Linux a name is bytes, and images have such files."""
    info = tarfile.TarInfo("caf\udce9")
    data = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + bytes(1024)
    tree = unpacking.good(data)

    assert [os.fsdecode(b"caf\xe9")] == names(tree)


def test_attributes_of_the_user_are_kept_and_others_are_not(unpacking: Unpacking) -> None:
    """Overlayfs would take its own for orders: what a directory hides, and where it really is."""
    headers = {
        f"SCHILY.xattr.{name}": "1"
        for name in ("user.mine", "user.overlay.redirect", "user.overlay.opaque", "trusted.overlay.opaque")
    }
    tree = unpacking.good(layer(file("a", pax_headers=headers), folder("d", pax_headers=headers)))

    assert (["user.mine"], []) == (os.listxattr(tree / "a"), os.listxattr(tree / "d"))


@pytest.mark.parametrize("form", ["plain", "gzip", "gzip in pieces", "zstd"])
def test_every_compression_is_recognised(unpacking: Unpacking, form: str) -> None:
    """By its first bytes: media types are often wrong."""
    data = tar(file("a", "content"))
    pieces = {
        "plain": data,
        "gzip": gzip.compress(data),
        "gzip in pieces": gzip.compress(data[:700]) + gzip.compress(data[700:]),
        "zstd": _zstd().compress(data),
    }
    tree = unpacking.good(Layer(pieces[form], digest_of(data)))

    assert "content" == (tree / "a").read_text()


@pytest.mark.parametrize("data", [b"", bytes(1024), bytes(10240)])
def test_an_empty_layer_is_a_layer(unpacking: Unpacking, data: bytes) -> None:
    """Images have them for steps that change nothing."""
    assert [] == names(unpacking.good(data))


def test_an_archive_need_not_be_closed(unpacking: Unpacking) -> None:
    """Some programs leave the two blocks of zeros out."""
    data = tar(file("a", "1")).rstrip(b"\0")
    data += bytes(-len(data) % 512)

    assert ["a"] == names(unpacking.good(data))


# -- What hides -------------------------------------------------------------------------------------------------------


def test_a_whiteout_becomes_a_device_that_is_none(unpacking: Unpacking) -> None:
    """That is what hides a name in overlayfs; an ordinary user may make it."""
    tree = unpacking.good(layer(folder("d"), file("d/.wh.gone"), file(".wh.top")))

    assert ["d", "d/gone", "top"] == names(tree)
    assert is_whiteout(tree / "d/gone")
    assert is_whiteout(tree / "top")


def test_an_opaque_directory_is_marked(unpacking: Unpacking) -> None:
    """Wherever in the archive it is said."""
    tree = unpacking.good(layer(folder("d"), file("d/new"), file("d/.wh..wh..opq"), folder("e")))

    assert ["d", "d/new", "e"] == names(tree)
    assert (True, False) == (is_opaque(tree / "d"), is_opaque(tree / "e"))


@pytest.mark.parametrize("order", [1, -1])
def test_a_directory_in_the_place_of_another_hides_it(unpacking: Unpacking, order: int) -> None:
    """A whiteout and a directory of one name: what was in the old one is gone. Their order means nothing."""
    entries = [(file(".wh.d"),), (folder("d"), file("d/new"))]
    tree = unpacking.good(layer(*(entry for group in entries[::order] for entry in group)))

    assert ["d", "d/new"] == names(tree)
    assert is_opaque(tree / "d")


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_in_the_place_of_another_is_there(unpacking: Unpacking, order: int) -> None:
    """A whiteout never hides what its own layer has."""
    tree = unpacking.good(layer(*[file(".wh.f"), file("f", "new")][::order]))

    assert "new" == (tree / "f").read_text()


def test_a_missing_directory_in_the_place_of_a_whiteout_hides(unpacking: Unpacking) -> None:
    """Though the archive never names it."""
    tree = unpacking.good(layer(file(".wh.d"), file("d/new")))

    assert ["d", "d/new"] == names(tree)
    assert is_opaque(tree / "d")


def test_what_aufs_keeps_for_itself_is_left_out(unpacking: Unpacking) -> None:
    """Old images have it."""
    assert ["a"] == names(unpacking.good(layer(folder(".wh..wh.plnk"), file(".wh..wh.aufs"), file("a"))))


def test_an_opaque_root_is_told(unpacking: Unpacking) -> None:
    """Overlayfs does not look for the mark on the root of a layer."""
    _, answer = unpacking.unpack(layer(file(".wh..wh..opq"), file("a")))

    assert answer["hides_all"] is True


# -- What is hostile --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/../out", "a/..", "..", "./../out", "d/../out"])
@pytest.mark.parametrize("make", [file, folder, lambda name: link(name, "x"), lambda name: hard_link("h", name)])
def test_no_name_leads_outside(unpacking: Unpacking, name: str, make: type[Entry]) -> None:
    """Nor does any that only looks like it; honest programs write none of these."""
    why = unpacking.refused(layer(folder("d"), make(name)))

    assert "leads outside" in why
    assert not (unpacking.folder / "out").exists()


def test_an_absolute_name_is_one_inside(unpacking: Unpacking) -> None:
    """As tar and Docker take it."""
    tree = unpacking.good(layer(file("/etc/oubliette-hostile", "x"), file("//b", "y")))

    assert ["b", "etc", "etc/oubliette-hostile"] == names(tree)
    assert not Path("/etc/oubliette-hostile").exists()


@pytest.mark.parametrize("target", ["{outside}", "../../outside", "../../../../../../../../{outside}", "."])
def test_a_link_in_the_way_leads_nowhere_else(unpacking: Unpacking, target: str) -> None:
    """It is followed inside the layer, as it would be inside the container."""
    outside = unpacking.folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    to = target.format(outside=str(outside).lstrip("/") if ".." in target else outside)
    tree = unpacking.good(layer(link("door", to), file("door/through", "x"), folder("door/room"), file("door/.wh.y")))

    assert [] == list(outside.iterdir())
    assert link_count(tree) == 1


def link_count(tree: Path) -> int:
    """Count the symbolic links."""
    return sum(path.is_symlink() for path in tree.rglob("*"))


def test_a_link_to_a_directory_of_the_layer_is_followed(unpacking: Unpacking) -> None:
    """Images with ``lib -> usr/lib`` are made from archives that name files below ``lib``."""
    tree = unpacking.good(
        layer(folder("usr/lib"), link("lib", "usr/lib"), file("lib/a"), link("abs", "/lib"), file("abs/b"))
    )

    assert ["abs", "lib", "usr", "usr/lib", "usr/lib/a", "usr/lib/b"] == names(tree)


def test_a_directory_that_became_a_link_is_not_written_through(unpacking: Unpacking) -> None:
    """The race of an archive with itself: first a directory, then a link to /etc, then a file in it."""
    tree = unpacking.good(
        layer(
            folder("d"), file("d/a"), link("d", "/etc"), file("d/passwd", "root::0:0::/:/bin/sh\n"), folder("d", 0o777)
        )
    )

    assert "root::0:0::/:/bin/sh\n" != Path("/etc/passwd").read_text()
    assert (tree / "etc/passwd").is_file()
    assert (tree / "d").is_dir()


def test_a_link_is_never_the_target_of_a_write(unpacking: Unpacking) -> None:
    """A file in the place of a link replaces the link."""
    outside = unpacking.folder / "precious"
    outside.write_text("precious")
    outside.chmod(0o666)
    tree = unpacking.good(layer(link("a", str(outside)), file("a", "overwritten"), link("m", str(outside), mode=0)))

    assert ("precious", 0o666) == (outside.read_text(), stat.S_IMODE(outside.stat().st_mode))
    assert "overwritten" == (tree / "a").read_text()


def test_a_circle_of_links_is_refused(unpacking: Unpacking) -> None:
    """As the kernel does."""
    assert "too many links" in unpacking.refused(layer(link("a", "b"), link("b", "a"), file("a/x")))


@pytest.mark.parametrize("target", ["/etc/passwd", "etc/passwd", "absent", "d", "gone", ".", "door/passwd"])
def test_a_hard_link_to_what_the_layer_does_not_have_is_refused(unpacking: Unpacking, target: str) -> None:
    """Least of all to a file of this machine."""
    given = layer(folder("d"), file(".wh.gone"), link("door", "/etc"), hard_link("a", target))

    assert "does not have" in unpacking.refused(given)


def test_a_hard_link_through_a_link_of_its_own_name_is_refused(unpacking: Unpacking) -> None:
    """What it replaces is what it leads through."""
    assert "does not have" in unpacking.refused(layer(folder("d"), file("d/a"), hard_link("d", "d/a")))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_are_not_made(unpacking: Unpacking, kind: bytes) -> None:
    """Their names hide what is below them, so that nothing else appears there."""
    tree = unpacking.good(layer(folder("dev"), node("dev/sda", kind, devmajor=8, devminor=0, mode=0o666)))

    assert is_whiteout(tree / "dev/sda")


def test_a_fifo_is_made(unpacking: Unpacking) -> None:
    """It is nobody's door."""
    assert stat.S_ISFIFO((unpacking.good(layer(node("p", tarfile.FIFOTYPE))) / "p").lstat().st_mode)


def test_bits_that_change_the_user_are_taken_off(unpacking: Unpacking) -> None:
    """No container of ours could use them, and on this machine they would be a door; directories keep theirs."""
    tree = unpacking.good(layer(file("su", mode=0o6755), folder("shared", 0o2775), folder("tmp", 0o1777)))
    modes = [stat.S_IMODE((tree / name).stat().st_mode) for name in ("su", "shared", "tmp")]

    assert [0o755, 0o2775, 0o1777] == modes


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..."])
def test_no_whiteout_hides_a_directory_itself_or_its_parent(unpacking: Unpacking, name: str) -> None:
    """There are no such names."""
    assert "hides" in unpacking.refused(layer(folder("d"), file(name)))


@pytest.mark.parametrize("name", ["a\0b", "n" * 256, "/".join(["d"] * 3000)])
def test_a_name_that_no_file_can_have_is_refused(unpacking: Unpacking, name: str) -> None:
    """The kernel would refuse it later, with other words."""
    assert "none that a file could have" in unpacking.refused(layer(file("x", pax_headers={"path": name})))


def test_too_deep_a_tree_is_refused(unpacking: Unpacking) -> None:
    """Also one whose names are short, because links lead on."""
    step = "/".join(["d"] * 200)
    given = layer(folder(step), link("s", step), file(f"s/{step}/x"))

    assert "too many" in unpacking.refused(given)


def test_a_file_is_no_directory(unpacking: Unpacking) -> None:
    """An archive that says both is damaged."""
    assert "a file in one place" in unpacking.refused(layer(file("a"), file("a/b")))


@pytest.mark.parametrize("entry", [file("."), link("./", "x"), hard_link("/", "x")])
def test_the_root_is_a_directory(unpacking: Unpacking, entry: Entry) -> None:
    """Nothing takes its place."""
    assert "root" in unpacking.refused(layer(entry))


@pytest.mark.parametrize("kind", [b"Z", b"V"])
def test_an_unknown_type_is_refused(unpacking: Unpacking, kind: bytes) -> None:
    """What it is for nobody knows."""
    data = tar(file("a", "1"))
    info = member(file("b"))
    info.type = kind

    assert "unknown type" in unpacking.refused(info.tobuf(tarfile.USTAR_FORMAT) + data)


# -- What is too much -------------------------------------------------------------------------------------------------


def test_too_many_files_are_refused(unpacking: Unpacking) -> None:
    """A million of them fit into a few megabytes, and fill a file system."""
    given = layer(*(file(f"f{number}") for number in range(21)))

    assert "more than 20 files" in unpacking.refused(given, entries=20)


def test_directories_that_nobody_names_count(unpacking: Unpacking) -> None:
    """One name makes two hundred of them."""
    given = layer(*(file(f"{number}/" + "d/" * 50 + "x") for number in range(3)))

    assert "more than 100 files" in unpacking.refused(given, entries=100)


@pytest.mark.parametrize("form", ["one", "many", "sparse"])
def test_a_bomb_is_refused_before_it_fills_the_disk(unpacking: Unpacking, form: str) -> None:
    """A layer may be two hundred times as large as it is compressed, and no larger, once it is large at all."""
    small = 1024 * 1024
    if form == "sparse":
        headers = {"GNU.sparse.size": str(1 << 60), "GNU.sparse.map": f"{1 << 60},0", "GNU.sparse.numblocks": "1"}
        given = layer(file("bomb", pax_headers=headers))
    else:
        sizes = [4 * small] if form == "one" else [small // 2] * 8
        given = layer(*(file(f"bomb{number}", bytes(size)) for number, size in enumerate(sizes)))
    target, answer = unpacking.unpack(given, small=small)

    assert "taken for an attack" in answer.get("why", "")
    assert sum(path.stat().st_blocks * 512 for path in target.rglob("*")) <= 2 * small


def test_a_bomb_behind_the_end_is_refused(unpacking: Unpacking) -> None:
    """What follows the archive is read for its digest."""
    data = tar(file("a")) + bytes(8 * 1024 * 1024)
    given = Layer(gzip.compress(data), digest_of(data))

    assert "taken for an attack" in unpacking.refused(given, small=1024 * 1024, entries=10)


def test_a_header_larger_than_any_is_refused(unpacking: Unpacking) -> None:
    """It would be held in memory as a whole."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 34
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)

    assert "header" in unpacking.refused(data)


def test_a_chain_of_headers_has_an_end(unpacking: Unpacking) -> None:
    """Each is small, and each leads to the next."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
    data = (info.tobuf(tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")) * 5000 + tar(file("a"))

    assert unpacking.refused(data)


# -- What is damaged --------------------------------------------------------------------------------------------------


def test_another_digest_is_refused(unpacking: Unpacking) -> None:
    """The configuration says what a layer is unpacked, whatever the registry sent."""
    assert "has digest" in unpacking.refused(layer(file("a")), diff_id=digest_of(b"something else"))


def test_a_layer_that_is_cut_off_is_refused(unpacking: Unpacking) -> None:
    """Wherever it is cut, in the compression or in the archive."""
    data = tar(folder("d"), file("d/a", b"x" * 3000), file("b", "y"))
    packed = gzip.compress(data)
    why = [unpacking.refused(Layer(packed[:cut], digest_of(data))) for cut in range(5, len(packed), 17)]
    why += [unpacking.refused(Layer(data[:cut], digest_of(data))) for cut in range(100, len(data) - 10000 + 4000, 333)]

    assert all(why)


def test_a_damaged_header_in_the_middle_is_refused(unpacking: Unpacking) -> None:
    """Tarfile takes it for the end, and the rest of the files would be missing."""
    first, second = tar(file("a", "1"))[:1024], bytearray(tar(file("b", "2")))
    second[148:156] = b"0000000\0"

    assert "damaged header" in unpacking.refused(bytes(first + second))


@pytest.mark.parametrize("size", [-1, -(1 << 40)])
def test_a_negative_size_is_refused(unpacking: Unpacking, size: int) -> None:
    """It would lead back, and round and round."""
    header = bytearray(member(file("a", "1")).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 4 + struct.pack(">q", size)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()

    assert unpacking.refused(bytes(header) + bytes(10240))


def test_times_that_are_none_do_no_harm(unpacking: Unpacking) -> None:
    """They are anybody's."""
    times = ("nan", "inf", "-inf", "1e300", "-1e300", "99999999999999999999")
    tree = unpacking.good(layer(*(file(f"f{n}", pax_headers={"mtime": time}) for n, time in enumerate(times))))

    assert len(times) == len(names(tree))


def test_junk_is_no_layer(unpacking: Unpacking) -> None:
    """A login page, for example."""
    assert unpacking.refused(b"<!DOCTYPE html>" * 100)
    assert unpacking.refused(gzip.compress(b"<!DOCTYPE html>" * 100))
    assert unpacking.refused(b"\x28\xb5\x2f\xfd" + b"junk" * 100)


def test_reading_goes_forward_only() -> None:
    """What leads back in an archive would be read again, and perhaps for ever."""
    source = Source(io.BytesIO(bytes(2000)), "sha256:", 2000, lambda: None)
    source.seek(1000)
    with pytest.raises(Failure) as failed:
        source.seek(999)

    assert (1000, "corrupt") == (source.tell(), failed.value.reason)
