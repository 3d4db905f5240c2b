"""Rankings -> metrics, submission and MLflow run per variant -> ablation table, figures and report."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.evaluation import nodes
from landmark_retrieval.retrieval.variants import Variant, variant_of

NAMESPACE = "evaluation"


def create_pipeline(variants: Sequence[Variant], **_: object) -> Pipeline:
    """Return the evaluation pipeline.

    Args:
        variants: of the run.
    """
    comparison = create_ablation_pipeline(variants) + create_figure_pipeline()
    comparison += create_report_pipeline(variants)
    return sum((create_scoring_pipeline(variant) for variant in variants), start=comparison)


def create_ablation_pipeline(variants: Sequence[Variant]) -> Pipeline:
    """Return the steps that put all variants side by side, as numbers and as text."""
    rankings = {variant.name: f"{variant.name}.ranking" for variant in variants}
    measured = {
        name: name for variant in variants for name in (f"{variant.name}.metrics", f"{variant.name}.making")
    }
    return Pipeline(
        [
            Node(
                nodes.make_ablation_table,
                inputs=measured,
                outputs="ablation",
                name="make_ablation_table",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.measure_intervals,
                inputs={"images": "image_table", "config": "params:intervals", **rankings},
                outputs="ablation_intervals",
                name="measure_intervals",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.write_ablation,
                inputs=[
                    "ablation",
                    "ablation_intervals",
                    "image_table",
                    "skipped_images",
                    "params:data_set",
                    "params:intervals",
                    "params:published",
                ],
                outputs="ablation_text",
                name="write_ablation",
                namespace=NAMESPACE,
            ),
        ]
    )


def create_figure_pipeline() -> Pipeline:
    """Return the steps that draw the ablation."""
    return Pipeline(
        [
            Node(
                nodes.plot_ablation,
                inputs=["ablation", "ablation_intervals"],
                outputs="ablation_figure",
                name="plot_ablation",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.plot_ablation_interactive,
                inputs="ablation",
                outputs="ablation_plotly",
                name="plot_ablation_interactive",
                namespace=NAMESPACE,
            ),
        ]
    )


def create_report_pipeline(variants: Sequence[Variant]) -> Pipeline:
    """Return the step that writes the report."""
    found = {f"{variant.name}.ranking": f"{variant.name}.ranking" for variant in variants}
    for variant in variants:
        found[f"{variant.name}.making"] = f"{variant.name}.making"
        if variant.traverses:
            found[f"{variant.name}.traversal"] = f"{variant.name}.traversal"
        if variant.uses_labels:
            found[f"{variant.name}.label_bridge"] = f"{variant.graph}.label_bridge"
    return Pipeline(
        [
            Node(
                nodes.make_report,
                inputs={
                    "images": "image_table",
                    "skipped": "skipped_images",
                    "ablation": "ablation",
                    "intervals": "ablation_intervals",
                    "pairs": "verified_pairs",
                    "probabilities": "pair_probabilities",
                    "inlier_fits": "inlier_fits",
                    "local_features": "local_features",
                    "facts": "run_facts",
                    "options": "traversal_options",
                    "data_set": "params:data_set",
                    "published": "params:published",
                    "config": "params:report",
                    **found,
                },
                outputs="report",
                name="make_report",
                namespace=NAMESPACE,
            ),
        ]
    )


def create_scoring_pipeline(variant: Variant) -> Pipeline:
    """Return what is reported of one variant: its metrics, its submission, its MLflow run."""
    name, namespace = variant.name, f"{NAMESPACE}.{variant.name}"
    return Pipeline(
        [
            Node(
                nodes.evaluate,
                inputs=[f"{name}.ranking", "image_table", f"{variant.graph}.descriptors"],
                outputs=f"{name}.metrics",
                name="evaluate",
                namespace=namespace,
            ),
            Node(
                nodes.make_submission,
                inputs=[f"{name}.ranking", "image_table"],
                outputs=f"{name}.submission",
                name="make_submission",
                namespace=namespace,
            ),
            Node(
                nodes.describe_run(variant),
                inputs=[
                    f"{name}.ranking",
                    "image_table",
                    f"{name}.metrics",
                    f"{name}.submission",
                    "ablation_intervals",
                    f"{name}.making",
                    "run_facts",
                    "traversal_options",
                    "params:data_set",
                    *_evidence(variant),
                ],
                outputs=f"{name}.mlflow_run",
                name=f"log_mlflow_run_of_{name}",
                # Not in the variant's own box: it reads the intervals, which all variants' boxes lead to.
                namespace=NAMESPACE,
            ),
        ]
    )


def _evidence(variant: Variant) -> list[str]:
    """Return the artifacts with what inliers and labels prove, as far as a variant uses them."""
    if variant_of(variant.graph).expansion is None:
        return []
    labels = [f"{variant.graph}.label_evidence"] if variant.uses_labels else []
    return ["pair_probabilities", "inlier_fits", *labels]
