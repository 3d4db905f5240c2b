"""Nodes of the evaluation pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmark_retrieval import evaluation
from landmark_retrieval.collection import (
    DataSetConfig,
    SplitRows,
    has_truth,
    landmark_of,
    relevant_index_rows,
    split_counts,
)
from landmark_retrieval.descriptors import DESCRIPTORS, Descriptors, GlobalDescriptorConfig
from landmark_retrieval.descriptors.extraction import network_identity
from landmark_retrieval.descriptors.imported import ImportConfig
from landmark_retrieval.evaluation import (
    BootstrapConfig,
    PublishedConfig,
    Ranking,
    ablation_table,
    average_precision,
    evaluate_variant,
    format_published,
    format_table,
    interval_metrics,
    no_intervals,
    usage_intervals,
)
from landmark_retrieval.evaluation.protocols import evaluate_protocol
from landmark_retrieval.graph import Traversal, TraversalConfig
from landmark_retrieval.graph.label_evidence import LabelEvidence
from landmark_retrieval.images import image_sources
from landmark_retrieval.io.chain import Making
from landmark_retrieval.io.mlflow_run import flatten
from landmark_retrieval.local_features import LocalFeaturesConfig, LocalFeatureStore, StoredFeatures
from landmark_retrieval.local_features.extraction import extractor_identity
from landmark_retrieval.reporting import (
    Findings,
    ReportConfig,
    VariantRun,
    VerifiedMatch,
    change_counts,
    choose_pairs,
    extremes,
    figures,
    precisions,
    query_pages,
    render_report,
    shown_images,
    thumbnails,
    verified_matches,
)
from landmark_retrieval.reporting.calibration import (
    calibration_in_words,
    evidence_metrics,
    inliers_by_side,
    plot_calibration,
)
from landmark_retrieval.reporting.gains import Gain, largest_gains
from landmark_retrieval.reporting.report import EXTREMES, MATCHES, QueryPage, ReportContent
from landmark_retrieval.retrieval.variants import Variant, compared_with, stage_rows
from landmark_retrieval.verification import VerificationConfig
from landmark_retrieval.verification.calibration import floors, from_plain


def evaluate(ranking: Ranking, images: pd.DataFrame, descriptors: Descriptors) -> dict[str, float]:
    """Measure the ranking of one variant, also by the data set's own protocol where it has one."""
    if not has_truth(images):
        return {}
    metrics = evaluate_variant(ranking.rows, relevant_index_rows(images), _query_usage(images))
    everything = slice(0, len(images))
    return {**metrics, **evaluate_protocol(ranking.rows, images, descriptors.part(everything))}


def make_submission(ranking: Ranking, images: pd.DataFrame) -> pd.DataFrame:
    """Write the ranking as the challenge wants it."""
    ids, rows = images["image_id"].to_numpy(dtype=str), SplitRows.from_table(images)
    return evaluation.make_submission(ranking.rows, ids[rows.asked], ids[rows.index])


def make_ablation_table(**found: Any) -> pd.DataFrame:
    """Put the metrics of all variants side by side, with the seconds from the photos to their rankings.

    What was found is the `metrics` and the `making` of every variant, by names such as `blend.metrics`.
    """
    seconds = {variant: sum(made.seconds.values()) for variant, made in _of_variants(found, "making").items()}
    return ablation_table(_of_variants(found, "metrics"), seconds)


def measure_intervals(images: pd.DataFrame, config: BootstrapConfig, **rankings: Ranking) -> pd.DataFrame:
    """Return confidence intervals over queries: of the mAP of every variant, by name, and of its gain."""
    if not has_truth(images):
        return no_intervals()
    scores = precisions(_findings(rankings), images)
    measured = dict(zip(rankings, scores, strict=True))
    return usage_intervals(measured, _query_usage(images), config, compared_with(list(rankings)))


def write_ablation(
    ablation: pd.DataFrame,
    intervals: pd.DataFrame,
    images: pd.DataFrame,
    skipped: pd.DataFrame,
    data_set: DataSetConfig,
    config: BootstrapConfig,
    published: PublishedConfig,
) -> str:
    """Write the table as text, for terminals."""
    table = format_table(ablation, data_set.name, split_counts(images), len(skipped), intervals)
    if not published.results:
        return table + "\n"
    return f"{table}\n\n{format_published(published.rows(), published.told(ablation))}\n"


