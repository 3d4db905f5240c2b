"""Rankings -> metrics, submission and MLflow run per variant -> ablation table, figures and report."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.evaluation.ablation import VARIANTS
from landmark_retrieval.pipelines.evaluation import nodes

NAMESPACE = "evaluation"


def create_pipeline(**_: object) -> Pipeline:
    """Return the evaluation pipeline."""
    comparison = create_ablation_pipeline() + create_figure_pipeline() + create_report_pipeline()
    return sum((create_scoring_pipeline(variant) for variant in VARIANTS), start=comparison)


def create_ablation_pipeline() -> Pipeline:
    """Return the steps that put all variants side by side, as numbers and as text."""
    rankings = [f"{variant}.ranking" for variant in VARIANTS]
    metrics = [f"{variant}.metrics" for variant in VARIANTS]
    return Pipeline(
        [
            Node(
                nodes.make_ablation_table,
                inputs=["stage_seconds", *metrics],
                outputs="ablation",
                name="make_ablation_table",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.measure_intervals,
                inputs=["image_table", "params:intervals", *rankings],
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
                inputs="ablation",
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


def create_report_pipeline() -> Pipeline:
    """Return the step that writes the report."""
    rankings = [f"{variant}.ranking" for variant in VARIANTS]
    return Pipeline(
        [
            Node(
                nodes.make_report,
                inputs=[
                    "image_table",
                    "skipped_images",
                    "ablation",
                    "ablation_intervals",
                    "verified_pairs",
                    "pair_probabilities",
                    "inlier_fits",
                    "local_features",
                    "label_bridge",
                    "blend_qe_sv_egt.traversal",
                    "blend_qe_sv_semisup_egt.traversal",
                    "run_facts",
                    "egt_options",
                    "parameters",
                    "params:data_set",
                    "params:verification",
                    "params:published",
                    "params:report",
                    *rankings,
                ],
                outputs="report",
                name="make_report",
                namespace=NAMESPACE,
            ),
        ]
    )


def create_scoring_pipeline(variant: str) -> Pipeline:
    """Return what is reported of one variant: its metrics, its submission, its MLflow run.

    Args:
        variant: name of the variant.
    """
    namespace = f"{NAMESPACE}.{variant}"
    searched = VARIANTS[0] if variant == VARIANTS[0] else VARIANTS[1]  # the later ones search the same graph
    return Pipeline(
        [
            Node(
                nodes.evaluate,
                inputs=[f"{variant}.ranking", "image_table", f"{searched}.descriptors"],
                outputs=f"{variant}.metrics",
                name="evaluate",
                namespace=namespace,
            ),
            Node(
                nodes.make_submission,
                inputs=[f"{variant}.ranking", "image_table"],
                outputs=f"{variant}.submission",
                name="make_submission",
                namespace=namespace,
            ),
            Node(
                nodes.describe_run(variant),
                inputs=[
                    f"{variant}.ranking",
                    "image_table",
                    f"{variant}.metrics",
                    f"{variant}.submission",
                    "ablation_intervals",
                    "stage_seconds",
                    "run_facts",
                    "egt_options",
                    "parameters",
                ],
                outputs=f"{variant}.mlflow_run",
                name=f"log_mlflow_run_of_{variant}",
                # Not in the variant's own box: it reads the intervals, which all variants' boxes lead to.
                namespace=NAMESPACE,
            ),
        ]
    )
