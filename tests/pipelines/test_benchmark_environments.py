"""Whole runs of the environments of the public benchmarks, on synthetic data and with small networks."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from benchmarks.synthetic_gldv2 import SyntheticConfig, draw_landmark, write_synthetic
from PIL import Image

from kedro_project import PARAMETERS, ROOT, Project
from landmark_retrieval.collection.naming import data_set_name
from variant_names import VARIANTS

SMALL: dict[str, Any] = {
    **{
        name: {**PARAMETERS[name], "max_side": 64, "batch_size": 32, "shard_size": 256}
        for name in ("gem", "dir")
    },
    "local_features": {
        **PARAMETERS["local_features"],
        "max_side": 128,
        "max_keypoints": 80,
        "shard_size": 256,
    },
    **{name: PARAMETERS[name] for name in ("verification_executor", "report")},
}


def shrink(project: Project, environment: str) -> None:
    """Replace networks, features and the memory of an environment by small ones, and nothing else."""
    folder = project.root / "conf" / environment
    (folder / "parameters_features.yml").unlink(missing_ok=True)  # roxford5k and rparis6k build on another
    (folder / "parameters_small.yml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")


@pytest.fixture(scope="module")
def gldv2_project(bare_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The environment gldv2 after a run on a synthetic data set at 1/2000 of the published size."""
    project = bare_project.copy(tmp_path_factory.mktemp("gldv2") / "project")
    shrink(project, "gldv2")
    write_synthetic(project.root / "synthetic", SyntheticConfig(scale=2000, side=128), threads=1)
    result = project.run("--params", "data_root=synthetic", env="gldv2")
    assert result.exit_code == 0, result.output
    return project


def artifacts(project: Project, layer: str, configured: str, data_root: str) -> Path:
    folder = str(project.root / data_root)
    return project.root / "data" / layer / data_set_name(configured, None, folder)


def test_gldv2_from_files_to_the_ablation(gldv2_project: Project) -> None:
    table = gldv2_project.table().set_index("variant")
    assert tuple(table.index) == VARIANTS
    assert (table["mAP_at_100"] > 0.3).all()
    assert table[["mAP_at_100_public", "mAP_at_100_private"]].notna().all(axis=None)
    text = (gldv2_project.root / "data/08_reporting/ablation.txt").read_text()
    assert "59 queries, 381 index images, 2066 train images" in text


def test_gldv2_metrics_equal_a_slow_reference(gldv2_project: Project) -> None:
    root = gldv2_project.root / "synthetic"
    solution = pd.read_csv(root / "retrieval_solution_v2.1.csv", dtype=str, keep_default_na=False)
    truth = {
        row.id: set(row.images.split()) for row in solution.itertuples() if row.Usage in ("Public", "Private")
    }
    assert len(truth) == 12
    for variant in VARIANTS:
        folder = artifacts(gldv2_project, "07_model_output", "gldv2", "synthetic") / variant
        submission = pd.read_csv(folder / "submission.csv", dtype=str, keep_default_na=False)
        assert len(submission) == 59
        scores = []
        for row in submission.itertuples():
            if row.id in truth:
                hits = [image in truth[row.id] for image in row.images.split()]
                gains = [sum(hits[:rank]) / rank for rank, hit in enumerate(hits, start=1) if hit]
                scores.append(sum(gains) / min(100, len(truth[row.id])))
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["mAP_at_100"] == pytest.approx(np.mean(scores), abs=1e-12)
        assert metrics["queries"] == 12


def test_index_images_carry_no_labels_into_a_run(gldv2_project: Project) -> None:
    file = artifacts(gldv2_project, "02_intermediate", "gldv2", "synthetic") / "image_table.csv"
    table = pd.read_csv(file)
    assert table.loc[table["split"] != "train", "landmark_id"].isna().all()
    assert table.loc[table["split"] == "train", "landmark_id"].notna().all()


TRUTH = [
    {"easy": [0, 1], "hard": [2], "junk": [3], "bbx": [10.0, 10.0, 120.0, 90.0]},
    {"easy": [], "hard": [4, 5], "junk": [], "bbx": [0.0, 0.0, 128.0, 96.0]},
]


def make_revisited(root: Path, name: str) -> None:
    """Write a tiny data set of that name: 2 queries of 2 drawings, 8 index images, 2 distractors."""
    random = np.random.default_rng(0)
    drawings = [draw_landmark(np.random.default_rng(number), 128, 96) for number in range(8)]
    folder = root / name
    (folder / "jpg").mkdir(parents=True)
    shown = [0, 0, 0, 0, 1, 1, 2, 3]
    index = [f"site_{number:06d}" for number in range(8)]
    queries = ["site_000100", "other_000200"]
    for image_id, drawing in zip(index + queries, [*shown, 0, 1], strict=True):
        noisy = drawings[drawing] + random.normal(0, 8, drawings[drawing].shape)
        Image.fromarray(np.uint8(np.clip(noisy, 0, 255))).save(folder / "jpg" / f"{image_id}.jpg")
    content = {"imlist": index, "qimlist": queries, "gnd": TRUTH}
    (folder / f"gnd_{name}.pkl").write_bytes(pickle.dumps(content, 2))
    extra = root / "revisitop1m"
    (extra / "jpg" / "1").mkdir(parents=True)
    (extra / "revisitop1m.txt").write_text("1/a.jpg\n1/b.jpg\n")
    for number, image_id in enumerate("ab"):
        Image.fromarray(drawings[4 + number]).save(extra / "jpg" / "1" / f"{image_id}.jpg")


