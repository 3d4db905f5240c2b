"""Parameters of the nearest-neighbour search."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from landmark_retrieval.configuration import Configuration, ShardSize, Threads


class ApproximateConfig(Configuration):
    """How neighbours are searched approximately, by FAISS; the whole database is kept in memory as float16.

    Attributes:
        method: `ivf` (inverted lists) or `hnsw` (a graph; built by one thread to be repeatable, so slow to
            build, fast to search).
        lists: number of inverted lists (`ivf`); 0 takes four times the square root of the database's rows.
        probes: inverted lists visited for a query; more is slower and finds more.
        links: links of a vertex (`hnsw`).
        search_candidates: candidates kept while searching (`hnsw`); more is slower and finds more.
    """

    method: Literal["ivf", "hnsw"] = "ivf"
    lists: int = Field(default=0, ge=0, le=10_000_000)
    probes: int = Field(default=32, ge=1, le=10_000_000)
    links: int = Field(default=32, ge=2, le=1024)
    search_candidates: int = Field(default=256, ge=1, le=1_000_000)


class KnnConfig(Configuration):
    """How nearest neighbours by inner product are searched.

    With exact search the result depends on `k` and `storage` alone: scores are correctly rounded inner
    products, so neither the device nor the memory changes a byte of it.

    Attributes:
        k: neighbours of each image.
        device: `cpu`, `gpu`, or `auto` for all GPUs when there are any.
        memory_gib: memory in GiB that the search may take on top of what the process had before (in GPU
            memory, as well): blocks of descriptors, their products and the result.
        storage: number type to which descriptors are rounded before they are compared; float16 halves the
            memory and makes GPUs several times faster at a relative error of about 5e-4.
        shard_rows: queries in each part of a resumable search; a kill loses the parts in progress.
        threads: most CPU threads to use, 0 for all cores. The result does not depend on it.
        approximate: options of the approximate search; None searches exactly.
    """

    k: int = Field(default=100, ge=1, le=1_000_000)
    device: Literal["auto", "cpu", "gpu"] = "auto"
    memory_gib: float = Field(default=4.0, gt=0, le=1_000_000)
    storage: Literal["float32", "float16"] = "float32"
    shard_rows: ShardSize = 16_384
    threads: Threads = 0
    approximate: ApproximateConfig | None = None

    def content(self) -> dict[str, Any]:
        """Return the options that the result depends on."""
        return self.model_dump(mode="json", include={"k", "storage", "approximate"})

    def content_fingerprint(self) -> str:
        """Return a digest of the options that the result depends on."""
        return KnnConfig(**self.content()).fingerprint()
