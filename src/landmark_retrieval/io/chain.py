"""Whether artifacts fit what stands beside them: each record names what its artifact was made of.

An artifact fits when its bytes are those that were stored, what it was made of is what stands there now,
and the same holds for all of that. Content decides, never time: what is made again with equal bytes leaves
everything that was made of it as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import fsspec
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline.node import Node
from pydantic import BaseModel

from landmark_retrieval.io.errors import ArtifactError
from landmark_retrieval.io.optional_json import OptionalJSONDataset
from landmark_retrieval.io.photos import PhotosDataset, same
from landmark_retrieval.io.store import StoreDataset
from landmark_retrieval.runtime.records import (
    ABSENT,
    Checksums,
    Record,
    content_of,
    damage,
    read_record,
    record_file,
    write_record,
)

logger = logging.getLogger(__name__)

TABLE = "image_table"
"""Last part of the names of the artifacts whose rows others are over."""

PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds after which an artifact that seems unfit is looked at again, where it has just changed."""

RECENT = 3.0
"""Seconds for which a change may be half of what another run is writing."""

PARAMETERS = "params:"
"""How Kedro's names of parameters begin."""


@dataclass(frozen=True)
class Fault:
    """Why an artifact cannot be used.

    Attributes:
        artifact: its name in the catalog.
        kind: it is not there; its bytes are not those that were stored; nothing says what it was made of;
            or it was made of something else than stands there now.
        why: in words, without its name.
        indirect: whether it is stale only because something that it comes from is.
    """

    artifact: str
    kind: Literal["missing", "damaged", "unrecorded", "stale"]
    why: str
    indirect: bool = False


@dataclass(frozen=True)
class Making:
    """What an artifact was made with, from the records of all that it comes from.

    Attributes:
        parameters: by group, as the nodes read them that made it; the nearest node decides.
        seconds: of each node, by name.
        steps: pipeline of each artifact that it comes from, by name, itself included.
    """

    parameters: Mapping[str, Any]
    seconds: Mapping[str, float]
    steps: Mapping[str, str]


@dataclass
class _Work:
    """A node at work: the record of its outputs but for the outputs themselves."""

    record: Record
    outputs: Collection[str] = field(default_factory=tuple)


