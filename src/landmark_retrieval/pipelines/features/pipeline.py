"""Photos -> image table -> GeM and DIR descriptors, whitened and blended -> local features, aggregated."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.pipelines.features import nodes

AGGREGATED = "aggregated"
"""Namespace and parameters of the descriptor that is made of local features."""


def create_pipeline(**_: object) -> Pipeline:
    """Return the features pipeline."""
    descriptors = [f"{name}.descriptors" for name in DESCRIPTORS]
    blend = Node(
        nodes.blend_descriptors,
        inputs=["image_table", "params:blend", *descriptors],
        outputs="blend.descriptors",
        name="concatenate_descriptors",
        namespace="blend",
    )
    skipped = Node(
        nodes.collect_skipped_images,
        inputs=["image_table", f"{DESCRIPTORS[0]}.raw_descriptors", "local_features"],
        outputs="skipped_images",
        name="collect_skipped_images",
    )
    audit = Node(
        nodes.audit_photos,
        inputs=["met_files", "image_table", "image_contents", "skipped_images"],
        outputs="audit",
        name="audit_photos",
    )
    parts = [create_image_table_pipeline(), *map(create_descriptor_pipeline, DESCRIPTORS)]
    return sum(
        [
            *parts,
            Pipeline([blend]),
            create_local_pipeline(),
            create_aggregated_pipeline(),
            Pipeline([skipped, audit]),
        ],
        start=Pipeline([]),
    )


def create_image_table_pipeline() -> Pipeline:
    """Return what lists the photos of a data set and tells changed ones."""
    return Pipeline(
        [
            Node(
                nodes.prepare_images,
                inputs=["photos", "params:data_set"],
                outputs=["image_table", "met_files"],
                name="prepare_image_table",
            ),
            Node(
                nodes.digest_images,
                inputs=["image_table", "store", "params:executor"],
                outputs="image_contents",
                name="digest_images",
            ),
        ]
    )


def create_descriptor_pipeline(name: str) -> Pipeline:
    """Return the namespace of one global descriptor.

    Args:
        name: namespace, and name of the parameter group that configures the descriptor.
    """
    return Pipeline(
        [
            Node(
                nodes.fit_whitening_layer,
                inputs=["image_table", "image_contents", "store", "params:descriptor", "params:executor"],
                outputs="region_whitening",
                name="fit_region_whitening",
            ),
            Node(
                nodes.extract_descriptors,
                inputs=[
                    "oriented_table",
                    "oriented_contents",
                    "store",
                    "region_whitening",
                    "params:descriptor",
                    "params:executor",
                ],
                outputs="raw_descriptors",
                name="extract_descriptors",
            ),
            Node(
                nodes.fit_descriptor_whitening,
                inputs=["raw_descriptors", "image_table", "params:descriptor"],
                outputs="whitening",
                name="fit_whitening",
            ),
            Node(
                nodes.whiten_descriptors,
                inputs=["raw_descriptors", "whitening", "image_table", "params:descriptor"],
                outputs="descriptors",
                name="whiten_descriptors",
            ),
        ],
        namespace=name,
        inputs={"image_table", "image_contents", "oriented_table", "oriented_contents", "store"},
        parameters={"params:descriptor": f"params:{name}", "params:executor": "params:executor"},
    )


def create_aggregated_pipeline() -> Pipeline:
    """Return what makes one descriptor of the local features of a photo."""
    return Pipeline(
        [
            Node(
                nodes.learn_codebook,
                inputs=["image_table", "upright_features", "store", "params:aggregated"],
                outputs="aggregated.codebook",
                name="learn_codebook",
                namespace=AGGREGATED,
            ),
            Node(
                nodes.aggregate_features,
                inputs=["image_table", "upright_features", "aggregated.codebook"],
                outputs="upright.descriptors",
                name="aggregate_features",
                namespace=AGGREGATED,
            ),
            Node(
                nodes.find_turns,
                inputs=[
                    "image_table",
                    "image_contents",
                    "upright_features",
                    "upright.descriptors",
                    "aggregated.codebook",
                    "local_features_pca",
                    "store",
                    "params:local_features",
                    "params:verification",
                    "params:knn",
                    "params:executor",
                    "params:verification_executor",
                ],
                outputs=["oriented_table", "oriented_contents"],
                name="find_turns",
                namespace=AGGREGATED,
            ),
            Node(
                nodes.extract_features,
                inputs=[
                    "oriented_table",
                    "oriented_contents",
                    "store",
                    "local_features_pca",
                    "params:local_features",
                    "params:executor",
                ],
                outputs="local_features",
                name="take_oriented_features",
                namespace=AGGREGATED,
            ),
            Node(
                nodes.aggregate_oriented,
                inputs=["oriented_table", "upright.descriptors", "local_features", "aggregated.codebook"],
                outputs="aggregated.descriptors",
                name="aggregate_oriented",
                namespace=AGGREGATED,
            ),
        ]
    )


def create_local_pipeline() -> Pipeline:
    """Return the extraction of local features."""
    return Pipeline(
        [
            Node(
                nodes.fit_local_features_pca,
                inputs=["image_table", "image_contents", "store", "params:local_features", "params:executor"],
                outputs="local_features_pca",
                name="fit_pca",
                namespace="local",
            ),
            Node(
                nodes.extract_features,
                inputs=[
                    "image_table",
                    "image_contents",
                    "store",
                    "local_features_pca",
                    "params:local_features",
                    "params:executor",
                ],
                outputs="upright_features",
                name="extract_features",
                namespace="local",
            ),
        ]
    )