def plot_ablation(ablation: pd.DataFrame, intervals: pd.DataFrame) -> Figure:
    """Draw the ablation as bars with their confidence intervals."""
    return figures.plot_ablation(ablation, intervals)


def plot_ablation_interactive(ablation: pd.DataFrame) -> go.Figure:
    """Draw the ablation as interactive bars."""
    return figures.plot_ablation_interactive(ablation)


def describe_run(variant: Variant) -> Callable[..., VariantRun]:
    """Return the node function that gathers what MLflow keeps of a variant."""

    def gather_run(
        ranking: Ranking,
        images: pd.DataFrame,
        metrics: dict[str, float],
        submission: pd.DataFrame,
        intervals: pd.DataFrame,
        making: Making,
        facts: dict[str, str],
        options: TraversalConfig,
        data_set: DataSetConfig,
        probabilities: pd.DataFrame | None = None,
        inlier_fits: dict[str, dict[str, Any]] | None = None,
        labels: LabelEvidence | None = None,
    ) -> VariantRun:
        proof = {}
        if probabilities is not None and inlier_fits is not None:
            config = VerificationConfig.model_validate(making.parameters.get("verification", {})).calibration
            proof = evidence_metrics(probabilities, images, from_plain(inlier_fits), config, labels)
        figure = figures.plot_average_precision(average_precision(ranking.rows, relevant_index_rows(images)))
        return VariantRun(
            name=variant.name,
            parameters={"variant": variant.name, **making.parameters, **options.model_dump(mode="json")},
            metrics={
                **metrics,
                **interval_metrics(intervals, variant.name),
                **proof,
                "seconds": sum(making.seconds.values()),
            },
            tags={
                "variant": variant.name,
                "adds": variant.adds,
                "data_set": data_set.name,
                "commit": facts["commit"],
            },
            inputs={data_set.name: images},
            models=_models(making.parameters, data_set.name),
            tables={"submission.csv": submission},
            figures={"average_precision.png": figure},
        )

    return gather_run


def make_report(
    images: pd.DataFrame,
    skipped: pd.DataFrame,
    ablation: pd.DataFrame,
    intervals: pd.DataFrame,
    pairs: pd.DataFrame,
    probabilities: pd.DataFrame,
    inlier_fits: dict[str, dict[str, Any]],
    local_features: StoredFeatures,
    facts: dict[str, str],
    options: TraversalConfig,
    data_set: DataSetConfig,
    published: PublishedConfig,
    config: ReportConfig,
    **found: Any,
) -> str:
    """Show what the variants found for the queries on which they differ most, and why.

    What was found is the `ranking` and the `making` of every variant, with the `traversal` and the
    `label_bridge` of those that have them, by names such as `blend.ranking`.
    """
    used = {
        name: group
        for made in _of_variants(found, "making").values()
        for name, group in made.parameters.items()
    }
    verification = VerificationConfig.model_validate(used.get("verification", {}))
    rankings, traversals = _of_variants(found, "ranking"), _of_variants(found, "traversal")
    findings = _findings(
        rankings,
        traversals=traversals,
        pairs=pairs,
        label_bridges=_of_variants(found, "label_bridge"),
    )
    pages, scores = query_pages(findings, images, config), precisions(findings, images)
    stages, fits = scores[stage_rows(list(rankings))], from_plain(inlier_fits)
    extreme_queries = extremes(stages, EXTREMES)
    rows = SplitRows.from_table(images)
    floor = floors(fits, verification.calibration.rerank)[int(rows.among_themselves)]
    tried = pairs.assign(probability=probabilities["probability"])
    gains = _gains(findings.rankings, list(scores), images, traversals, pairs)
    figure = (
        figures.as_png(figures.plot_changes(dict(zip(rankings, scores, strict=True))))
        if has_truth(images)
        else b""
    )
    content = ReportContent(
        pages,
        _pictures(pages, extreme_queries, gains, images, config.thumbnail_side),
        images["image_id"].to_list(),
        ablation,
        skipped,
        split_counts(images),
        data_set=data_set.name,
        parameters=dict(flatten({**used, **options.model_dump(mode="json")})),
        facts=facts,
        intervals=intervals,
        published=published.rows(),
        published_source=published.told(ablation),
        changes=change_counts(stages),
        changes_figure=figure,
        extreme_queries=extreme_queries,
        matches=_matches(pairs, images, local_features, verification, floor, MATCHES),
        floor=floor,
        calibration=calibration_in_words(tried, images, fits, verification.calibration),
        calibration_figure=figures.as_png(plot_calibration(inliers_by_side(pairs, rows.query.stop), fits)),
        gains=gains,
        index_start=rows.index.start,
        landmarks=images["landmark"].fillna("").to_list(),
    )
    return render_report(content)


