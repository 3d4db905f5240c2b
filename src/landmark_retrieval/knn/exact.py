"""Exact nearest neighbours: rough products propose candidates, exact scores order them, a bound proves it.

A block of queries is multiplied with a block of the database in the precision of the device, `topk` keeps
more candidates than are wanted, and these alone are scored exactly (`scoring`). What was not kept has a rough
product of at most that of the last candidate, and so a true one of at most that plus the error of rounding: a
query whose k-th score is above it is proven, the others are searched again with more candidates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn.config import KnnConfig
from landmark_retrieval.knn.matrix import as_tensor, read_rows, release, row_norms
from landmark_retrieval.knn.neighbors import NeighborLists
from landmark_retrieval.knn.scoring import rounded_products
from landmark_retrieval.runtime.progress import PROGRESS_DELAY
from landmark_retrieval.runtime.threads import library_threads, thread_count

logger = logging.getLogger(__name__)

SLACK = 32
"""Candidates beyond k."""

MORE = 8
"""Factor by which candidates grow where they prove too few."""

TILES = {
    "cpu": ((1024, 131072), (512, 65536), (512, 16384), (256, 4096), (64, 1024), (32, 512)),
    "cuda": ((4096, 131072), (2048, 65536), (1024, 32768), (512, 16384), (128, 8192)),
}
"""Queries and database rows that are multiplied at a time; the largest that fit the memory are taken."""

SMALL_NORM = 2.0**-60
"""More than what a norm loses where squares of its values are too small for float32."""

OVERHEAD = 16 << 20
"""Bytes that the libraries take for themselves."""


@dataclass(frozen=True)
class Layout:
    """What is held at a time.

    Attributes:
        queries: rows of a block of queries.
        columns: database rows that are multiplied at a time.
        database: database rows on the device.
        scoring: bytes of candidates that are scored at a time.
    """

    queries: int
    columns: int
    database: int
    scoring: int


@dataclass(frozen=True, eq=False)
class Problem:
    """One search on one device.

    Attributes:
        queries: `[q, d]`.
        database: `[n, d]`.
        excluded: int64 `[q]`, -1 for none.
        names: int64 `[q]` numbers of the queries, for messages.
        config: parameters.
        device: where products are computed.
        dtype: of descriptors on the device.
    """

    queries: NDArray[Any]
    database: NDArray[Any]
    excluded: NDArray[np.int64]
    names: NDArray[np.int64]
    config: KnnConfig
    device: torch.device
    dtype: torch.dtype

    def rounding_error(self) -> float:
        """Return the largest error of a rough product, as a share of the product of both lengths.

        The bound for sums of d rounded products in any order (Higham, "Accuracy and Stability of Numerical
        Algorithms", 2002, section 3.1); matrix units of GPUs may truncate where IEEE arithmetic rounds.
        """
        unit = 2.0**-24 if self.device.type == "cpu" else 2.0**-23
        return float((self.queries.shape[1] + 2) * unit)


def search_exactly(
    queries: NDArray[Any],
    database: NDArray[Any],
    config: KnnConfig,
    excluded: NDArray[np.int64],
    label: str,
    first_row: int = 0,
) -> NeighborLists:
    """Search every row of the database; arguments as in `search.search_checked`."""
    shape = (len(queries), config.k)
    found = NeighborLists(np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32))
    if not len(queries) or not len(database):
        return found
    half = config.storage == "float16" or queries.dtype == database.dtype == np.float16
    devices = search_devices(config)
    dtype = torch.float16 if half and devices[0].type == "cuda" else torch.float32
    names = first_row + np.arange(len(queries))
    shares = np.array_split(np.arange(len(queries)), len(devices))
    with (
        library_threads(thread_count(config.threads)),
        tqdm(total=len(queries), desc=label, unit="row", delay=PROGRESS_DELAY) as progress,
    ):

        def search_share(device: torch.device, rows: NDArray[np.int64]) -> None:
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            problem = Problem(queries[part], database, excluded[part], names[part], config, device, dtype)
            _search_until_proven(problem, found[part], progress.update)

        filled = [(device, rows) for device, rows in zip(devices, shares, strict=True) if len(rows)]
        if len(filled) == 1:  # a new thread would have to start the libraries' threads again
            search_share(*filled[0])
            return found
        with ThreadPoolExecutor(len(filled)) as pool:
            list(pool.map(lambda share: search_share(*share), filled))
    return found


def search_devices(config: KnnConfig) -> list[torch.device]:
    """Return where a search runs: all GPUs, or the CPU.

    Raises:
        LandmarkRetrievalError: a GPU is asked for and there is none.
    """
    gpus = torch.cuda.device_count() if config.device != "cpu" and torch.cuda.is_available() else 0
    if config.device == "gpu" and not gpus:
        raise LandmarkRetrievalError("knn.device: there is no GPU here; use 'auto' or 'cpu'")
    return [torch.device("cuda", number) for number in range(gpus)] or [torch.device("cpu")]


def _search_until_proven(problem: Problem, found: NeighborLists, done: Callable[[int], Any]) -> None:
    """Fill the lists of all queries, with more candidates where fewer prove too few."""
    n, count = len(problem.database), problem.config.k + SLACK
    todo = np.arange(len(problem.queries))
    first_pass = True
    while len(todo):
        proven = np.zeros(len(todo), np.bool_)
        part = problem if first_pass else _some(problem, todo)
        # Many queries with many candidates each, as copies of one photo have, may not fit the memory at once.
        for piece in [np.arange(len(todo))] if first_pass else _pieces(part, min(count, n)):
            asked = part if len(piece) == len(todo) else _some(part, piece)
            for start, neighbors, weights, certain in _search_once(asked, min(count, n)):
                places = piece[start : start + len(certain)]
                found.neighbors[todo[places], : neighbors.shape[1]] = neighbors
                found.weights[todo[places], : weights.shape[1]] = weights
                proven[places] = certain
                if first_pass:
                    done(len(certain))
        logger.debug("%d of %d queries proven with %d candidates", proven.sum(), len(todo), min(count, n))
        todo, count, first_pass = todo[~proven], count * MORE, False


def _pieces(problem: Problem, count: int) -> list[NDArray[np.int64]]:
    """Divide the queries into as few equal parts as the memory allows with so many candidates."""
    parts = 1
    while True:
        pieces = np.array_split(np.arange(len(problem.queries)), parts)
        try:
            plan_layout(_some(problem, pieces[0]), count)
            return pieces
        except LandmarkRetrievalError:
            if len(pieces[0]) == 1:
                raise
            parts = min(2 * parts, len(problem.queries))


def _some(problem: Problem, rows: NDArray[np.int64]) -> Problem:
    values = {
        "queries": problem.queries[rows],
        "excluded": problem.excluded[rows],
        "names": problem.names[rows],
    }
    return Problem(**{**vars(problem), **values})


def _search_once(problem: Problem, count: int) -> Any:
    """Yield for each block of queries its first row, rows and scores `[b, k]`, and which are proven."""
    n, device = len(problem.database), problem.device
    layout = plan_layout(problem, count)
    blocks = range(0, len(problem.queries), layout.queries)
    portions = range(0, n, layout.database)
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    longest = 0.0
    portion = None
    # One for all blocks: the memory of a new one is faulted in page by page, a sixth of its time.
    products = torch.empty(layout.queries * layout.columns, dtype=torch.float32, device=device)
    for start in portions:
        portion = None  # so that two are never held
        portion = _Portion(problem, start, min(start + layout.database, n))
        longest = max(longest, portion.longest)
        for first in blocks if len(portions) > 1 else ():
            queries, _, excluded = _read_queries(problem, first, layout.queries)
            scores, rows = _propose(queries, portion, excluded, count, products, layout.columns)
            if first in kept:
                scores, rows = _largest(
                    [kept[first][0].to(device), scores], [kept[first][1].to(device), rows], count
                )
            kept[first] = scores.cpu(), rows.cpu()
    if len(portions) > 1:
        portion = None
    for first in blocks:
        queries, lengths, excluded = _read_queries(problem, first, layout.queries)
        if portion is not None:
            scores, rows = _propose(queries, portion, excluded, count, products, layout.columns)
        else:
            scores, rows = (part.to(device) for part in kept.pop(first))
        yield first, *_finish(problem, queries, lengths, scores, rows, portion, longest, layout)


class _Portion:
    """Consecutive database rows on the device."""

    def __init__(self, problem: Problem, start: int, stop: int) -> None:
        self.start = start
        self.matrix = _on_device(problem, problem.database, start, stop)
        norms = row_norms(self.matrix, "database", start)
        self.longest = float(norms.max())
        self.empty = norms == 0 if bool((norms == 0).any()) else None


def _on_device(problem: Problem, matrix: NDArray[Any], start: int, stop: int) -> Tensor:
    dtype = np.float16 if problem.dtype == torch.float16 else np.float32
    return as_tensor(read_rows(matrix, start, stop, dtype, problem.config.storage)).to(problem.device)


def _read_queries(problem: Problem, first: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, their norms float64 `[b, 1]`, and the database row that each must not find."""
    last = min(first + count, len(problem.queries))
    queries = _on_device(problem, problem.queries, first, last)
    norms = row_norms(queries, "queries", int(problem.names[first]))
    excluded = torch.from_numpy(problem.excluded[first:last]).to(problem.device)
    return queries, norms.double()[:, None], excluded


def _propose(
    queries: Tensor, portion: _Portion, excluded: Tensor, count: int, buffer: Tensor, columns: int
) -> tuple[Tensor, Tensor]:
    """Return the largest rough products of each query in falling order, and their rows, -1 for none.

    `buffer` is overwritten by the products of the queries with `columns` database rows at a time.
    """
    scores, rows = [], []
    for start in range(0, len(portion.matrix), columns):
        block = portion.matrix[start : start + columns]
        products = buffer[: len(queries) * len(block)].view(len(queries), len(block))
        if queries.dtype == torch.float16:
            torch.mm(queries, block.T, out_dtype=torch.float32, out=products)
        else:
            torch.mm(queries, block.T, out=products)
        if portion.empty is not None:
            products.masked_fill_(portion.empty[None, start : start + columns], -torch.inf)
        own = excluded - (portion.start + start)
        inside = ((own >= 0) & (own < len(block))).nonzero()[:, 0]
        products[inside, own[inside]] = -torch.inf
        largest, places = products.topk(min(count, len(block)))
        scores.append(largest)
        rows.append(places + (portion.start + start))
    return _largest(scores, rows, count)


def _largest(scores: list[Tensor], rows: list[Tensor], count: int) -> tuple[Tensor, Tensor]:
    joined, numbers = torch.cat(scores, dim=1), torch.cat(rows, dim=1)
    if len(scores) > 1:
        joined, places = joined.topk(min(count, joined.shape[1]))
        numbers = numbers.gather(1, places)
    return joined, torch.where(torch.isneginf(joined), -1, numbers)


def _finish(
    problem: Problem,
    queries: Tensor,
    lengths: Tensor,
    rough: Tensor,
    rows: Tensor,
    portion: _Portion | None,
    longest: float,
    layout: Layout,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
    """Score candidates exactly; return the best k, and for which queries no other row can be among them."""
    n, k = len(problem.database), min(problem.config.k, rough.shape[1])
    scale = torch.where(lengths > 0, lengths + SMALL_NORM, 0) * (longest + SMALL_NORM if longest else 0)
    error = problem.rounding_error() * scale + queries.shape[1] * torch.finfo(torch.float32).tiny
    # Who is below the k-th by more than both errors and a rounding is not among the k.
    rows = torch.where(rough.double() >= rough[:, k - 1 : k].double() - 4 * error, rows, -1)
    rows = torch.where(rows < 0, n, rows).sort(dim=1).values
    there = rows < n
    sums = _sums(problem, queries, torch.where(there, rows, -1), portion, layout.scoring)
    scores = torch.where(there, sums.float(), -torch.inf)
    margin = (queries.shape[1] + 1) * 2.0**-52 * scale
    unsure = there & ((sums - margin).float() != (sums + margin).float())
    if unsure.any():
        places = unsure.nonzero()
        of_query = queries[places[:, 0]].cpu().numpy()
        of_row = problem.database[rows[unsure].cpu().numpy()].astype(problem.config.storage)
        scores[unsure] = torch.from_numpy(rounded_products(of_query, of_row)).to(scores.device)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    best, weights = rows.gather(1, order)[:, :k], scores[:, :k]
    ceiling = (rough[:, -1:].double() + error).float()
    proven = (weights[:, -1:] > ceiling) | torch.isneginf(rough[:, -1:]) | (rough.shape[1] >= n)
    nothing = torch.isneginf(weights) | (scale == 0)
    return (
        torch.where(nothing, -1, best).int().cpu().numpy(),
        torch.where(nothing, -torch.inf, weights).cpu().numpy(),
        (proven | (scale == 0))[:, 0].cpu().numpy(),
    )


def _sums(problem: Problem, queries: Tensor, rows: Tensor, portion: _Portion | None, memory: int) -> Tensor:
    """Return the inner products of queries and database rows int64 `[b, c]` (-1 for none) in float64."""
    sums = torch.zeros(rows.shape, dtype=torch.float64, device=rows.device)
    values = max(1, memory // (12 * queries.shape[1]))
    columns = min(rows.shape[1], values)
    step = max(1, values // columns)
    for start in range(0, len(rows), step):
        for left in range(0, rows.shape[1], columns):
            part = slice(start, start + step), slice(left, left + columns)
            if portion is not None and problem.device.type == "cuda":
                near = portion.matrix[rows[part].clamp(min=0)].double()
                sums[part] = torch.bmm(near, queries[part[0], :, None].double())[..., 0]
            else:
                sums[part] = _sums_on_cpu(problem, queries[part[0]], rows[part], portion).to(sums.device)
    return sums


def _sums_on_cpu(problem: Problem, queries: Tensor, rows: Tensor, portion: _Portion | None) -> Tensor:
    from landmark_retrieval.knn.kernel import score_places  # compiled; searches on a GPU do without
    from landmark_retrieval.runtime.compiled import frozen, run_chunks

    places = rows.cpu().numpy()
    if portion is not None:
        block = portion.matrix.numpy()
    else:
        numbers, inverse = np.unique(places, return_inverse=True)
        inverse = inverse.reshape(places.shape)
        missing = int(numbers[0] < 0)
        gathered = problem.database[numbers[missing:]].astype(problem.config.storage, copy=False)
        release(problem.database)
        block, places = gathered.astype(np.float32, copy=False), inverse - missing
    sums = np.zeros(places.shape)
    arrays = frozen(queries.float().cpu().numpy()), frozen(block), frozen(places, np.int64)
    run_chunks(
        len(places),
        16,
        thread_count(problem.config.threads),
        lambda: None,
        lambda _, start, stop: score_places(*arrays, sums, start, stop),
    )
    return torch.from_numpy(sums)


def plan_layout(problem: Problem, count: int) -> Layout:
    """Return the largest blocks that fit the memory.

    Raises:
        LandmarkRetrievalError: not even the smallest fit; says what would.
    """
    (q, d), n, gpu = problem.queries.shape, len(problem.database), problem.device.type == "cuda"
    allowed = int(problem.config.memory_gib * 2**30)
    if gpu:
        allowed = min(allowed, int(0.9 * torch.cuda.mem_get_info(problem.device)[0]))
    size = 2 if problem.dtype == torch.float16 else 4
    database = problem.database
    in_place = not gpu and database.dtype == np.float32 and database.flags.c_contiguous
    in_place &= problem.config.storage == "float32" and not isinstance(database, np.memmap)
    needed = 0
    for queries, columns in TILES[problem.device.type]:
        queries, columns = min(queries, q), min(columns, n)
        scoring = max(min((allowed - OVERHEAD) // 8, 1 << 30 if gpu else 64 << 20), 12 * d)
        work = queries * (d * size + columns * 4 + count * 80) + scoring + OVERHEAD
        held = 0 if gpu else q * problem.config.k * 8
        rows = n if in_place else (allowed - work - held) // (d * size)
        if rows < n:
            rows = (allowed - work - held - (0 if gpu else q * count * 12)) // (d * size)
        needed = work + held + q * count * 12 + min(n, 2 * columns) * d * size
        if rows >= min(n, 2 * columns) and allowed >= work + held:
            return Layout(queries, columns, min(n, int(rows)), scoring)
    raise LandmarkRetrievalError(
        f"knn.memory_gib = {problem.config.memory_gib:g} is not enough for {q} queries with {count} "
        f"candidates in {n} x {d} descriptors; it takes at least {needed / 2**30:.4f}"
    )
