"""The catalog of this project: what is read through it fits what stands beside it, or is refused."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.io import DataCatalog

if TYPE_CHECKING:  # settings load this module for commands that run nothing
    from landmark_retrieval.io.chain import Chain

ATTEMPTS = 5
"""Times an artifact is read while another run replaces it."""


class ChainCatalog(DataCatalog):
    """A Kedro catalog that keeps a record beside every artifact and looks at it before each load.

    Attributes:
        only_fit_exist: whether `exists` says of artifacts that cannot be used that they are not there, so
            that a run of what is missing makes them again.
    """

    only_fit_exist = False

    @cached_property
    def chain(self) -> Chain:
        """The records."""
        from landmark_retrieval.io.chain import Chain

        return Chain(self)

    def load(self, ds_name: str, version: str | None = None) -> Any:
        """Load an artifact.

        Raises:
            ArtifactError: it is missing or damaged, or it, or something that it comes from, was made of other
                things than stand there now; names both, and the command that makes it again.
        """
        from landmark_retrieval.io.making import MakingDataset

        dataset = self.get(ds_name)
        if isinstance(dataset, MakingDataset):
            return self.chain.making(dataset.artifact)
        for _ in range(ATTEMPTS):
            self.chain.check([ds_name])
            digest = self.chain.digest(ds_name)
            loaded = super().load(ds_name, version)
            if self.chain.note_use(ds_name, digest):
                break  # and was not replaced while it was read
        return loaded

    def save(self, ds_name: str, data: Any) -> None:
        """Save an artifact; one that no node at work makes is recorded as made of nothing."""
        super().save(ds_name, data)
        if not self.chain.is_made_by_a_node(ds_name):
            self.chain.made(ds_name)

    def exists(self, ds_name: str) -> bool:
        """Tell whether an artifact is there."""
        return super().exists(ds_name) and not (self.only_fit_exist and self.chain.faults([ds_name]))


class ChainContext(KedroContext):
    """A Kedro context whose catalog is a `ChainCatalog` for whoever asks for it, as for a run."""

    def _get_catalog(
        self,
        catalog_class: type = ChainCatalog,
        save_version: str | None = None,
        load_versions: dict[str, str] | None = None,
    ) -> DataCatalog:
        catalog = super()._get_catalog(catalog_class, save_version, load_versions)
        assert isinstance(catalog, DataCatalog)
        return catalog
