import pytest

from landmark_retrieval.runtime import progress
from landmark_retrieval.runtime.progress import image_progress


@pytest.mark.parametrize(("shown", "delay", "seen"), [(True, 0, True), (False, 0, False), (True, 60, False)])
def test_a_bar_appears_where_it_is_wanted_and_takes_long(
    shown: bool, delay: float, seen: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PROGRESS_DELAY", delay)
    with image_progress(3, "described", shown) as bar:
        for _ in range(3):
            bar.update()
    assert ("described" in capsys.readouterr().err) == seen
