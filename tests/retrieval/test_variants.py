"""The ablation as data: a variant is one entry, and everything else follows from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kedro_project import Project
from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.experiments.rivals import DiffusionConfig, diffusion_graph, rank_by_diffusion
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.pipeline_registry import register_pipelines
from landmark_retrieval.retrieval import PhotoSearch, read_index, variants
from landmark_retrieval.retrieval.stages import Searched, traverse
from landmark_retrieval.retrieval.variants import (
    Variant,
    choose_variants,
    compared_with,
    graphs_of,
    last_stage,
    stage_rows,
    variant_of,
)
from variant_names import VARIANTS


def reverse(found: Searched) -> NeighborLists:
    """Rank the neighbours the wrong way round: a rival that is sure to give another ranking."""
    lists = found.neighbors
    order = np.argsort(lists.neighbors < 0, axis=1, kind="stable")  # padding stays last
    there = (lists.neighbors >= 0).sum(axis=1, keepdims=True)
    columns = np.arange(lists.neighbors.shape[1])
    order = np.where(columns < there, there - 1 - columns, order)
    return NeighborLists(np.take_along_axis(lists.neighbors, order, axis=1), lists.weights)


BLEND_EGT = Variant("blend_egt", "traversal without expansion", graph="blend", rank=traverse, traverses=True)
REVERSED = Variant("reversed", "the neighbours the wrong way round", graph="blend_qe_sv", rank=reverse)


def test_names_are_unique_and_graphs_are_variants_that_search() -> None:
    assert len(set(VARIANTS)) == len(VARIANTS)
    for variant in variants.VARIANTS:
        assert variant_of(variant.graph).graph == variant.graph
        assert not variant.uses_labels or variant.traverses


def test_variants_are_chosen_by_name_and_keep_their_order() -> None:
    assert choose_variants(None) == variants.VARIANTS
    chosen = choose_variants(["blend_qe_sv_egt", "blend"])
    assert [variant.name for variant in chosen] == ["blend", "blend_qe_sv_egt"]
    assert [graph.name for graph in graphs_of(chosen)] == ["blend", "blend_qe_sv"]
    with pytest.raises(LandmarkRetrievalError, match="did you mean 'blend_qe_sv'"):
        choose_variants(["blend_qe_vs"])
    with pytest.raises(LandmarkRetrievalError, match="name at least one"):
        choose_variants([])


def test_who_is_compared_with_whom() -> None:
    one, two, three, four = VARIANTS
    paper = variants.BLEND_QE_SV_PAPER_EGT.name
    found = compared_with([*VARIANTS, paper])
    assert found == {two: one, three: two, four: three, paper: two}
    assert compared_with([one, two, paper]) == {two: one, paper: two}
    assert compared_with(["a", "b"]) == {"b": "a"}
    assert compared_with([one, two, three, "diffusion"])["diffusion"] == one
    assert stage_rows([*VARIANTS, paper]) == [0, 1, 2, 3]
    assert stage_rows([paper]) == [0]
    assert last_stage(variants.VARIANTS).name == four
    assert last_stage([variants.BLEND_QE_SV_PAPER_EGT]).name == paper


def test_what_is_not_chosen_is_not_computed() -> None:
    whole = register_pipelines(choose_variants(["blend", "blend_qe_sv_egt"]))["__default__"]
    made = whole.all_outputs()
    assert {"blend.metrics", "blend_qe_sv_egt.metrics"} <= made
    assert not {"blend_qe_sv.metrics", "blend_qe_sv_semisup_egt.ranking", "blend_qe_sv.label_bridge"} & made
    assert "blend_qe_sv.knn_graph" in made  # what the traversal ranks


def test_a_variant_is_one_entry(project_with_results: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_with_results
    monkeypatch.setattr(variants, "VARIANTS", (*variants.VARIANTS, BLEND_EGT, REVERSED))
    project.configure(variants=None)
    project.succeed("--pipelines", "egt,evaluation")
    names = [variant.name for variant in variants.VARIANTS]
    assert project.table()["variant"].tolist() == names
    runs = {run.data.tags.get("variant"): run for run in project.mlflow_runs()}
    assert set(names) <= set(runs)
    assert runs[BLEND_EGT.name].data.tags["adds"] == BLEND_EGT.adds
    report = (project.root / "data/08_reporting/report.html").read_text(encoding="utf-8")
    assert all(variant.name in report and variant.adds in report for variant in (BLEND_EGT, REVERSED))
    ranking = project.load(f"{REVERSED.name}.ranking").rows
    before = project.load(f"{REVERSED.graph}.ranking").rows
    for ours, theirs in zip(ranking, before, strict=True):
        assert ours[ours >= 0].tolist() == theirs[theirs >= 0][::-1].tolist()
    graph, config = project.load("blend.knn_graph"), DiffusionConfig(neighbors=50)
    matrix = diffusion_graph(graph.index.neighbors, graph.index.weights, config)
    expected = rank_by_diffusion(matrix, graph.queries.neighbors, graph.queries.weights, config, 100)
    np.testing.assert_array_equal(project.load("diffusion.ranking").rows, expected)
    assert_search_finds_the_same(project, names[4:])


def assert_search_finds_the_same(project: Project, names: list[str]) -> None:
    """Check that a query of the run, described again, gets the run's ranking in these variants."""
    catalog = project.catalog()
    with project.entered():
        search = PhotoSearch(read_index(catalog.load, DESCRIPTORS))
        for name in names:
            ranking = catalog.load(f"{name}.ranking").rows
            for query, path in enumerate(search.index.images["path"].iloc[: len(ranking)]):
                found = search.find(Path(path), 100, name)
                rows = [result.row - search.index.rows.index.start for result in found.results]
                assert rows == ranking[query][ranking[query] >= 0].tolist()


def test_the_parameter_chooses_the_rows_of_the_table(project_with_results: Project) -> None:
    project = project_with_results
    project.configure(variants=["blend", "blend_qe_sv_egt"])
    project.succeed("--pipelines", "egt,evaluation")
    assert project.table()["variant"].tolist() == ["blend", "blend_qe_sv_egt"]
    catalog = project.catalog()
    with project.entered():
        search = PhotoSearch(read_index(catalog.load, DESCRIPTORS))
        photo = search.index.images["path"].iloc[0]
        with pytest.raises(LandmarkRetrievalError, match="not made by the run, only blend, blend_qe_sv_egt"):
            search.find(photo, variant="blend_qe_sv")
    project.configure(variants=["blend_gqe"])
    assert "did you mean" in project.refuse()
