"""The service measured: what a search costs beside its networks, and whether it stays right for long.

    python -m benchmarks.service speed             # needs a finished `kedro run`; takes a minute or two
    python -m benchmarks.service soak --minutes 10 # four clients search, add and delete; works on a copy

`speed` asks for the same photos one at a time and eight at a time, and times the parts of a search alone, all
in one run. `soak` holds every answer against what it should be.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

PARALLEL = 8
VERIFIED = 10
MIB = 2**20


@contextmanager
def served(data: Path, name: str, *options: str) -> Iterator[tuple[int, int]]:
    """Start a service and give its port and process id once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "landmark_retrieval", "serve", "--data", str(data), "--name", name]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--port", str(port), *options], stderr=subprocess.DEVNULL)
    try:
        while ask(port, "GET", "/ready")[0] != 200:
            if process.poll() is not None:
                raise SystemExit("the service has ended; start it by hand to see why")
            time.sleep(0.05)
        print(f"ready after {time.perf_counter() - start:.1f} s, imports included")
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def ask(port: int, method: str, address: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    """Return status and answer of a request; status 0 where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request(method, address, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
    except ConnectionRefusedError:
        return 0, None
    finally:
        connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(content) if is_json and content else content


def form(name: str, photo: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a form with one photo, and its headers."""
    head = f'--x\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'
    return head.encode() + photo + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def outside(data: Path, name: str) -> list[Path]:
    """Return photos of the run that are not in its index: its queries and train images."""
    import pandas as pd

    table = pd.read_csv(data / "02_intermediate" / name / "image_table.csv", dtype=str)
    return [data.parent / path for path in table.loc[table["split"] != "index", "path"]]


def parts_alone(data: Path, name: str, photos: Sequence[Path]) -> float:
    """Return the median seconds of networks, local features and ten verifications, one thread."""
    import torch

    from landmark_retrieval.descriptors import DESCRIPTORS, describe_images
    from landmark_retrieval.images import load_image, photo_keys
    from landmark_retrieval.local_features.extraction import extract_features
    from landmark_retrieval.retrieval.artifacts import RunFiles
    from landmark_retrieval.retrieval.index import read_index
    from landmark_retrieval.retrieval.stages import verify

    torch.set_num_threads(1)
    run = read_index(RunFiles(data, name).read, DESCRIPTORS)
    rows = np.arange(min(VERIFIED, run.rows.index.stop - run.rows.index.start))

    def once(photo: Path) -> float:
        start = time.perf_counter()
        for steps in run.steps:
            describe_images([str(photo)], steps.config, steps.region_whitening)
        features = extract_features(load_image(photo), run.local_features, run.local_pca)
        (key,) = photo_keys([str(photo)])
        verify(features, key, rows, run.features, run.rows.index.start, run.verification)
        return time.perf_counter() - start

    once(photos[0])
    return statistics.median(once(photo) for photo in photos)


def speed(data: Path, name: str) -> None:
    """Print what a search costs beside its parts, and eight at a time beside one at a time."""
    photos = outside(data, name)[:PARALLEL]
    contents = [photo.read_bytes() for photo in photos]
    with served(data, name) as (port, _):

        def search(photo: bytes) -> float:
            start = time.perf_counter()
            status, _ = ask(port, "POST", "/api/search", photo)
            assert status == 200, status
            return time.perf_counter() - start

        for photo in contents[:2]:
            search(photo)
        start = time.perf_counter()
        one = statistics.median([search(photo) for photo in contents])
        alone = time.perf_counter() - start
        start = time.perf_counter()
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(search, contents))
        together = time.perf_counter() - start
    parts = parts_alone(data, name, photos)
    print(f"networks, local features, {VERIFIED} verifications alone: {parts:.2f} s")
    print(f"one warm query over HTTP: {one:.2f} s, {one / parts:.2f} times that")
    print(f"{PARALLEL} at a time: {alone / together:.2f} times the throughput of one at a time")


