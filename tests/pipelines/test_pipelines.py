from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from networkx import DiGraph as Graph
from networkx import descendants, is_directed_acyclic_graph

from kedro_project import Project
from landmark_retrieval.config_loader import PLAIN_GROUPS
from landmark_retrieval.pipeline_registry import STAGES, register_pipelines
from landmark_retrieval.retrieval import variants
from variant_names import VARIANTS

PIPELINES = register_pipelines()
LAYERS = {
    "raw": "01_raw",
    "intermediate": "02_intermediate",
    "primary": "03_primary",
    "feature": "04_feature",
    "model_input": "05_model_input",
    "models": "06_models",
    "model_output": "07_model_output",
    "reporting": "08_reporting",
}
"""Kedro's layers and the folders that hold their artifacts."""

NOT_FROM_A_STAGE = {
    "photos": "the user's",
    "store": "filled by the nodes that take it",
    "run_facts": "of the process",
    **{f"{variant.name}.making": "of the records beside artifacts" for variant in variants.VARIANTS},
    "chosen_options": "optional, made by egt_sweep",
    "known_photos": "remembered_photos of the run before",
    "known_groups": "remembered_groups of the run before",
}


def is_parameter(name: str) -> bool:
    return name == "parameters" or name.startswith("params:")


def artifacts(pipeline: Pipeline) -> list[str]:
    return sorted(name for name in pipeline.datasets() if not is_parameter(name))


ARTIFACTS = sorted({name for pipeline in PIPELINES.values() for name in artifacts(pipeline)})


@pytest.fixture(scope="module")
def catalog(bare_project: Project) -> DataCatalog:
    """The catalog of the environment `base`."""
    return bare_project.catalog(env="base")


def filepath_of(dataset: Any) -> str | None:
    path = dataset._describe().get("filepath")
    return None if path is None else str(path)


def test_registered_pipelines() -> None:
    assert STAGES == ("features", "knn_graph", "spatial_verification", "egt", "evaluation", "collection")
    assert set(PIPELINES) >= {*STAGES, "__default__"}
    whole = sum((PIPELINES[stage] for stage in STAGES), start=Pipeline([]))
    assert {node.name for node in PIPELINES["__default__"].nodes} == {node.name for node in whole.nodes}
    assert sum(len(PIPELINES[stage].nodes) for stage in STAGES) == len(whole.nodes)


def test_free_inputs_are_made_by_an_earlier_stage() -> None:
    made: set[str] = set()
    for stage in STAGES:
        free = {name for name in PIPELINES[stage].inputs() if not is_parameter(name)}
        assert free <= made | NOT_FROM_A_STAGE.keys(), stage
        made |= PIPELINES[stage].all_outputs()
    for name in PIPELINES.keys() - {*STAGES, "__default__"}:
        free = {name for name in PIPELINES[name].inputs() if not is_parameter(name)}
        assert free <= made | NOT_FROM_A_STAGE.keys(), name


def test_stages_do_not_make_what_another_stage_makes() -> None:
    makers = Counter(name for stage in STAGES for name in PIPELINES[stage].all_outputs())
    assert {name for name, count in makers.items() if count > 1} == set()


def test_names_are_unique() -> None:
    nodes = [node.name for node in PIPELINES["__default__"].nodes]
    assert len(nodes) == len({name.lower() for name in nodes})
    assert len(ARTIFACTS) == len({name.lower() for name in ARTIFACTS})
    assert all(
        node.func.__doc__ or node.func.__name__ == "gather_run"
        for each in PIPELINES.values()
        for node in each.nodes
    )


LIES_ELSEWHERE = {
    **dict.fromkeys(["aggregated.codebook", "dir.region_whitening", "gem.region_whitening"], "06_models"),
    **dict.fromkeys(["local_features_pca", "remembered_groups", "remembered_photos"], "06_models"),
    "search_options": "06_models",
    **dict.fromkeys(["store", "upright_features"], "03_primary"),
    "upright.descriptors": "04_feature",
    "audit": "02_intermediate",
}
"""Artifacts in the folder of what they are, drawn where they are made, so that layers run one way."""


