"""Train split -> a data set of its own, searched and verified as the real one -> options chosen on it."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.pipelines import knn_graph, spatial_verification
from landmark_retrieval.pipelines.egt.nodes import symmetrize_graph
from landmark_retrieval.pipelines.egt_sweep import nodes
from landmark_retrieval.pipelines.features.nodes import blend_descriptors
from landmark_retrieval.retrieval.variants import BLEND, BLEND_QE_SV

NAMESPACE = "held_out"

GRAPH = f"{NAMESPACE}.{BLEND_QE_SV.name}"
"""The graph that is traversed."""

LEFT_OUT = ("rank_neighbors", "measure_recall")
"""Nodes of the stages that the choice does not need."""


def create_pipeline(**_: object) -> Pipeline:
    """Return the egt_sweep pipeline."""
    return (
        create_data_set_pipeline()
        + create_graph_pipeline()
        + create_sweep_pipeline()
        + create_choice_pipeline()
    )


def create_data_set_pipeline() -> Pipeline:
    """Return the steps that make a data set of its own of the train split, with descriptors."""
    return Pipeline(
        [
            Node(
                nodes.hold_out,
                inputs=["image_table", "params:egt_sweep"],
                outputs=f"{NAMESPACE}.image_table",
                name="hold_out",
                namespace=NAMESPACE,
            ),
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
                nodes.take_held_out,
                inputs=["aggregated.descriptors", f"{NAMESPACE}.image_table"],
                outputs=f"{NAMESPACE}.aggregated.descriptors",
                name="take_aggregated_descriptors",
                namespace=NAMESPACE,
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


def create_graph_pipeline() -> Pipeline:
    """Return the stages up to the graph of the expanded descriptors, run on the held-out data set."""
    stages = knn_graph.create_pipeline() + spatial_verification.create_pipeline([BLEND_QE_SV])
    return Pipeline(
        stages.only_nodes(*(node.name for node in stages.nodes if node.name.split(".")[-1] not in LEFT_OUT)),
        namespace=NAMESPACE,
        inputs={"local_features", "oriented_table", "store"},
        parameters={
            "params:knn",
            "params:executor",
            "params:local_features",
            "params:verification",
            "params:expansion",
            "params:verification_executor",
        },
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
