"""Nearest neighbours: exact search against FAISS and plain products, approximate search, and obeyed memory.

    python -m benchmarks.knn [--exact 20000x2048 100000x512] [--approximate 50000x256] [--mapped 400000x1024]

Descriptors are synthetic: unit rows around random centres, 200 rows each, twice as far from them as the
centres are from the origin. The contenders of exact search run in turns in one process on all cores, and
medians over the rounds are printed; a ratio above 1 means that ours is faster. The plain contenders take the
queries in blocks of 1,024 and the database whole, which is the most favourable for them, and they return
neither deterministic ties nor padding nor excluded rows. Peak memory is what a fresh process takes on top of
what it had after its imports and a small search (Linux only). `--gpu ROWSxDIMENSIONSxQUERIES ...` runs on a
GPU alone: exact search of float16 descriptors beside a plain loop of `torch.mm` and `topk` in float16.
"""

from __future__ import annotations

import argparse
import logging
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landmark_retrieval.knn import ApproximateConfig, KnnConfig, NeighborLists, recall_against_exact, search
from landmark_retrieval.knn.search import search_checked
from landmark_retrieval.runtime.threads import thread_count

Run = Callable[[], Any]
PLAIN_QUERIES = 1024


def fill(target: NDArray[Any], seed: int) -> NDArray[Any]:
    """Write unit rows around one centre for 200 of them, block by block, and return the array."""
    random = np.random.default_rng(seed)
    rows, dimensions = target.shape
    for start in range(0, rows, 20_000):
        count = min(20_000, rows - start)
        centres = random.standard_normal((max(1, count // 200), dimensions), np.float32)
        block = 2 * random.standard_normal((count, dimensions), np.float32)
        block += centres[random.integers(0, len(centres), count)]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        target[start : start + count] = block
    return target


def descriptors(rows: int, dimensions: int) -> NDArray[np.float32]:
    return fill(np.empty((rows, dimensions), np.float32), 0)


def medians(contenders: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds of each contender, run in turns after one run that does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def in_blocks(
    queries: NDArray[np.float32], search_block: Callable[[NDArray[np.float32]], NDArray[Any]]
) -> NDArray[Any]:
    return np.concatenate(
        [search_block(queries[i : i + PLAIN_QUERIES]) for i in range(0, len(queries), PLAIN_QUERIES)]
    )


def numpy_plain(queries: NDArray[np.float32], database: NDArray[np.float32], k: int) -> NDArray[Any]:
    """Return neighbours by a matrix product, `argpartition` and sorting what it leaves."""

    def block(part: NDArray[np.float32]) -> NDArray[Any]:
        products = part @ database.T
        best = np.argpartition(products, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(products, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    return in_blocks(queries, block)


def torch_plain(queries: NDArray[np.float32], database: NDArray[np.float32], k: int) -> NDArray[Any]:
    """Return neighbours by `torch.matmul` and `topk`."""
    matrix = torch.from_numpy(database).T
    return in_blocks(
        queries, lambda part: torch.topk(torch.matmul(torch.from_numpy(part), matrix), k, dim=1)[1].numpy()
    )


def faiss_flat(queries: NDArray[np.float32], database: NDArray[np.float32], k: int) -> NDArray[Any]:
    """Return neighbours by `faiss.IndexFlatIP`, with building it, which copies the database."""
    import faiss

    index = faiss.IndexFlatIP(database.shape[1])
    index.add(database)
    found: NDArray[Any] = index.search(queries, k)[1]
    return found


def bench_exact(rows: int, dimensions: int, count: int, k: int, rounds: int) -> None:
    """Time exact search on the CPU against libraries."""
    database = descriptors(rows, dimensions)
    queries = database[np.random.default_rng(1).permutation(rows)[:count]]

    def ours() -> NeighborLists:
        return search(queries, database, KnnConfig(k=k, device="cpu"))

    contenders: dict[str, Run] = {
        "ours": ours,
        "faiss.IndexFlatIP": lambda: faiss_flat(queries, database, k),
        "torch matmul + topk": lambda: torch_plain(queries, database, k),
        "numpy matmul + argpartition": lambda: numpy_plain(queries, database, k),
    }
    truth = ours().neighbors
    times = medians(contenders, rounds)
    print(f"exact, {count:,} queries in {rows:,} x {dimensions}, k={k}, {thread_count(0)} cores")
    for name, seconds in times.items():
        rate = 2e-9 * count * rows * dimensions / seconds
        print(f"  {name:<28} {seconds:7.3f} s  {rate:7.1f} GFLOP/s  {seconds / times['ours']:5.2f} x ours")
    same = (faiss_flat(queries, database, k) == truth).mean()
    print(f"  {100 * same:.3f} % of FAISS's entries are equal (others are ties within its rounding)")


def bench_approximate(rows: int, dimensions: int, count: int, k: int) -> None:
    """Measure recall and speed of approximate search."""
    database = descriptors(rows, dimensions)
    queries = database[np.random.default_rng(1).permutation(rows)[:count]]
    nothing = np.full(count, -1, np.int64)
    exact = medians({"exact": lambda: search(queries, database, KnnConfig(k=k, device="cpu"))}, 1)["exact"]
    print(f"approximate, {count:,} queries in {rows:,} x {dimensions}, k={k}; exact search {exact:.2f} s")
    for options in (
        ApproximateConfig(method="ivf", probes=8),
        ApproximateConfig(method="ivf"),
        ApproximateConfig(method="ivf", probes=128),
        ApproximateConfig(method="hnsw"),
    ):
        config = KnnConfig(k=k, device="cpu", approximate=options)
        times = []
        for _ in range(2):  # the first one builds the index, which is kept under the name of the database
            start = time.perf_counter()
            search_checked(queries, database, config, nothing, "", 0, f"{rows}x{dimensions}")
            times.append(time.perf_counter() - start)
        built, searched = times[0] - times[1], times[1]
        recall = recall_against_exact(queries, database, config, sample=200)
        what = f"ivf, {options.probes} probes" if options.method == "ivf" else "hnsw"
        print(
            f"  {what:<16} recall {recall:.4f}  build {built:6.2f} s  search {searched:6.2f} s "
            f"({exact / searched:.1f} times as fast as exact)"
        )


def bench_memory(rows: int, dimensions: int, count: int, k: int, budgets: list[float], folder: Path) -> None:
    """Measure the peak memory of searching a file, in a fresh process for each budget."""
    path = folder / "index.npy"
    mapped = np.lib.format.open_memmap(path, "w+", np.float16, (rows, dimensions))
    fill(mapped, 0)
    mapped.flush()
    size = mapped.nbytes / 2**30
    del mapped
    print(f"memory, {count:,} queries in a float16 file of {rows:,} x {dimensions} ({size:.2f} GiB), k={k}")
    for budget in budgets:
        command = [sys.executable, "-m", "benchmarks.knn", "--measure-memory", str(path), str(budget)]
        command += ["--queries", str(count), "--k", str(k)]
        shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        peak, seconds = map(float, shown.split())
        share = 100 * peak / budget
        print(f"  memory_gib {budget:<5g} peak {peak:.3f} GiB, {share:.0f} % of it; {seconds:.1f} s")


def measure_memory(path: Path, budget: float, count: int, k: int) -> None:
    """Search a file and print the peak memory in GiB and the seconds."""
    matrix = np.load(path, mmap_mode="r")
    config = KnnConfig(k=k, device="cpu", memory_gib=budget)
    small = np.eye(600, matrix.shape[1], dtype=np.float16)
    search(small, small, config)

    def memory(name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) / 2**20 if found else float("nan")

    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    start = time.perf_counter()
    search(matrix[:count], matrix, config)
    print(memory("VmHWM") - before, time.perf_counter() - start)


def made_on_gpu(rows: int, dimensions: int) -> NDArray[np.float16]:
    """Return unit rows in float16 around one centre for 20 of them, drawn on the GPU."""
    generator = torch.Generator("cuda").manual_seed(0)
    centres = torch.randn(max(1, rows // 20), dimensions, device="cuda", generator=generator)
    matrix = np.empty((rows, dimensions), np.float16)
    for start in range(0, rows, 50_000):
        count = min(50_000, rows - start)
        block = 1.5 * torch.randn(count, dimensions, device="cuda", generator=generator)
        block += centres[torch.randint(len(centres), (count,), device="cuda", generator=generator)]
        matrix[start : start + count] = torch.nn.functional.normalize(block, dim=1).half().cpu().numpy()
    return matrix


def plain_on_gpu(queries: NDArray[np.float16], database: NDArray[np.float16], k: int) -> NDArray[Any]:
    """Return neighbours by `torch.mm` and `topk` in float16, the loop that everybody writes."""
    on_device, found = torch.from_numpy(database).cuda(), []
    for start in range(0, len(queries), 4096):
        block = torch.from_numpy(queries[start : start + 4096]).cuda()
        values, rows = [], []
        for first in range(0, len(on_device), 131_072):
            value, row = torch.topk(block @ on_device[first : first + 131_072].T, k, dim=1)
            values.append(value)
            rows.append(row + first)
        best = torch.topk(torch.cat(values, 1), k, dim=1)[1]
        found.append(torch.gather(torch.cat(rows, 1), 1, best).int().cpu())
    result: NDArray[Any] = torch.cat(found).numpy()
    return result


def bench_gpu(rows: int, dimensions: int, count: int, k: int, rounds: int) -> None:
    """Time exact search on the GPU, upload included, against the plain loop."""
    database = made_on_gpu(rows, dimensions)
    queries = database[np.random.default_rng(1).permutation(rows)[:count]]
    config = KnnConfig(k=k, device="gpu", storage="float16", memory_gib=32)
    begin = time.perf_counter()
    search(queries[:2000], database[:2000], config)
    started = time.perf_counter() - begin
    torch.cuda.reset_peak_memory_stats()
    contenders: dict[str, Run] = {
        "ours": lambda: search(queries, database, config),
        "torch.mm + topk": lambda: plain_on_gpu(queries, database, k),
    }
    times = medians(contenders, rounds)
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(
        f"GPU, {count:,} queries in {rows:,} x {dimensions} float16, k={k}; first small search "
        f"{started:.2f} s, peak {peak:.1f} GiB of GPU memory"
    )
    for name, seconds in times.items():
        rate = 2e-12 * count * rows * dimensions / seconds
        print(
            f"  {name:<16} {seconds:7.2f} s  {rate:6.1f} TFLOP/s  {times['ours'] / seconds:5.2f}", flush=True
        )


def shape(text: str) -> tuple[int, ...]:
    """Read `ROWSxDIMENSIONS`, or with queries `ROWSxDIMENSIONSxQUERIES`."""
    return tuple(map(int, text.split("x")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exact", type=shape, nargs="*", default=[(20_000, 2048), (100_000, 512)])
    parser.add_argument("--approximate", type=shape, nargs="*", default=[(50_000, 256)])
    parser.add_argument("--mapped", type=shape, nargs="*", default=[(400_000, 1024)])
    parser.add_argument("--gpu", type=shape, nargs="+", help="e.g. 400000x2048x100000 761757x4096x117577")
    parser.add_argument("--memory", type=float, nargs="+", default=[0.25, 0.5], help="values of memory_gib")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure-memory", nargs=2, metavar=("FILE", "GIB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_memory:
        path, budget = options.measure_memory
        measure_memory(Path(path), float(budget), options.queries, options.k)
        return
    if options.gpu:
        logging.basicConfig(level=logging.DEBUG, format="  %(message)s")
        for rows, dimensions, queries in options.gpu:
            bench_gpu(rows, dimensions, queries, options.k, options.rounds)
        return
    for rows, dimensions in options.exact:
        bench_exact(rows, dimensions, options.queries, options.k, options.rounds)
    for rows, dimensions in options.approximate:
        bench_approximate(rows, dimensions, options.queries, options.k)
    if Path("/proc/self/clear_refs").exists():
        with tempfile.TemporaryDirectory() as folder:
            for rows, dimensions in options.mapped:
                bench_memory(rows, dimensions, options.queries, options.k, options.memory, Path(folder))


if __name__ == "__main__":
    main()