class Client(threading.Thread):
    """One client of the soak test, with photos of its own and what it knows of them.

    Args:
        port: of the service.
        photos: that nobody else adds or deletes.
        until: moment at which it ends.
        seed: of its choices.
    """

    def __init__(self, port: int, photos: Sequence[Path], until: float, seed: int) -> None:
        super().__init__()
        self.port, self.until, self.random = port, until, random.Random(seed)
        self.photos = {photo: photo.read_bytes() for photo in photos}
        self.there: dict[Path, str] = {}
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        """Do one thing after the other, by chance."""
        actions = [self.search, self.search, self.search, self.add, self.delete, self.look, self.nonsense]
        try:
            while time.monotonic() < self.until and len(self.wrong) < 20:
                self.random.choice(actions)(self.random.choice(list(self.photos)))
            for photo in list(self.there):
                self.delete(photo)
        except Exception as error:  # a client that ends early has seen nothing: that is no pass
            self.wrong.append(f"a client ended: {error!r}")

    def expect(self, what: str, right: bool, seen: object) -> None:
        """Count an answer, and keep it where it is wrong."""
        self.done[what] += 1
        if not right:
            self.wrong.append(f"{what}: {seen!r}"[:300])

    def search(self, photo: Path) -> None:
        """Find a photo first where it is there, and nowhere where it is not."""
        status, answer = ask(self.port, "POST", "/api/search?results=100", self.photos[photo])
        if status == 429:
            self.done["told to come back"] += 1
            return
        ids = [match["id"] for match in answer["results"]] if status == 200 else []
        if photo in self.there:
            right = ids[:1] == [self.there[photo]] and answer["found"]
        else:
            right = not any(one.startswith(f"soak_{photo.stem}") for one in ids)
        self.expect("search", status == 200 and right, (status, photo.name, ids[:3]))

    def add(self, photo: Path) -> None:
        """Add a photo; it is there from now on."""
        body, headers = form(f"soak_{photo.name}", self.photos[photo])
        status, answer = ask(self.port, "POST", "/api/photos", body, **headers)
        if status == 201:
            self.there[photo] = answer["added"][0]["id"]
        self.expect("add", status in (201, 429), (status, answer))

    def delete(self, photo: Path) -> None:
        """Take a photo out, or hear that it is not there."""
        image_id = self.there.get(photo, "nobody")
        status, answer = ask(self.port, "DELETE", f"/api/photos/{quote(image_id, safe='')}")
        if status == 204:
            self.there.pop(photo)
        expected = (204, 429) if image_id != "nobody" else (404, 429)
        self.expect("delete", status in expected, (status, answer))

    def look(self, photo: Path) -> None:
        """See that the picture of a photo that was added is that photo."""
        if photo in self.there:
            status, content = ask(self.port, "GET", f"/api/photos/{quote(self.there[photo], safe='')}")
            self.expect("picture", status == 200 and content == self.photos[photo], status)

    def nonsense(self, photo: Path) -> None:
        """Hear in one line that something is no photo."""
        status, answer = ask(self.port, "POST", "/api/search", self.photos[photo][:100])
        self.expect("nonsense", status in (422, 429) and list(answer) == ["detail"], (status, answer))


def soak(data: Path, name: str, minutes: float, clients: int) -> None:
    """Print what four clients did, every wrong answer, and memory over time; exit 1 for a fault."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        copied = Path(folder, "data")
        shutil.copytree(data, copied)
        photos = outside(copied, name)
        with served(copied, name) as (port, process):
            until = time.monotonic() + 60 * minutes
            workers = [Client(port, photos[first::clients], until, first) for first in range(clients)]
            for worker in workers:
                worker.start()
            memory: list[tuple[float, int]] = []
            start = time.monotonic()
            while any(worker.is_alive() for worker in workers):
                memory.append((time.monotonic() - start, resident(process)))
                time.sleep(1)
            _, state = ask(port, "GET", "/ready")
    done = sum((worker.done for worker in workers), Counter())
    wrong = [line for worker in workers for line in worker.wrong]
    # Networks, compiled loops and caches are complete after the first searches: the first minute begins then.
    warm = 0.2 * memory[-1][0]
    first = [size for moment, size in memory if warm <= moment < warm + 60]
    last = [size for moment, size in memory if moment >= memory[-1][0] - 60]
    growth = statistics.mean(last) / statistics.mean(first)
    print(f"{minutes:g} minutes, {clients} clients: {dict(done)}; {state['photos']} photos at the end")
    print(
        f"memory {statistics.mean(first) / MIB:.0f} -> {statistics.mean(last) / MIB:.0f} MiB ({growth:.3f})"
    )
    print("\n".join(wrong) or "no wrong answer")
    sys.exit(1 if wrong or growth > 1.05 else 0)


def resident(process: int) -> int:
    """Return the resident memory of a process in bytes (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("speed", "soak"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--name", default="demo")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.data, given.name)
    else:
        soak(given.data, given.name, given.minutes, given.clients)


if __name__ == "__main__":
    main()
