"""The wheel: its commands work from an empty folder, and nothing of a user's work leaves the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kedro_project import ROOT

WATCH = """
import os, socket
def watched(name, function):
    def watch(*arguments, **options):
        if getattr(arguments[0], "family", None) != socket.AF_UNIX:
            with open(os.environ["TRIED"], "a") as file:
                file.write(f"{name} {arguments}\\n")
        return function(*arguments, **options)
    return watch
socket.socket.connect = watched("connect", socket.socket.connect)
socket.getaddrinfo = watched("look up", socket.getaddrinfo)
"""
"""Notes every connection that is tried."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is installed from the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("src", "conf", "README.md", "LICENSE", "pyproject.toml"):
        (source / name).symlink_to(ROOT / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*build, "--wheel-dir", folder, source], check=True, timeout=300, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    (folder / "site" / "sitecustomize.py").write_text(WATCH)
    return folder / "site"


def call(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder, without what the Makefile and pytest set."""
    names = ("PATH", "HOME")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"PYTHONPATH": str(site), "TRIED": str(folder / "tried.txt"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "landmark_retrieval", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, timeout=300, check=False
    )
    assert not (folder / "tried.txt").exists(), (folder / "tried.txt").read_text()
    return done


def test_the_wheel_has_its_configuration_and_no_secrets(site: Path) -> None:
    conf = site / "landmark_retrieval" / "conf"
    packaged = {file.relative_to(conf).as_posix() for file in conf.rglob("*.yml")}
    there = {file.relative_to(ROOT / "conf").as_posix() for file in (ROOT / "conf").rglob("*.yml")}
    assert packaged == {file for file in there if not file.startswith("local/")}


def test_commands_work_from_an_empty_folder_and_send_nothing(site: Path, tmp_path: Path) -> None:
    done = call(site, tmp_path, "search", "photo.jpg")
    assert done.returncode == 1
    assert done.stderr == "Error: data: no finished run; make one with `landmark-retrieval run`\n"
    refused = call(site, tmp_path, "serve", "--host", "0.0.0.0")
    assert refused.returncode == 1 and "--token-file" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    # A run that gets as far as its photos, of which there are none.
    (tmp_path / "photos").mkdir()
    run = call(site, tmp_path, "run", "--env", "folder", "--params", "image_root=photos")
    assert run.returncode == 1 and "photos" in run.stderr and "Traceback" not in run.stderr
