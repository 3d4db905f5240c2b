import os

import pytest

from landmark_retrieval.runtime.cores import allowed_cores


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 4, 5}, raising=False)


def group(folder, limit):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(limit)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 4),
        ({"": "max 100000\n"}, 4),
        ({"": "150000 100000\n"}, 2),  # one and a half cores' worth of time keep two busy
        ({"": "10000 100000\n"}, 1),
        ({"": "3200000 100000\n"}, 4),
        ({"user": "300000 100000\n", "user/job": "max 100000\n"}, 3),
        ({"user": "max 100000\n", "user/job": "100000 100000\n"}, 1),
        ({"": "what is this\n"}, 4),
    ],
)
def test_cores_are_those_of_affinity_and_quota(tmp_path, limits, expected):
    for name, limit in limits.items():
        group(tmp_path / name, limit)
    mine = tmp_path / "mine"
    mine.write_text("1:name=systemd:/other\n0::/user/job\n")
    assert allowed_cores(tmp_path, mine) == expected


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("quota", "expected"), [("-1", 4), ("250000", 3)])
def test_quotas_of_control_groups_of_version_1_count(tmp_path, quota, expected):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert allowed_cores(tmp_path, tmp_path / "missing") == expected


def test_systems_without_affinity_or_control_groups_count_the_machine(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert allowed_cores(tmp_path, tmp_path / "missing") == 6