@pytest.mark.parametrize("name", ARTIFACTS)
def test_every_artifact_is_in_the_catalog_with_its_layer(name: str, catalog: DataCatalog) -> None:
    assert name in catalog
    dataset = catalog.get(name)
    assert dataset is not None
    assert not isinstance(dataset, MemoryDataset)
    layer = dataset.metadata["kedro-viz"]["layer"]
    assert layer in LAYERS
    path = filepath_of(dataset)
    # What belongs to the held-out images lies in one folder, whatever its layer in the graph.
    if path is not None and not name.startswith("held_out."):
        folder = LIES_ELSEWHERE.get(name, LAYERS[layer])
        assert f"/data/{folder}/" in path.replace("\\", "/"), path


def test_layers_run_one_way(catalog: DataCatalog) -> None:
    """Kedro-viz draws no layers at all where they lead back to each other, whatever lies between."""
    drawn = Graph()
    for node in PIPELINES["__default__"].nodes:
        drawn.add_edges_from((name, node.name) for name in node.inputs)
        drawn.add_edges_from((node.name, name) for name in node.outputs)
    layer_of = {
        name: catalog.get(name).metadata["kedro-viz"]["layer"] for name in artifacts(PIPELINES["__default__"])
    }
    layers = Graph()
    for name, layer in layer_of.items():
        reached = {layer_of[later] for later in descendants(drawn, name) if later in layer_of}
        layers.add_edges_from((layer, later) for later in reached - {layer})
    assert is_directed_acyclic_graph(layers), sorted(layers.edges)


def test_no_two_artifacts_share_a_file(catalog: DataCatalog) -> None:
    own = [name for name in ARTIFACTS if not name.startswith("known_")]  # those are of the run before
    paths = Counter(filepath_of(catalog.get(name)) for name in own)
    del paths[None]
    assert {path for path, count in paths.items() if count > 1} == set()


def test_explicit_catalog_entries_are_used(catalog: DataCatalog) -> None:
    explicit = {name for name in catalog.keys() if not is_parameter(name)}  # noqa: SIM118 (not a dict)
    assert explicit <= set(ARTIFACTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_have_their_results_by_name(variant: str) -> None:
    made = PIPELINES["__default__"].all_outputs()
    assert {f"{variant}.{kind}" for kind in ("ranking", "metrics", "submission", "mlflow_run")} <= made
    assert f"{variant}.metrics" in PIPELINES["evaluation"].all_outputs()
    # A ranking needs no more than the stages before it.
    needed = PIPELINES["__default__"].to_outputs(f"{variant}.ranking")
    later = VARIANTS[VARIANTS.index(variant) + 1 :]
    assert not {f"{name}.ranking" for name in later} & needed.all_outputs()


def test_every_parameter_group_is_read_and_every_read_one_exists(catalog: DataCatalog) -> None:
    inputs = {name for pipeline in PIPELINES.values() for name in pipeline.inputs()}
    read = {name.removeprefix("params:") for name in inputs if name.startswith("params:")}
    # Pipelines depend on `variants`, hooks on `tracking`: no node reads them.
    assert read | set(PLAIN_GROUPS) == set(catalog.load("parameters"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_tag_of_a_variant_runs_from_the_photos_to_its_metrics_and_no_further(variant: str) -> None:
    tagged = PIPELINES["__default__"].only_nodes_with_tags(variant)
    assert f"{variant}.metrics" in tagged.all_outputs()
    assert {name for name in tagged.inputs() if not is_parameter(name)} <= NOT_FROM_A_STAGE.keys()
    later = VARIANTS[VARIANTS.index(variant) + 1 :]
    assert not {f"{name}.ranking" for name in later} & tagged.all_outputs()


@pytest.mark.parametrize(
    "name", PIPELINES.keys() - {"__default__", "own_descriptors", "own_descriptors_verified"}
)
def test_every_node_is_tagged_with_its_pipeline(name: str) -> None:
    assert all(name in node.tags for node in PIPELINES[name].nodes)
