from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from landmark_retrieval.collection import download as downloads
from landmark_retrieval.collection.download import fetch, is_done
from landmark_retrieval.collection.sources import DATA_SETS, Source, sources
from landmark_retrieval.commands.data_set import data_set
from landmark_retrieval.errors import LandmarkRetrievalError


@dataclass
class Web:
    """A server of files on this machine, which can be made to misbehave.

    Attributes:
        files: content by path.
        asked: (path, value of the header Range) of every request.
        cut: path -> bytes after which its connection breaks, once each.
        ranges: whether ranges are served.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    address: str = ""


@pytest.fixture
def web() -> Iterator[Web]:
    state = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            stop = state.cut.pop(self.path, len(content))
            self.wfile.write(content[start:stop])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def archive(web: Web, files: dict[str, bytes] | None = None, md5: str | None = None) -> Source:
    """Publish an archive of the test set with its MD5 sum."""
    content = tar_of(files or {"a/b/c/abc1.jpg": b"x" * 5000})
    web.files["/test/images_000.tar"] = content
    digest = md5 or hashlib.md5(content).hexdigest()
    web.files["/md5sum/test/md5.images_000.txt"] = f"{digest}  images_000.tar\n".encode()
    return next(source for source in sources("gldv2", web.address) if source.part == "test")


def transfers(web: Web) -> list[str | None]:
    return [wanted for path, wanted in web.asked if path.endswith(".tar")]


def test_an_archive_is_fetched_checked_and_unpacked_once(web: Web, tmp_path: Path) -> None:
    source, seen = archive(web), []
    assert fetch(tmp_path, source, seen.append)
    assert (tmp_path / "test/a/b/c/abc1.jpg").read_bytes() == b"x" * 5000
    assert sum(seen) == len(web.files["/test/images_000.tar"])
    assert is_done(tmp_path, source)
    assert not list((tmp_path / ".downloads").rglob("*.part"))
    asked = len(web.asked)
    assert not fetch(tmp_path, source)
    assert len(web.asked) == asked


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on_where_it_stopped(web: Web, tmp_path: Path, ranges: bool) -> None:
    source = archive(web)
    web.cut["/test/images_000.tar"], web.ranges = 3000, ranges
    assert fetch(tmp_path, source, pause=0)
    assert transfers(web) == [None, "bytes=3000-"]
    assert (tmp_path / "test/a/b/c/abc1.jpg").read_bytes() == b"x" * 5000


def test_an_interrupted_command_goes_on_where_it_stopped(web: Web, tmp_path: Path) -> None:
    source = archive(web)
    partial = tmp_path / ".downloads/test/images_000.tar.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(web.files["/test/images_000.tar"][:4321])
    assert fetch(tmp_path, source)
    assert transfers(web) == ["bytes=4321-"]


def test_a_complete_transfer_is_not_repeated(web: Web, tmp_path: Path) -> None:
    source = archive(web)
    partial = tmp_path / ".downloads/test/images_000.tar.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(web.files["/test/images_000.tar"])
    seen: list[int] = []
    assert fetch(tmp_path, source, seen.append)
    assert not seen


def test_a_stale_longer_rest_is_thrown_away(web: Web, tmp_path: Path) -> None:
    source = archive(web)
    partial = tmp_path / ".downloads/test/images_000.tar.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"y" * 100_000)
    assert fetch(tmp_path, source, pause=0)
    assert (tmp_path / "test/a/b/c/abc1.jpg").exists()


def test_a_stale_start_is_found_by_its_sum_and_replaced(web: Web, tmp_path: Path) -> None:
    source = archive(web)
    partial = tmp_path / ".downloads/test/images_000.tar.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"y" * 2000)
    assert fetch(tmp_path, source, pause=0)
    assert transfers(web) == ["bytes=2000-", None]


def test_a_wrong_sum_is_refused_and_nothing_unpacked(web: Web, tmp_path: Path) -> None:
    source = archive(web, md5="0" * 32)
    with pytest.raises(LandmarkRetrievalError, match=r"MD5 sum .* differs from the published 0000.* twice"):
        fetch(tmp_path, source, pause=0)
    assert not is_done(tmp_path, source)
    assert not (tmp_path / "test").exists()


def test_a_transfer_that_keeps_breaking_off_is_given_up_and_kept(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = archive(web)
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    web.cut["/test/images_000.tar"] = 3000
    with pytest.raises(LandmarkRetrievalError, match="broke off, 1 times; what has arrived is kept"):
        fetch(tmp_path, source, pause=0)
    assert (tmp_path / ".downloads/test/images_000.tar.part").stat().st_size == 3000
    assert fetch(tmp_path, source, pause=0)


def test_no_server_and_no_file(web: Web, tmp_path: Path) -> None:
    source = archive(web)
    del web.files["/test/images_000.tar"]
    with pytest.raises(LandmarkRetrievalError, match=r"images_000.tar: the server answers 404"):
        fetch(tmp_path, source, pause=0)
    nowhere = Source("metadata", "http://127.0.0.1:9/test.csv", "test.csv")
    with pytest.raises(LandmarkRetrievalError, match=r"test.csv: .*refused.*, 5 times"):
        fetch(tmp_path, nowhere, pause=0)
    web.files["/md5sum/test/md5.images_000.txt"] = b"<html>sorry</html>"
    with pytest.raises(LandmarkRetrievalError, match="holds no MD5 sum"):
        fetch(tmp_path, source, pause=0)


def test_archives_write_nowhere_else(web: Web, tmp_path: Path) -> None:
    source = archive(web, {"../../outside.jpg": b"x"})
    with pytest.raises(LandmarkRetrievalError, match="the archive is damaged"):
        fetch(tmp_path / "data", source)
    assert not list(tmp_path.rglob("outside.jpg"))
    web.files["/all.tgz"] = tar_of({"../../b/outside.jpg": b"x", "deep/in.jpg": b"y"}, "w:gz")
    flat = Source("images", f"{web.address}/all.tgz", "set/jpg", unpack="flat")
    assert fetch(tmp_path / "data", flat)
    assert {file.name for file in (tmp_path / "data/set/jpg").iterdir()} == {"outside.jpg", "in.jpg"}


def test_a_damaged_archive_without_a_sum_is_thrown_away(web: Web, tmp_path: Path) -> None:
    web.files["/all.tgz"] = tar_of({"in.jpg": b"y" * 10_000}, "w:gz")[:-20]
    flat = Source("images", f"{web.address}/all.tgz", "set/jpg", unpack="flat")
    with pytest.raises(LandmarkRetrievalError, match="the archive is damaged"):
        fetch(tmp_path, flat)
    assert not is_done(tmp_path, flat)
    assert not list((tmp_path / ".downloads").rglob("*.part"))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(data_set, list(arguments))


def publish_gldv2(web: Web) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (20, 20)).save(picture, "JPEG")
    for source in sources("gldv2", web.address):
        path = source.url.removeprefix(web.address)
        if source.part != "metadata":
            names = {"test": "aaa1", "index": "eee5", "train": "hhh8"}
            name = names[source.part]
            content = tar_of({f"{name[0]}/{name[1]}/{name[2]}/{name}.jpg": picture.getvalue()})
            web.files[path] = content
            assert source.md5_url is not None
            web.files[source.md5_url.removeprefix(web.address)] = hashlib.md5(content).hexdigest().encode()
    web.files["/metadata/test.csv"] = b"id\naaa1\n"
    web.files["/metadata/index.csv"] = b"id\neee5\n"
    web.files["/metadata/train.csv"] = b"id,url,landmark_id\nhhh8,u,3\n"
    web.files["/metadata/train_clean.csv"] = b"landmark_id,images\n3,hhh8\n"
    web.files["/metadata/index_image_to_landmark.csv"] = b"id,landmark_id\neee5,1\n"
    web.files["/ground_truth/retrieval_solution_v2.1.csv"] = b"id,images,Usage\naaa1,eee5,Public\n"


def test_check_download_check(web: Web, tmp_path: Path) -> None:
    publish_gldv2(web)
    root = str(tmp_path / "gldv2")
    before = invoke("check", "gldv2", "--data-root", root)
    assert before.exit_code == 1
    assert "https://s3.amazonaws.com/google-landmark/index/images_000.tar to images_099.tar" in before.output
    assert "MD5 https://s3.amazonaws.com/google-landmark/md5sum/train/md5.images_000.txt" in before.output
    assert (
        "https://s3.amazonaws.com/google-landmark/ground_truth/retrieval_solution_v2.1.csv" in before.output
    )
    assert f"kedro data-set download gldv2 --data-root {root} --part metadata --part test" in before.output
    some = invoke("download", "gldv2", "--data-root", root, "--mirror", web.address, "--part", "metadata")
    assert some.exit_code == 0, some.output
    assert "gldv2: 0 of 6 files are done, 6 to get" in some.output
    middle = invoke("check", "gldv2", "--data-root", root)
    assert middle.exit_code == 1
    assert "0 of 1 are there" in middle.output
    rest = invoke("download", "gldv2", "--data-root", root, "--mirror", web.address, "--jobs", "8")
    assert rest.exit_code == 0, rest.output
    assert "gldv2: 6 of 626 files are done, 620 to get" in rest.output
    after = invoke("check", "gldv2", "--data-root", root, "--all")
    assert after.exit_code == 0, after.output
    assert f"ready: kedro run --env gldv2 --params data_root={root}" in after.output
    asked = len(web.asked)
    assert invoke("download", "gldv2", "--data-root", root, "--mirror", web.address).exit_code == 0
    assert len(web.asked) == asked


def test_a_failing_download_says_so(web: Web, tmp_path: Path) -> None:
    result = invoke(
        *("download", "gldv2", "--data-root", str(tmp_path), "--mirror", web.address, "--part", "metadata")
    )
    assert result.exit_code == 1
    assert "the server answers 404" in result.output


def test_check_of_revisited(tmp_path: Path) -> None:
    before = invoke("check", "roxford5k", "--data-root", str(tmp_path))
    assert before.exit_code == 1
    assert "http://cmp.felk.cvut.cz/revisitop/data/datasets/roxford5k/gnd_roxford5k.pkl" in before.output
    assert "oxbuild_images-v1.tgz" in before.output
    folder = tmp_path / "roxford5k"
    (folder / "jpg").mkdir(parents=True)
    content = {"imlist": ["a", "b"], "qimlist": ["c"], "gnd": [{}]}
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content, 2))
    for name in "ab":
        (folder / "jpg" / f"{name}.jpg").write_bytes(b"x")
    assert "2 of 3 are there" in invoke("check", "roxford5k", "--data-root", str(tmp_path)).output
    (folder / "jpg" / "c.jpg").write_bytes(b"x")
    after = invoke("check", "roxford5k", "--data-root", str(tmp_path))
    assert after.exit_code == 0
    assert "ready: kedro run --env roxford5k" in after.output


def test_check_of_distractors(tmp_path: Path) -> None:
    assert invoke("check", "revisitop1m", "--data-root", str(tmp_path)).exit_code == 1
    (tmp_path / "revisitop1m/jpg/1").mkdir(parents=True)
    (tmp_path / "revisitop1m/revisitop1m.txt").write_text("1/a.jpg\n")
    (tmp_path / "revisitop1m/jpg/1/a.jpg").write_bytes(b"x")
    result = invoke("check", "revisitop1m", "--data-root", str(tmp_path))
    assert result.exit_code == 0, result.output


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    assert invoke("check", "oxford", "--data-root", str(tmp_path)).exit_code == 2
    result = invoke("download", "gldv2", "--data-root", str(tmp_path), "--part", "tests")
    assert result.exit_code == 1
    assert "unknown part 'tests': did you mean 'test'?" in result.output
    with pytest.raises(LandmarkRetrievalError, match="unknown data set 'gldv3'"):
        sources("gldv3")


@pytest.mark.parametrize("name", DATA_SETS)
def test_sources_are_distinct_and_stay_in_the_folder(name: str) -> None:
    found = sources(name)
    assert len({source.url for source in found}) == len({source.name for source in found}) == len(found)
    assert all(not Path(source.target).is_absolute() and ".." not in source.target for source in found)


def test_numbers_of_published_archives() -> None:
    parts = [source.part for source in sources("gldv2")]
    assert [parts.count(part) for part in ("test", "index", "train")] == [20, 100, 500]
    assert sum(source.part == "images" for source in sources("revisitop1m")) == 100
