"""Blocks that fit the memory, and the choice of engine and device."""

import re

import faiss
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import KnnConfig
from landmark_retrieval.knn.candidates import FAISS_GPU_MAX_K, FaissEngine, TorchEngine, candidate_count
from landmark_retrieval.knn.engines import BlasEngine
from landmark_retrieval.knn.layout import GIB, Layout, Target, choose_target, make_engine, plan_memory

sizes = {
    "queries": st.integers(1, 10**6),
    "database": st.integers(1, 10**7),
    "dimensions": st.integers(1, 4096),
    "k": st.integers(1, 2000),
    "gpu": st.booleans(),
}


@settings(max_examples=200, deadline=None)
@given(memory_gib=st.floats(0.001, 256), threads=st.integers(1, 64), **sizes)
def test_blocks_fit_the_memory_or_the_error_says_what_would(
    queries, database, dimensions, k, gpu, memory_gib, threads
):
    config = KnnConfig(k=k, memory_gib=memory_gib, threads=threads)
    try:
        layout = plan_memory(queries, database, dimensions, config, gpu)
    except LandmarkRetrievalError as error:
        needed = float(re.search(r"at least ([\d.]+)", str(error))[1])
        assert needed > memory_gib
        enough = KnnConfig(k=k, memory_gib=needed, threads=threads)
        assert plan_memory(queries, database, dimensions, enough, gpu).database >= min(database, 512)
        return
    assert 1 <= layout.queries <= queries
    assert 1 <= layout.tile <= database and 1 <= layout.database <= database
    result = queries * k * 8
    blocks = (layout.queries + layout.database) * dimensions * 4
    products = layout.queries * min(layout.tile, layout.database) * 4
    assert result + blocks + products <= memory_gib * GIB


@given(**sizes)
def test_more_memory_never_means_smaller_blocks(queries, database, dimensions, k, gpu):
    blocks = [
        plan_memory(queries, database, dimensions, KnnConfig(k=k, memory_gib=gib), gpu).database
        for gib in (30, 60, 120)
    ]
    assert blocks == sorted(blocks)


def devices(monkeypatch, torch_gpus, faiss_gpus):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: torch_gpus)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: faiss_gpus, raising=False)
    if faiss_gpus:
        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    else:
        monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)


@pytest.mark.parametrize(
    ("device", "engine", "torch_gpus", "faiss_gpus", "expected"),
    [
        ("auto", "auto", 0, 0, Target("blas", ())),
        ("auto", "torch", 0, 0, Target("torch", ())),
        ("auto", "faiss", 0, 0, Target("faiss", ())),
        ("cpu", "auto", 2, 2, Target("blas", ())),
        ("cpu", "faiss", 2, 2, Target("faiss", ())),
        ("auto", "blas", 2, 2, Target("blas", ())),
        ("auto", "auto", 2, 2, Target("faiss", (0, 1))),
        ("gpu", "auto", 2, 0, Target("torch", (0, 1))),
        ("auto", "auto", 1, 0, Target("torch", (0,))),
        ("gpu", "torch", 1, 1, Target("torch", (0,))),
        ("gpu", "faiss", 1, 1, Target("faiss", (0,))),
    ],
)
def test_choice_of_engine_and_device(monkeypatch, device, engine, torch_gpus, faiss_gpus, expected):
    devices(monkeypatch, torch_gpus, faiss_gpus)
    assert choose_target(KnnConfig(device=device, engine=engine)) == expected


def test_torch_takes_over_where_faiss_selects_too_few(monkeypatch):
    devices(monkeypatch, 1, 1)
    assert candidate_count(2000) > FAISS_GPU_MAX_K
    assert choose_target(KnnConfig(k=2000)) == Target("torch", (0,))
    with pytest.raises(LandmarkRetrievalError, match="k = 2000 is too many for FAISS"):
        choose_target(KnnConfig(k=2000, engine="faiss"))


@pytest.mark.parametrize("engine", ["auto", "torch", "faiss"])
def test_gpu_that_is_not_there(monkeypatch, engine):
    devices(monkeypatch, 0, 0)
    with pytest.raises(
        LandmarkRetrievalError, match=r"^knn: device 'gpu' but no GPU was found; use"
    ) as error:
        choose_target(KnnConfig(device="gpu", engine=engine))
    assert "\n" not in str(error.value)


def test_engine_that_cannot_use_the_gpu(monkeypatch):
    devices(monkeypatch, 1, 0)
    with pytest.raises(LandmarkRetrievalError, match="FAISS sees no GPU; use engine 'torch' or device 'cpu'"):
        choose_target(KnnConfig(engine="faiss"))
    with pytest.raises(LandmarkRetrievalError, match="'blas' runs on the CPU"):
        choose_target(KnnConfig(device="gpu", engine="blas"))


@pytest.mark.parametrize(
    ("name", "kind"), [("blas", BlasEngine), ("torch", TorchEngine), ("faiss", FaissEngine)]
)
def test_engines_have_the_names_they_are_asked_for_by(name, kind):
    engine = make_engine(Target(name, ()), Layout(10, 100, 50), KnnConfig(k=5))
    assert type(engine) is kind and engine.name == name
