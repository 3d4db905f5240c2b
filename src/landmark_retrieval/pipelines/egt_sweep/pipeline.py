"""Train split -> a data set of its own, searched and verified as the real one -> options chosen on it."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.pipelines import knn_graph, nearest_expansion, spatial_verification
from landmark_retrieval.pipelines.egt.nodes import symmetrize_graph
from landmark_retrieval.pipelines.egt_sweep import nodes
from landmark_retrieval.pipelines.features.nodes import blend_descriptors
from landmark_retrieval.pipelines.features.pipeline import AGGREGATED
from landmark_retrieval.pipelines.knn_graph.nodes import join_neighbors
from landmark_retrieval.pipelines.knn_graph.pipeline import create_search_pipeline
from landmark_retrieval.retrieval.variants import BLEND, BLEND_QE_SV

NAMESPACE = "held_out"

GRAPH = f"{NAMESPACE}.{BLEND_QE_SV.name}"
"""The graph that is traversed."""

LEFT_OUT = ("rank_neighbors", "measure_recall", "compare_nothing")
"""Nodes of the stages that the choice does not need."""

ON_DISK = {"local_features", "oriented_table", "store"}
"""What the stages take of the data set itself, not of the part that is held out."""


def create_pipeline(**_: object) -> Pipeline:
    """Return the egt_sweep pipeline."""
    search = knn_graph.create_pipeline()
    return (
        create_table_pipeline()
        + create_descriptors_pipeline()
        + create_taking_pipeline(AGGREGATED)
        + create_graph_pipeline(search + spatial_verification.create_pipeline([BLEND_QE_SV]))
        + create_sweep_pipeline()
        + create_choice_pipeline()
    )


def create_own_pipeline(local_features: bool) -> Pipeline:
    """Return the egt_sweep pipeline of descriptors that were made elsewhere.

    Args:
        local_features: whether there are local features, too, by which expansion is verified.
    """
    if local_features:
        search = knn_graph.create_pipeline()
        taken = create_taking_pipeline(BLEND.name) + create_taking_pipeline(AGGREGATED)
        stages = search + spatial_verification.create_pipeline([BLEND_QE_SV])
    else:
        taken = create_taking_pipeline(BLEND.name)
        stages = create_search_pipeline(BLEND.name, join_neighbors) + nearest_expansion.create_pipeline()
    return (
        create_table_pipeline()
        + taken
        + create_graph_pipeline(stages)
        + create_sweep_pipeline()
        + create_choice_pipeline()
    )


def create_table_pipeline() -> Pipeline:
    """Return the step that makes a data set of its own of the train split."""
    return Pipeline(
        [
            Node(
                nodes.hold_out,
                inputs=["image_table", "params:egt_sweep"],
                outputs=f"{NAMESPACE}.image_table",
                name="hold_out",
                namespace=NAMESPACE,
            )
        ]
    )


def create_taking_pipeline(descriptor: str) -> Pipeline:
    """Return the step that takes descriptors of the held-out images as they are.

    Args:
        descriptor: its namespace.
    """
    return Pipeline(
        [
            Node(
                nodes.take_held_out,
                inputs=[f"{descriptor}.descriptors", f"{NAMESPACE}.image_table"],
                outputs=f"{NAMESPACE}.{descriptor}.descriptors",
                name=f"take_{descriptor}_descriptors",
                namespace=NAMESPACE,
            )
        ]
    )


def create_descriptors_pipeline() -> Pipeline:
    """Return the steps that whiten the held-out images anew, and blend what comes out."""
    return Pipeline(
        [
            *(
                Node(
                    nodes.describe_held_out,
                    inputs=[
                        f"{name}.raw_descriptors",
                        f"{NAMESPACE}.image_table",
                        f"params:{name}",
                    ],
                    outputs=f"{NAMESPACE}.{name}.descriptors",
                    name=f"whiten_{name}_descriptors",
                    namespace=NAMESPACE,
                )
                for name in DESCRIPTORS
            ),
            Node(
                blend_descriptors,
                inputs=[
                    f"{NAMESPACE}.image_table",
                    "params:blend",
                    *(f"{NAMESPACE}.{name}.descriptors" for name in DESCRIPTORS),
                ],
                outputs=f"{NAMESPACE}.{BLEND.name}.descriptors",
                name="concatenate_descriptors",
                namespace=NAMESPACE,
            ),
        ]
    )


def create_graph_pipeline(stages: Pipeline) -> Pipeline:
    """Return stages up to the graph of the expanded descriptors, run on the held-out data set.

    Args:
        stages: as a run has them.
    """
    needed = stages.only_nodes(
        *(node.name for node in stages.nodes if node.name.split(".")[-1] not in LEFT_OUT)
    )
    return Pipeline(
        needed,
        namespace=NAMESPACE,
        inputs=ON_DISK & needed.inputs(),
        parameters={name for name in needed.inputs() if name.startswith("params:")},
    )


def create_sweep_pipeline() -> Pipeline:
    """Return the steps that measure all options on the held-out graph."""
    return Pipeline(
        [
            Node(
                symmetrize_graph,
                inputs=f"{GRAPH}.knn_graph",
                outputs=f"{GRAPH}.index_graph",
                name="symmetrize_index_graph",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.search_train_images,
                inputs=[
                    f"{GRAPH}.descriptors",
                    f"{NAMESPACE}.image_table",
                    "params:egt_sweep",
                    "params:knn",
                    "params:executor",
                ],
                outputs=f"{GRAPH}.train_neighbor_shards",
                name="search_train_images",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.sweep_options,
                inputs=[
                    f"{GRAPH}.knn_graph",
                    f"{GRAPH}.index_graph",
                    f"{GRAPH}.train_neighbor_shards",
                    f"{GRAPH}.descriptors",
                    f"{NAMESPACE}.image_table",
                    "params:egt_sweep",
                    "params:egt",
                ],
                outputs="egt_sweep",
                name="sweep_options",
            ),
        ]
    )


def create_choice_pipeline() -> Pipeline:
    """Return what is made of the measurements: the chosen options, a figure, MLflow runs."""
    return Pipeline(
        [
            Node(
                nodes.choose_options,
                inputs="egt_sweep",
                outputs="chosen_options",
                name="choose_options",
            ),
            Node(nodes.plot_sweep, inputs="egt_sweep", outputs="egt_sweep_figure", name="plot_sweep"),
            Node(
                nodes.describe_points,
                inputs=["egt_sweep", "params:data_set", "run_facts"],
                outputs="egt_sweep_mlflow_runs",
                name="log_mlflow_runs",
            ),
        ]
    )