@pytest.mark.parametrize(
    ("name", "distractors"), [("roxford5k", False), ("rparis6k", True)], ids=["roxford5k", "rparis6k+1m"]
)
def test_revisited_from_files_to_its_metrics(project: Project, name: str, distractors: bool) -> None:
    shrink(project, name)
    make_revisited(project.root / "sets", name)
    parameters = "data_root=sets" + (",distractors=true" if distractors else "")
    result = project.run("--params", parameters, env=name)
    assert result.exit_code == 0, result.output
    root = str(project.root / "sets")
    output = project.root / "data/07_model_output" / data_set_name(name, None, root, distractors)
    images = project.root / "data/02_intermediate" / output.name / "image_table.csv"
    assert (pd.read_csv(images)["split"] == "index").sum() == (10 if distractors else 8)
    runs = {run.info.run_name: run for run in project.mlflow_runs()}
    for variant in VARIANTS:
        metrics = json.loads((output / variant / "metrics.json").read_text())
        names = {f"mAP_{protocol}" for protocol in ("easy", "medium", "hard")}
        names |= {f"mP_at_{k}_{protocol}" for k in (1, 5, 10) for protocol in ("easy", "medium", "hard")}
        assert names <= metrics.keys()
        assert runs[variant].data.metrics.items() >= {key: metrics[key] for key in names}.items()
        for protocol in ("easy", "medium", "hard"):
            low, high = metrics[f"mAP_{protocol}_low"], metrics[f"mAP_{protocol}_high"]
            assert low <= metrics[f"mAP_{protocol}"] <= high
        assert metrics["mAP_medium"] > 0.5
    header = (project.root / "data/08_reporting/ablation.csv").read_text().splitlines()[0]
    assert header.startswith("variant,mAP_at_100,")


@pytest.mark.parametrize(
    ("environment", "parameters", "message"),
    [
        ("gldv2", (), "give-the-folder-with-data_root: no such folder; give the folder of GLDv2"),
        ("roxford5k", (), "gnd_roxford5k.pkl (or .mat) is not there"),
        ("test", ("--params", "data_root=elsewhere"), "'data_root' has no meaning in this environment"),
        ("gldv2", ("--params", "image_root=photos"), "'image_root' has no meaning in this environment"),
        ("gldv2", ("--params", "data_root=photos,distractors=true"), "'distractors' has no meaning"),
        ("gldv2", ("--params", "data_rot=photos"), "did you mean 'data_root'"),
        ("gldv2", ("--params", "data_root=photos"), "test.csv is missing; get it with `kedro data-set"),
    ],
)
def test_what_is_missing_is_named(
    project: Project, environment: str, parameters: tuple[str, ...], message: str
) -> None:
    assert message in project.refuse(*parameters, env=environment)


@pytest.mark.parametrize("environment", ["gldv2", "roxford5k", "rparis6k"])
def test_environments_hold_the_settings_of_the_paper(bare_project: Project, environment: str) -> None:
    loaded = bare_project.catalog({"data_root": str(bare_project.root / "photos")}, env=environment).load(
        "parameters"
    )
    for name in ("gem", "dir"):
        assert loaded[name].backbone.name == "resnet101"
        assert loaded[name].backbone.weights == "hub"
    assert loaded["gem"].pooling.power == 3.0
    assert loaded["dir"].pooling.kind == "rmac"
    assert loaded["local_features"].extractor.name == "delf"
    assert loaded["local_features"].extractor.dimensions == 40
    assert loaded["knn"].k == 100
    assert loaded["ranking"].length == (100 if environment == "gldv2" else 10_000)
    assert loaded["verification"].candidates == 10
    assert loaded["expansion"].images == 2
    assert loaded["label_bridge"].query_votes in (3, None)
    assert loaded["label_bridge"].index_votes in (3, None)
    assert loaded["data_set"].name == data_set_name(environment, None, str(bare_project.root / "photos"))


def test_environments_do_not_repeat_base() -> None:
    for environment in ("gldv2", "revisited"):
        for file in (ROOT / "conf" / environment).glob("parameters*.yml"):
            base = yaml.safe_load((ROOT / "conf" / "base" / file.name).read_text())
            own = yaml.safe_load(file.read_text())
            assert all(own[group] != base[group] for group in own), file
