"""Labels, variables, options and archives are brought into the form that the command takes."""

import io
import json
import stat
import tarfile
from pathlib import Path

import pytest

from oubliette_apple import _environment, _labels, _layout, _logs, _options
from oubliette_core.errors import ConfigError, InvalidSpecError, RuntimeUnavailableError


@pytest.mark.parametrize("value", ["", "plain", "a=b=c", "100%", "%3D", "a%b=c,d", "\u00e9 =\u4e2d"])
def test_labels(value: str) -> None:
    """A value has at most the one `=` that belongs to the option, and comes back as it was."""
    (option,) = _labels.arguments({"key": value})

    assert 2 == option.count("=")
    assert value == _labels.decode(option.removeprefix("--label=key="))


def test_variables_are_in_a_file_of_ours() -> None:
    """Values stand neither in the arguments nor in a file that others can read, and the file is gone afterwards."""
    with _environment.arguments({"A": "secret", "B": "x=y #z", "EMPTY": ""}) as (options, env):
        (option,) = options
        path = Path(option.removeprefix("--env-file="))
        seen = path.read_text(), stat.S_IMODE(path.stat().st_mode)

    assert ("A=secret\nB=x=y #z\nEMPTY=\n", 0o600) == seen
    assert ({}, False) == (env, path.exists())


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\u2028", "\x85"])
def test_variables_of_several_lines(end: str) -> None:
    """They go through the command's own environment, and only their names are arguments."""
    with _environment.arguments({"KEY": f"one{end}two"}) as given:
        assert (["--env=KEY"], {"KEY": f"one{end}two"}) == given


@pytest.mark.parametrize("name", ["PATH", "HOME", "CONTAINER_DEBUG", "DYLD_INSERT_LIBRARIES", "HTTPS_PROXY"])
def test_variables_that_would_change_the_command(name: str) -> None:
    """They are refused when only the command's own environment could carry them, without their value."""
    with pytest.raises(InvalidSpecError, match=name) as refused, _environment.arguments({name: "se\ncret"}):
        pass

    assert "cret" not in str(refused.value)


def test_options() -> None:
    """Each problem of the section is told with its path."""
    with pytest.raises(ConfigError) as refused:
        _options.read({"binary": "container", "timeout": "5", "autostart": 1, "timeot": 5})

    assert (
        "runtimes.apple.timeot: unknown key; did you mean timeout?",
        "runtimes.apple.binary: expected an absolute path",
        "runtimes.apple.timeout: expected a number of seconds from 1 to 3600",
        "runtimes.apple.autostart: expected true or false",
    ) == refused.value.problems
    assert _options.Options(timeout=5.0) == _options.read({"timeout": 5})


def test_the_command_has_to_be_trustworthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that anybody may change, or that a relative part of PATH leads to, is not run."""
    command = tmp_path / "container"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o777)
    with pytest.raises(RuntimeUnavailableError, match="anyone may change it"):
        _options.locate(_options.Options(binary=command))
    command.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")
    with pytest.raises(RuntimeUnavailableError, match="is not installed") as absent:
        _options.locate(_options.Options())
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "brew install container" in absent.value.hint
    assert command == _options.locate(_options.Options())


def _tar(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", ".").replace("_", "-"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_layouts_are_left_as_they_are(tmp_path: Path) -> None:
    """What the command takes is given to it untouched."""
    archive = _tar(tmp_path / "a.tar", oci_layout=b"{}", index__json=b"{}")
    with _layout.as_layout(archive) as layout:
        assert archive == layout


def test_archives_of_docker_save_are_rewritten(tmp_path: Path) -> None:
    """Every tag becomes a manifest of an OCI layout, whose blobs are there once."""
    config = json.dumps({"architecture": "arm64", "os": "linux"}).encode()
    manifest = [{"Config": "config.json", "Layers": ["one", "one"], "RepoTags": ["a:1", "b:2"]}]
    files = {"config__json": config, "one": b"layer", "manifest__json": json.dumps(manifest).encode()}
    with _layout.as_layout(_tar(tmp_path / "a.tar", **files)) as layout, tarfile.open(layout) as written:
        names = written.getnames()
        index = json.load(written.extractfile("index.json") or io.BytesIO())

    assert len(names) == len(set(names))
    assert ["a:1", "b:2"] == [item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"]]
    assert {"architecture": "arm64", "os": "linux"} == index["manifests"][0]["platform"]


@pytest.mark.parametrize(
    "files",
    [{}, {"other": b""}, {"manifest__json": b"["}, {"manifest__json": b"[{}]"}, {"manifest__json": b"[]"}],
    ids=str,
)
def test_what_is_no_archive(tmp_path: Path, files: dict[str, bytes]) -> None:
    """It is an error of one kind, whatever is wrong with it."""
    with pytest.raises(ValueError, match=r"."), _layout.as_layout(_tar(tmp_path / "a.tar", **files)):
        pass


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("text", [b"", b"\n", b"one", b"one\n", b"one\ntwo\n\nthree\r\nfour\n", b"one\ntwo\nthe rest"])
def test_the_last_lines_do_not_depend_on_the_chunks(text: bytes, size: int) -> None:
    """Chunks begin and end anywhere, and a line may have no end."""
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    lines = text.splitlines(keepends=True)
    expected = [lines[max(0, len(lines) - count) :] for count in range(7)]

    assert expected == [_logs._last_lines(iter(chunks), count) for count in range(7)]
