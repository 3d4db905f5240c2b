"""`kedro evaluate`: scores a submission file, anyone's, against a solution file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from landmark_retrieval.commands.errors import plain_errors

if TYPE_CHECKING:
    import pandas as pd

TITLES = {
    "AP_at_100": "mAP@100",
    "P_at_10": "P@10",
    "R_at_1": "R@1",
    "R_at_10": "R@10",
    "position": "mean position",
}
"""Columns of `evaluation.score_queries`, as their means are called."""

NAMES = {
    "AP_at_100": "mAP_at_100",
    "P_at_10": "P_at_10",
    "R_at_1": "R_at_1",
    "R_at_10": "R_at_10",
    "position": "mean_position",
}
"""The same as keys of the JSON form."""


@click.command()
@click.argument("predictions", type=click.Path(dir_okay=False))
@click.argument("solution", type=click.Path(dir_okay=False))
@click.option(
    "--compare",
    type=click.Path(dir_okay=False),
    help="Another predictions file: print the gain over it, paired by query.",
)
@click.option(
    "--resamples",
    default=2000,
    show_default=True,
    type=click.IntRange(100, 1_000_000),
    help="Draws of queries for the 95% intervals.",
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the random resampling."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@plain_errors
def evaluate(
    predictions: str, solution: str, compare: str | None, resamples: int, seed: int, as_json: bool
) -> None:
    """Score the submission file PREDICTIONS (id,images) against the file SOLUTION (id,images,Usage).

    SOLUTION may also be an image table: `images.csv`, or `image_table.csv` of a run. A query should then find
    the index images of its landmark.

    The metrics are those of the Google Landmarks retrieval challenge: at most 100 predictions a query count,
    a missing query counts 0, a repeated prediction keeps its rank, Ignored queries are dropped, and a query
    that is not in the solution is an error. Brackets hold 95% confidence intervals over queries.
    """
    from landmark_retrieval.evaluation import read_submission, read_truth, score_submission
    from landmark_retrieval.evaluation.bootstrap import BootstrapConfig

    config = BootstrapConfig(resamples=resamples, seed=seed)
    truth = read_truth(solution)
    scores = score_submission(read_submission(predictions), truth)
    baseline = None if compare is None else score_submission(read_submission(compare), truth)
    results = {name: summary(part, config) for name, part in parts(scores).items()}
    gains = {}
    if baseline is not None:
        gains = {name: gain(part, baseline.loc[part.index], config) for name, part in parts(scores).items()}
    if as_json:
        click.echo(json.dumps({**results, "gain": gains} if gains else results, indent=1))
        return
    click.echo(format_results(results))
    for name, interval in gains.items():
        click.echo(
            f"gain over {compare}, {name}: mAP@100 {interval['mean']:+.4f} "
            f"[{interval['low']:+.4f}, {interval['high']:+.4f}]"
        )


def parts(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the scores of all queries that count, and those of either usage where there are any.

    Args:
        scores: from `score_submission`.

    Raises:
        LandmarkRetrievalError: no query counts.
    """
    from landmark_retrieval.errors import LandmarkRetrievalError

    counted = scores[scores["AP_at_100"].notna()]
    if counted.empty:
        raise LandmarkRetrievalError(
            "solution: no query has a relevant image and another Usage than Ignored, so nothing can be scored"
        )
    found = {"all": counted}
    if "usage" in counted:
        for usage in ("Public", "Private"):
            part = counted[counted["usage"] == usage]
            if len(part):
                found[usage.lower()] = part
    return found


def summary(scores: pd.DataFrame, config: Any) -> dict[str, Any]:
    """Return the number of queries, and mean, low and high of every metric.

    Args:
        scores: scores of the queries that count (`parts`).
        config: `BootstrapConfig` of the intervals.

    Returns:
        `queries`, and by the keys of `NAMES` a dict of `mean`, `low` and `high`.
    """
    from landmark_retrieval.evaluation.bootstrap import mean_interval

    result: dict[str, Any] = {"queries": len(scores)}
    for column, name in NAMES.items():
        interval = mean_interval(scores[column].to_numpy(), config)
        result[name] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return result


def gain(scores: pd.DataFrame, baseline: pd.DataFrame, config: Any) -> dict[str, float]:
    """Return mean, low and high of the gain in AP@100 over other scores of the same queries.

    Args:
        scores: scores of the queries that count (`parts`).
        baseline: the other scores, row for row of the same queries.
        config: `BootstrapConfig` of the interval.
    """
    from landmark_retrieval.evaluation.bootstrap import difference_interval

    interval = difference_interval(scores["AP_at_100"].to_numpy(), baseline["AP_at_100"].to_numpy(), config)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def format_results(results: dict[str, dict[str, Any]]) -> str:
    """Return a table: a line a metric, a column a part."""
    from landmark_retrieval.runtime.text_tables import text_table

    rows = [["", *results], ["queries", *(str(part["queries"]) for part in results.values())]]
    for column, title in TITLES.items():
        values = (part[NAMES[column]] for part in results.values())
        digits = 2 if column == "position" else 4
        rows.append(
            [
                title,
                *(f"{v['mean']:.{digits}f} [{v['low']:.{digits}f}, {v['high']:.{digits}f}]" for v in values),
            ]
        )
    return "\n".join(text_table(rows, left=len(rows[0]), ruled=False))