class Chain:
    """The records of a catalog's artifacts.

    Args:
        catalog: whose entries they are.

    Attributes:
        pending: artifacts that the present run makes and has not made yet: what was made of them is looked at
            again when they are there.
        asked: the pipelines of the present run.
    """

    def __init__(self, catalog: DataCatalog) -> None:
        self._catalog = catalog
        self._sums = Checksums()
        self._records: dict[Path, tuple[tuple[int, int, int], Record | None]] = {}
        self._in_memory: dict[str, Record] = {}
        self._working: dict[str, _Work] = {}
        self._used: dict[str, str] = {}
        self._made: dict[str, str] = {}
        self._photos: dict[str, str | None] = {}
        self.pending: set[str] = set()
        self.asked: tuple[str, ...] = ()

    def place(self, name: str) -> Path | None:
        """Return where an artifact lies; None for what has no record."""
        return place_of(self._catalog.get(name))

    def record(self, name: str) -> Record | None:
        """Return the record of an artifact."""
        place = self.place(name)
        return None if place is None else self._read(place)

    def _read(self, place: Path) -> Record | None:
        """Return the record of what lies somewhere, read once as long as its file stays."""
        try:
            status = record_file(place).stat()
        except OSError:
            return None
        state = (status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._records.get(place)
        if known is None or known[0] != state:
            known = self._records[place] = (state, read_record(place))
        return known[1]

    def used(self) -> list[str]:
        """Return the artifacts that were read so far."""
        return list(self._used)

    def digest(self, name: str) -> str | None:
        """Return what stands there now: the digest that its record says; None where nobody can say."""
        dataset = self._catalog.get(name)
        if isinstance(dataset, PhotosDataset):
            if name not in self._photos:
                self._photos[name] = dataset.state()
            return self._photos[name]
        place = place_of(dataset)
        if place is None:
            return None
        if not place.exists() and isinstance(dataset, OptionalJSONDataset):
            return ABSENT
        record = self._read(place)
        return self._content(name) if record is None else record.digest

    def faults(self, names: Iterable[str]) -> list[Fault]:
        """Return what is wrong with artifacts that are to be read, and with what they come from.

        An artifact that is itself fine has a fault `stale` where something that it comes from is not; the
        cause comes before it.
        """
        found: dict[str, Fault | None] = {}
        wanted = list(names)
        for name in wanted:
            self._look_at(name, set(wanted), found)
        return [fault for fault in found.values() if fault is not None]

    def set_aside(self, names: Iterable[str]) -> None:
        """Move away what an earlier run has remembered for this one, where it is damaged: it is made anew.

        Args:
            names: artifacts that the run reads; of them only those that it also writes are looked at.
        """
        written = {self.place(name) for name in self.pending}
        for name in names:
            place = self.place(name)
            if place is None or place not in written or not self.damage(name):
                continue
            kept = place.with_name(f"{place.name}.damaged")
            place.replace(kept)
            logger.warning("%s: not as stored; it is kept as %s and begun anew", place, kept.name)

    def check(self, names: Iterable[str]) -> None:
        """Refuse artifacts that cannot be used.

        Raises:
            ArtifactError: names all that is wrong, and the command that mends it.
        """
        from landmark_retrieval.io.remedies import in_words

        names = list(names)
        for pause in (*PAUSES, 0.0):
            faults = self.faults(names)
            if not faults:
                return
            if not pause or not self._is_being_written(faults):
                raise ArtifactError(in_words(faults, self))
            time.sleep(pause)

    def _is_being_written(self, faults: Iterable[Fault]) -> bool:
        """Tell whether another run may just be writing an artifact and its record, one after the other."""
        places = [place for fault in faults if (place := self.place(fault.artifact)) is not None]
        changed = [
            file.stat().st_mtime for place in places for file in (place.parent, place) if file.exists()
        ]
        return time.time() - max(changed, default=0.0) < RECENT

    def _look_at(self, name: str, wanted: Collection[str], found: dict[str, Fault | None]) -> bool:
        """Note the fault of an artifact, after those of what it comes from; tell whether it is stale."""
        if name in found:
            return _is_stale(found[name])
        if name.startswith(PARAMETERS) or name in self.pending:
            return False
        place = self.place(name)
        if place is None:
            return False
        found[name] = None  # a chain that comes back to itself ends here
        fault = self._own_fault(name, place, name in wanted)
        record = None if self._is_choice(name) else self._read(place)
        for source in () if record is None else record.inputs:
            if self._look_at(source, wanted, found) and fault is None:
                fault = Fault(name, "stale", f"comes from {source}, which is to be made again", indirect=True)
        del found[name]  # causes first
        found[name] = fault
        return _is_stale(fault)

    def _is_choice(self, name: str) -> bool:
        """Tell whether an artifact is kept from run to run, whatever it once came from."""
        return isinstance(self._catalog.get(name), OptionalJSONDataset)

    def _own_fault(self, name: str, place: Path, read: bool) -> Fault | None:
        record = self._read(place)
        if read and not place.exists() and not self._is_choice(name):
            return Fault(name, "missing", f"{place} is not there")
        if read and record is None and place.exists() and not self._is_choice(name):
            return Fault(name, "unrecorded", f"nothing says what {place} was made of")
        if record is None or (self._is_choice(name) and not place.exists()):
            return None
        sources = {} if self._is_choice(name) else {**record.tables, **record.inputs}
        for source, before in sources.items():
            now = None if source in self.pending else self.digest(source)
            cut = source not in record.inputs
            if now is None or same(now, before) or (cut and self._is_whole(record)):
                continue
            return Fault(name, "stale", f"was made of {self._named(source)}")
        reason = damage(place, record, self._sums) if read else ""
        return Fault(name, "damaged", reason) if reason else None

    def _is_whole(self, record: Record) -> bool:
        """Tell whether all that an artifact was made of is still known: rows then need no look."""
        return all(self.digest(source) is not None for source in record.inputs)

    def _named(self, name: str) -> str:
        dataset = self._catalog.get(name)
        if isinstance(dataset, PhotosDataset):
            return f"other {name} or labels than there are now in {dataset.root}"
        return f"another {name} than is there now ({place_of(dataset)})"

    def damage(self, name: str) -> str:
        """Return in words what is wrong with the bytes of an artifact that is there, "" for nothing."""
        place = self.place(name)
        record = None if place is None or not place.exists() else self._read(place)
        return "" if place is None or record is None else damage(place, record, self._sums)

    def _content(self, name: str) -> str | None:
        place = self.place(name)
        if place is None:
            return None
        try:
            return content_of(self._sums.files(place))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note_use(self, name: str, digest: str | None) -> bool:
        """Remember with which content an artifact was read; tell whether it still is what stands there.

        Args:
            name: of the artifact.
            digest: of what stood there before it was read.

        Raises:
            ArtifactError: this run has made it, and another run has replaced it by something else.
        """
        if digest is not None:
            if self._made.get(name, digest) != digest:
                raise ArtifactError(
                    f"{name}: {self.place(name)} was replaced by another run with other photos or parameters "
                    "while this one was running; run this one again when the other has ended"
                )
            self._used[name] = digest
        return self.digest(name) == digest

    def begin(self, node: Node, inputs: Mapping[str, Any], pipelines: Collection[str]) -> None:
        """Note what a node works with, once its inputs are read.

        Args:
            node: the node.
            inputs: their values by name.
            pipelines: names of all pipelines, one of which is among the tags of the node.
        """
        outputs = {self.place(name) for name in node.outputs} - {None}
        pipeline = next((tag for tag in sorted(node.tags) if tag in pipelines), "")
        record = Record("", pipeline, node.name, "", {})
        for name in node.inputs:
            if name.startswith(PARAMETERS):
                group = name.removeprefix(PARAMETERS)
                record = replace(record, parameters={**record.parameters, group: plain(inputs.get(name))})
            elif name in self._in_memory:
                memory = self._in_memory[name]
                record = replace(
                    record,
                    inputs={**memory.inputs, **record.inputs},
                    tables={**memory.tables, **record.tables},
                    parameters={**memory.parameters, **record.parameters},
                )
            elif name in self._used and self.place(name) not in outputs:
                record = replace(record, inputs={**record.inputs, name: self._used[name]})
                record = replace(record, tables={**record.tables, **self._tables(name)})
        self._working[node.name] = _Work(record, tuple(node.outputs))

    def _tables(self, name: str) -> dict[str, str]:
        if name.rsplit(".", 1)[-1] == TABLE:
            return {name: self._used[name]}
        record = self.record(name)
        return {} if record is None else record.tables

    def is_made_by_a_node(self, name: str) -> bool:
        """Tell whether a node at work makes an artifact."""
        return any(name in work.outputs for work in self._working.values())

    def made(self, name: str, node: str | None = None, seconds: float = 0.0) -> None:
        """Store the record of an artifact that was just saved.

        Args:
            name: of the artifact.
            node: that made it; None for what was saved by hand.
            seconds: that the node took.
        """
        work = self._working.get(node or "") or _Work(Record("", "", "", "", {}))
        record = replace(work.record, artifact=name, seconds=round(seconds, 3))
        self.pending.discard(name)
        place = self.place(name)
        if place is None:
            self._in_memory[name] = record
            return
        files = self._files(place)
        record = replace(record, files=files, digest=content_of(files))
        write_record(place, record)
        self._made[name] = record.digest

    def _files(self, place: Path) -> dict[str, list[Any]]:
        """Return the digests of the files of an artifact that another run may just be replacing."""
        for pause in PAUSES:
            try:
                return self._sums.files(place)
            except FileNotFoundError:
                time.sleep(pause)
        return self._sums.files(place)

    def making(self, name: str) -> Making:
        """Return what an artifact was made with."""
        parameters: dict[str, Any] = {}
        seconds: dict[str, float] = {}
        steps: dict[str, str] = {}
        waiting = [name]
        while waiting:
            artifact = waiting.pop(0)
            record = self.record(artifact) or self._in_memory.get(artifact)
            if artifact in steps or record is None:
                continue
            steps[artifact] = record.pipeline
            seconds[record.node] = max(record.seconds, seconds.get(record.node, 0.0))
            parameters = {**record.parameters, **parameters}
            waiting += record.inputs
        return Making(parameters, seconds, steps)


def _is_stale(fault: Fault | None) -> bool:
    """Tell whether what was made of an artifact is to be made again, too: damage leaves that as it is."""
    return fault is not None and fault.kind == "stale"


def plain(value: Any) -> Any:
    """Return parameters as plain values."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def place_of(dataset: AbstractDataset[Any, Any] | None) -> Path | None:
    """Return the local file or folder of an artifact; None for what is none, or lies elsewhere."""
    if dataset is None or isinstance(dataset, (PhotosDataset, StoreDataset)):
        return None
    described = dataset._describe().get("filepath")
    if described is None:
        return None
    protocol, path = fsspec.core.split_protocol(str(described))
    return Path(path) if protocol in (None, "file", "local") else None
