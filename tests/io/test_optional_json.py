import math

import pytest

from landmark_retrieval.io import ArtifactError, OptionalJSONDataset


def test_what_was_never_saved_is_empty(tmp_path):
    dataset = OptionalJSONDataset(filepath=str(tmp_path / "folder" / "a.json"))
    assert dataset.exists() and dataset.load() == {}
    dataset.save({"egt": {"t": math.inf}})
    assert dataset.load() == {"egt": {"t": math.inf}}


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_a_damaged_file_is_named(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"a\.json: damaged"):
        OptionalJSONDataset(filepath=str(file)).load()
