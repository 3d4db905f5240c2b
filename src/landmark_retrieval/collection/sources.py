"""Where the public data sets are published: the one table of addresses."""

from __future__ import annotations

from dataclasses import dataclass, replace

from landmark_retrieval.configuration import unknown_option
from landmark_retrieval.errors import LandmarkRetrievalError

GLDV2 = "https://s3.amazonaws.com/google-landmark"
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/oxbuildings"
PARIS = "https://www.robots.ox.ac.uk/~vgg/data/parisbuildings"
REVISITED = "http://cmp.felk.cvut.cz/revisitop/data/datasets"
REVISITED_1M = "http://ptak.felk.cvut.cz/revisitop/revisitop1m"

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Source:
    """One file to download.

    Attributes:
        part: group of files that are asked for together.
        url: its address.
        target: where it belongs below the data root: the file itself, or the folder into which an archive
            is unpacked.
        size: about how many bytes; 0 where unknown.
        md5_url: address of a text that starts with its MD5 sum; None where none is published.
        unpack: `none` (a plain file), `tree` (an archive, as it is) or `flat` (an archive, without its
            folders).
        required: whether the data set can be used without it.
    """

    part: str
    url: str
    target: str
    size: int = 0
    md5_url: str | None = None
    unpack: str = "none"
    required: bool = True

    @property
    def name(self) -> str:
        """A name for people, and for the file while it is downloaded."""
        return f"{self.part}/{self.url.rsplit('/', 1)[-1]}"


def sources(name: str, mirror: str | None = None) -> list[Source]:
    """Return the files of a data set, in the order in which they are useful.

    Args:
        name: `gldv2`, `roxford5k`, `rparis6k` or `revisitop1m`.
        mirror: address that stands in for the publisher's (the part before `/metadata/`, `/train/`, ... of
            gldv2; for the others the files lie directly in it).

    Raises:
        LandmarkRetrievalError: there is no such data set.
    """
    if name not in DATA_SETS:
        raise LandmarkRetrievalError(unknown_option(name, list(DATA_SETS), kind="data set"))
    if name == "gldv2":
        return _gldv2(mirror.rstrip("/") if mirror else GLDV2)
    found = {"roxford5k": _roxford5k, "rparis6k": _rparis6k, "revisitop1m": _revisitop1m}[name]()
    if mirror:
        found = [
            replace(source, url=f"{mirror.rstrip('/')}/{source.url.rsplit('/', 1)[-1]}") for source in found
        ]
    return found


DATA_SETS = ("gldv2", "roxford5k", "rparis6k", "revisitop1m")
"""Data sets with published addresses; the last one are the distractors of the two before."""


def _gldv2(base: str) -> list[Source]:
    tables = [
        ("metadata/test.csv", 2 * MIB, True),
        ("metadata/index.csv", 13 * MIB, True),
        ("metadata/train.csv", 500 * MIB, True),
        ("metadata/train_clean.csv", 27 * MIB, False),
        ("metadata/index_image_to_landmark.csv", 17 * MIB, False),
        ("ground_truth/retrieval_solution_v2.1.csv", 4 * MIB, True),
    ]
    found = [Source("metadata", f"{base}/{path}", path, size, required=need) for path, size, need in tables]
    for part, count, size in (("test", 20, 500 * MIB), ("index", 100, 850 * MIB), ("train", 500, GIB)):
        for number in range(count):
            stem = f"images_{number:03d}"
            md5 = f"{base}/md5sum/{part}/md5.{stem}.txt"
            found.append(Source(part, f"{base}/{part}/{stem}.tar", part, size, md5, "tree"))
    return found


def _roxford5k() -> list[Source]:
    name = "roxford5k"
    return [
        Source("ground_truth", f"{REVISITED}/{name}/gnd_{name}.pkl", f"{name}/gnd_{name}.pkl"),
        Source("images", f"{OXFORD}/oxbuild_images-v1.tgz", f"{name}/jpg", 2 * GIB, unpack="flat"),
    ]


def _rparis6k() -> list[Source]:
    name = "rparis6k"
    return [
        Source("ground_truth", f"{REVISITED}/{name}/gnd_{name}.pkl", f"{name}/gnd_{name}.pkl"),
        *(
            Source("images", f"{PARIS}/paris_{number}-v1.tgz", f"{name}/jpg", GIB, unpack="flat")
            for number in (1, 2)
        ),
    ]


def _revisitop1m() -> list[Source]:
    name = "revisitop1m"
    return [
        Source("list", f"{REVISITED_1M}/{name}.txt", f"{name}/{name}.txt"),
        *(
            Source("images", f"{REVISITED_1M}/jpg/{name}.{number}.tar.gz", f"{name}/jpg", 0, unpack="tree")
            for number in range(1, 101)
        ),
    ]