def _pictures(
    pages: list[QueryPage],
    extreme_queries: dict[str, list[tuple[int, float]]],
    gains: list[Gain],
    images: pd.DataFrame,
    side: int,
) -> dict[int, bytes]:
    """Return thumbnails of all images on the pages, of the best and worst queries, and of what moved."""
    sources, start = image_sources(images), SplitRows.from_table(images).index.start
    shown = shown_images(pages, images)
    shown |= {row: sources[row] for found in extreme_queries.values() for row, _ in found}
    shown |= {row: sources[row] for gain in gains for row in (gain.query, start + gain.row)}
    return thumbnails(shown, side)


def _gains(
    rankings: Mapping[str, NDArray[np.int32]],
    scores: Sequence[NDArray[np.float64]],
    images: pd.DataFrame,
    traversals: dict[str, Traversal],
    pairs: pd.DataFrame,
) -> list[Gain]:
    """Return what each stage changed most; nothing without queries of their own or without truth."""
    rows = SplitRows.from_table(images)
    if rows.among_themselves or not has_truth(images):
        return []
    of_queries = pairs[pairs["row_a"] < rows.query.stop]
    keys = zip(of_queries["row_a"].tolist(), (of_queries["row_b"] - rows.index.start).tolist(), strict=True)
    inliers = dict(zip(keys, of_queries["inliers"].tolist(), strict=True))
    return largest_gains(rankings, scores, relevant_index_rows(images), traversals, inliers)


def _matches(
    pairs: pd.DataFrame,
    images: pd.DataFrame,
    local_features: StoredFeatures,
    verification: VerificationConfig,
    floor: int,
    count: int,
) -> list[VerifiedMatch]:
    """Return some verified pairs with their inliers drawn."""
    queries = range(SplitRows.from_table(images).asked.stop)
    chosen = choose_pairs(pairs, landmark_of(images), queries, floor, count)
    return verified_matches(chosen, images, LocalFeatureStore(local_features), verification, floor)


def _of_variants(found: dict[str, Any], artifact: str) -> dict[str, Any]:
    """Return one kind of artifact by the name of the variant."""
    end = f".{artifact}"
    return {name.removesuffix(end): value for name, value in found.items() if name.endswith(end)}


def _findings(rankings: dict[str, Ranking], **more: Any) -> Findings:
    return Findings(rankings={name: ranking.rows for name, ranking in rankings.items()}, **more)


def _models(parameters: Mapping[str, Any], data_set: str) -> dict[str, dict[str, Any]]:
    """Return the models of a run and what they depend on: options, data set, state of their weights.

    Of descriptors from elsewhere nothing but their files is known.
    """
    own = ImportConfig.model_validate(parameters.get("descriptors"))
    if own.files:
        return {"descriptors": {**own.model_dump(mode="json"), "files": own.identity()}}
    models = {name: dict(parameters[name]) for name in (*DESCRIPTORS, "local_features")}
    for name in DESCRIPTORS:
        models[name]["network"] = network_identity(GlobalDescriptorConfig.model_validate(parameters[name]))
    extractor = LocalFeaturesConfig.model_validate(parameters["local_features"]).extractor
    models["local_features"]["network"] = extractor_identity(extractor)
    return {name: {"data_set": data_set, **model} for name, model in models.items()}


def _query_usage(images: pd.DataFrame) -> NDArray[Any] | None:
    usage = images["usage"].iloc[SplitRows.from_table(images).asked]
    return None if usage.isna().all() else usage.fillna("").to_numpy(dtype=str)
