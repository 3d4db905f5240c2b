"""The table of query expansions from the artifacts of a finished run."""

import pandas as pd

from kedro_project import Project


def test_one_row_and_one_run_for_each_variant(project_with_results: Project) -> None:
    parameters = {
        "variants": {
            "paper": {"images": 2},
            "queries": {"images": 2, "database_side": False},
            "re-ranked": {"images": 0},
        }
    }
    project_with_results.configure(qe_variants=parameters)
    shards = project_with_results.shards()
    project_with_results.succeed("--pipelines", "qe_variants")
    assert project_with_results.shards() == shards
    table = pd.read_csv(project_with_results.root / "data" / "08_reporting" / "qe_variants.csv")
    assert table["variant"].tolist() == ["no verification", "paper", "queries", "re-ranked"]
    ablation = project_with_results.table().set_index("variant")
    scores = table.set_index("variant")["mAP_at_100"]
    # The paper's expansion is what the stage itself ran.
    assert abs(scores["paper"] - ablation.loc["blend_qe_sv", "mAP_at_100"]) < 1e-9
    assert abs(scores["no verification"] - ablation.loc["blend", "mAP_at_100"]) < 1e-9
    runs = {run.info.run_name: run for run in project_with_results.mlflow_runs()}
    assert set(runs) == {"tiny: qe_variants", *(f"expansion {name}" for name in scores.index)}
    assert runs["expansion queries"].data.params["expansion.database_side"] == "False"
    assert runs["expansion paper"].data.metrics["mAP_at_100"] == scores["paper"]
    text = (project_with_results.root / "data" / "08_reporting" / "qe_variants.txt").read_text()
    assert "re-ranked" in text
