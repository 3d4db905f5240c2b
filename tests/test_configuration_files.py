from __future__ import annotations

import logging.config
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.validation.type_extractor import TypeExtractor
from pydantic import BaseModel

from kedro_project import ROOT, Project
from landmark_retrieval.collection.naming import data_set_name
from landmark_retrieval.config_loader import PLAIN_GROUPS
from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.pipeline_registry import register_pipelines

CONF = ROOT / "conf"
FILES = sorted(file for file in CONF.rglob("*.yml") if "local" not in file.relative_to(CONF).parts)
ENVIRONMENTS = sorted(file.parent.name for file in CONF.glob("*/globals.yml") if file.parent.name != "local")
"""All that can be run; `revisited` is what two of them build on."""
MODELS: dict[str, type[BaseModel]] = TypeExtractor(register_pipelines()).extract_types_from_pipelines()
"""Parameter group -> the model that nodes take it as."""


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses keys that are given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = {key for key in keys if key != "<<" and keys.count(key) > 1}
        assert not repeated, f"{node.start_mark}: {repeated}"
        return super().construct_mapping(node, deep)


def read(file: Path) -> Any:
    return yaml.load(file.read_text(encoding="utf-8"), UniqueKeyLoader)


def groups_in(environment: str) -> list[tuple[Path, str]]:
    return [
        (file, group) for file in sorted((CONF / environment).glob("parameters*.yml")) for group in read(file)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_files_parse_without_repeated_keys(file: Path) -> None:
    assert isinstance(read(file), dict)


def test_files_belong_to_a_pipeline() -> None:
    for kind in ("catalog", "parameters"):
        names = {file.stem.removeprefix(f"{kind}_") for file in (CONF / "base").glob(f"{kind}*.yml")}
        assert names <= register_pipelines().keys()


def test_groups_are_given_once() -> None:
    groups = [group for _, group in groups_in("base")]
    assert sorted(groups) == sorted(set(groups))
    assert set(groups) == {*MODELS, *PLAIN_GROUPS}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_groups_validate_against_their_models(bare_project: Project, environment: str) -> None:
    """Every environment works once it is told where the photos are."""
    known = read(CONF / environment / "globals.yml")
    option = next(name for name in ("data_root", "image_root") if name in known)
    photos = str(bare_project.root / "photos")
    given = {option: photos} if environment != "base" else {}
    catalog = bare_project.catalog(given, env=environment)
    loaded = catalog.load("parameters")
    for group, model in MODELS.items():
        assert issubclass(model, Configuration), group
        assert isinstance(loaded[group], model), group
    if given:
        assert photos in str(catalog.get("photos")._describe())
        assert f"{option}=DIR" in (CONF / environment / "globals.yml").read_text(encoding="utf-8")
    assert loaded["data_set"].name.startswith(known["data_set"] or "photos")


@pytest.mark.parametrize("group", sorted(MODELS))
def test_options_named_in_files_exist_and_misspelt_ones_do_not(group: str) -> None:
    (file,) = (file for file, name in groups_in("base") if name == group)
    model = MODELS[group]
    options = read(file)[group]
    assert set(options) <= set(model.model_fields)
    option = next(iter(model.model_fields))
    with pytest.raises(LandmarkRetrievalError, match=f"unknown option '{option}x': did you mean") as caught:
        model.model_validate({f"{option}x": None})
    assert all(name in str(caught.value) for name in model.model_fields)


def test_settings_of_the_paper_are_the_defaults(bare_project: Project) -> None:
    loaded = bare_project.catalog(env="base").load("parameters")
    assert loaded["knn"].k == loaded["ranking"].length == 100
    assert loaded["knn"].approximate is None
    assert loaded["verification"].candidates == "auto"
    assert loaded["verification"].ransac.method == "pydegensac"
    assert loaded["expansion"].images == 2
    assert loaded["expansion"].database_side
    assert loaded["dir"].pooling.kind == "rmac"
    assert loaded["gem"].pooling.kind == "gem"


@pytest.mark.parametrize("environment", ["gldv2", "roxford5k", "rparis6k"])
def test_candidates_of_the_paper_where_its_figures_are_repeated(
    bare_project: Project, environment: str
) -> None:
    catalog = bare_project.catalog({"data_root": str(bare_project.root / "photos")}, env=environment)
    loaded = catalog.load("parameters")
    assert loaded["verification"].candidates == loaded["verification"].reach == 10
    assert loaded["verification"].budget(1000) is None
    assert not loaded["verification"].turns
    assert loaded["aggregated"].dimensions == 0


def test_an_environment_builds_on_another(bare_project: Project, tmp_path: Path) -> None:
    """A group counts as the environment has it, or else as the one that it builds on, or else as base."""
    project = bare_project.copy(tmp_path / "project")
    (project.root / "conf/rparis6k/parameters_egt.yml").write_text("egt: {p: 7}\n")
    given = {"data_root": "photos"}
    oxford, paris = (project.catalog(given, env=name) for name in ("roxford5k", "rparis6k"))
    assert [catalog.get("photos")._describe()["name"] for catalog in (oxford, paris)] == [
        "roxford5k",
        "rparis6k",
    ]
    first, second = oxford.load("parameters"), paris.load("parameters")
    differing = {group for group in MODELS if first[group] != second[group]}
    assert differing == {"egt", "data_set", "gem", "dir"}  # the last two by the folder of their weights
    assert (first["egt"].p, first["egt"].weights) == (10_000, "similarity")
    assert (second["egt"].p, second["egt"].weights) == (7, "verified")
    shared, base = read(CONF / "revisited/parameters_knn_graph.yml"), project.catalog().load("parameters")
    assert first["ranking"].length == shared["ranking"]["length"] != base["ranking"].length
    assert first["knn"] == base["knn"]


def test_one_seed_for_all(bare_project: Project, tmp_path: Path) -> None:
    project = bare_project.copy(tmp_path / "project")
    (project.root / "conf/test/globals.yml").write_text("data_set: tiny\nimage_root: photos\nseed: 7\n")
    loaded = project.catalog().load("parameters")
    assert loaded["data_set"].seed == loaded["verification"].seed == 7


def test_folders_of_one_name_do_not_share_artifacts(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "photos", tmp_path / "b" / "photos"
    assert data_set_name(None, str(first)) != data_set_name(None, str(second))
    assert data_set_name("demo", str(first)).startswith("photos-")
    assert data_set_name(None, str(first / ".." / "photos")) == data_set_name(None, str(first))
    assert data_set_name("demo", None) == "demo"
    assert data_set_name(None, None) == "none"


def test_artifacts_of_a_folder_have_their_own_place(bare_project: Project) -> None:
    photos = bare_project.root / "photos"
    catalog = bare_project.catalog({"image_root": str(photos)}, env="folder")
    name = data_set_name(None, str(photos))
    assert str(catalog.get("photos")._describe()["filepath"]) == str(photos)
    for artifact, layer in (("image_table", "02_intermediate"), ("blend.ranking", "07_model_output")):
        assert f"/data/{layer}/{name}/" in str(catalog.get(artifact)._describe()["filepath"])


def test_logging_configuration_is_valid() -> None:
    loggers = logging.config.DictConfigurator(read(CONF / "logging.yml"))
    assert loggers.config["version"] == 1
    assert {"landmark_retrieval", "kedro"} <= set(loggers.config["loggers"])


def test_telemetry_is_off() -> None:
    assert read(ROOT / ".telemetry") == {"consent": False}
