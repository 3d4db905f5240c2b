from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from page_reader import read_page

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation import ablation_table, usage_intervals
from landmark_retrieval.reporting.matches import VerifiedMatch
from landmark_retrieval.reporting.report import (
    Chain,
    QueryPage,
    ReportConfig,
    ReportContent,
    Step,
    VariantResults,
    caption,
    change_counts,
    choose_queries,
    extremes,
    render_report,
)
from landmark_retrieval.reporting.thumbnails import placeholder
from variant_names import VARIANTS

NAN = float("nan")
NO_SKIPS = pd.DataFrame({"image_id": [], "reason": []})
COUNTS = {"query": 2, "index": 6, "train": 2}
METRICS = {"mAP_at_100": 0.5, "P_at_10": 0.25, "R_at_1": 1.0, "R_at_10": 0.75}


def table() -> pd.DataFrame:
    gains = dict(zip(VARIANTS, (0.5, 0.6, 0.7, 0.65), strict=True))
    return ablation_table(
        {name: {**METRICS, "mAP_at_100": value} for name, value in gains.items()}, {"blend": 1234.5}
    )


def page(row: int, before: float, after: float, results: tuple[int, ...] = (2, 3)) -> QueryPage:
    scores = (before, before, after, after)
    variants = [
        VariantResults(
            name, score, results, [number == 0 for number in range(len(results))], ["0.91", "label"]
        )
        for name, score in zip(VARIANTS, scores, strict=True)
    ]
    return QueryPage(row, variants, landmark="tower", relevant=1)


def render(pages: list[QueryPage], ids: list[str] | None = None, **options: Any) -> str:
    rows = {row for page in pages for row in page.images()}
    pictures = {row: placeholder(20 + row % 5) for row in rows}
    ids = ids or [f"image_{row}" for row in range(max(rows, default=0) + 1)]
    arguments: dict[str, Any] = {"ablation": table(), "skipped": NO_SKIPS, "counts": COUNTS, **options}
    return render_report(ReportContent(pages, pictures, ids, **arguments))


def test_every_image_has_a_text_and_is_embedded_once() -> None:
    html = render([page(0, 0.2, 0.9), page(1, 0.9, 0.2)])
    read = read_page(html)
    assert len(read.images) == 2 * (1 + 4 * 2)
    assert all(image["alt"] for image in read.images)
    assert len(re.findall(r"data:image/jpeg", html)) == 4
    shown = {str(image["class"]) for image in read.images}
    assert shown == {"i0", "i1", "i2", "i3"}
    for name in shown:
        (data,) = re.findall(
            rf"\.{name}{{background-image:url\(data:image/jpeg;base64,([^)]*)\)}}", read.styles
        )
        assert base64.b64decode(data, validate=True).startswith(b"\xff\xd8")


def test_the_page_is_self_contained() -> None:
    read = read_page(render([page(0, 0.2, 0.9)]))
    assert not {"script", "link", "iframe", "object"} & set(read.tags)
    assert all(str(image["src"]).startswith("data:") for image in read.images)
    assert all(link.startswith("#") and link[1:] in read.anchors for link in read.links)
    assert "http" not in read.styles and "@import" not in read.styles
    assert "prefers-color-scheme: dark" in read.styles and "max-width" in read.styles


def test_right_and_wrong_are_told_by_more_than_colour() -> None:
    read = read_page(render([page(0, 0.2, 0.9)]))
    assert read.text.count("✓") == 4 + 1 and read.text.count("✗") == 4 + 1  # results, and the legend
    alts = [str(image["alt"]) for image in read.images]
    assert (
        sum(alt.startswith("right: ") for alt in alts) == sum(alt.startswith("wrong: ") for alt in alts) == 4
    )


def test_what_it_says() -> None:
    pages = [page(0, 0.2, 0.9), page(1, 0.9, 0.2), page(4, 0.5, 0.5), page(5, NAN, NAN)]
    text = read_page(
        render(
            pages,
            data_set="demo",
            parameters={"knn.k": 100, "egt.t": 0.42},
            changes={"improved": 10, "worsened": 3, "unchanged": 7},
            skipped=pd.DataFrame({"image_id": ["broken_7"], "reason": ["file not found"]}),
            intervals=usage_intervals({name: np.array([0.1, 0.9, 0.5]) for name in VARIANTS}),
        )
    ).text
    for words in (
        "demo",
        "2 queries 6 index images 2 train images 1 skipped",
        "broken_7 file not found",
        "knn.k 100 egt.t 0.42",
        "10 queries improved, 3 worsened and 7 stayed the same",
        "▲ +0.7000 AP@100",
        "▼ -0.7000 AP@100",
        "= +0.0000 AP@100",
        "1 to find not scored",
        "0.200 AP",
        "1 0.91",
        "2 label",
        "1 to find",
        "0.5000",
        "1,234.5",
    ):
        assert words in text
    assert re.search(r"0\.\d{4} to 0\.\d{4}", text)
    assert "1 image skipped" in text and "they count as not found" in text
    assert "public" not in text  # the data set has no such division


def test_one_is_not_many() -> None:
    counts, changes = dict.fromkeys(COUNTS, 1), {"improved": 1, "worsened": 0, "unchanged": 0}
    text = read_page(render([page(0, 0.2, 0.9)], counts=counts, changes=changes)).text
    assert "1 query 1 index image 1 train image 0 skipped" in text
    assert "1 query improved, 0 worsened" in text
    assert "they count as not found" not in text


def test_a_small_gain_is_not_shown_as_none() -> None:
    scores = np.array([0.1, 0.9, 0.5])
    intervals = usage_intervals({"blend": scores, VARIANTS[1]: scores + 0.0004})
    assert "+0.0004 (+0.0004 to +0.0004)" in read_page(render([page(0, 0, 1)], intervals=intervals)).text


def test_captions_leave_out_the_folder_of_the_landmark() -> None:
    assert caption("tower/a_1", "tower") == "a_1"
    assert caption("tower/a_1", "mill") == caption("tower/a_1") == "tower/a_1"
    assert caption("tower", "tower") == "tower" and caption("tower/", "tower") == "tower/"
    ids = [f"tower/a_{row}" for row in range(9)]
    shown = QueryPage(0, page(0, 0.2, 0.9).variants, [[Step(2, False, 0.5), Step(3, False, 0.25)]])
    html = render(
        [shown], ids, landmarks=["tower"] * 8 + [""], extreme_queries={"best": [(8, 1.0), (0, 0.9)]}
    )
    read = read_page(html)
    assert "query 0.50 a_2 0.25 ✗a_3" in read.text
    assert "Best queries of the last variant 1.000 tower/a_8 0.900 a_0" in read.text
    # Whole where there is room, and to be had of every picture.
    assert "tower/a_0" in read.text
    assert {str(image["title"]) for image in read.images} == {ids[row] for row in (0, 2, 3, 8)}


def test_public_and_private_are_shown_when_there() -> None:
    with_usage = ablation_table({"blend": {**METRICS, "mAP_at_100_public": 0.123}}, {})
    text = read_page(render([page(0, 0, 1)], ablation=with_usage)).text
    assert "public" in text and "0.1230" in text and "private" not in text


def test_the_best_of_a_column_is_marked() -> None:
    html = render([page(0, 0, 1)])
    assert re.findall(r'class="best">0\.(\d+)', html) == ["7000"]


@pytest.mark.parametrize(
    "bad", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style>", "a_b&amp;"]
)
def test_everything_is_escaped(bad: str) -> None:
    step = Step(3, True, float("inf"), [1], [0.5, 0.6], label=bad)
    results = [VariantResults(bad, 0.5, [2, 3], [True, False], [bad, bad])]
    shown = QueryPage(0, results, [Chain(bad, 2, False, [step])], landmark=bad, relevant=1)
    html = render(
        [shown],
        [bad] * 4,
        data_set=bad,
        parameters={bad: bad},
        skipped=pd.DataFrame({"image_id": [bad], "reason": [bad]}),
        ablation=ablation_table({bad: METRICS}, {}),
    )
    read = read_page(html)
    plain = read_page(render([shown], ["plain"] * 4))
    assert "script" not in read.tags
    assert read.tags.count("style") == 1
    assert len(read.images) == len(plain.images)
    assert not any("onerror" in image for image in read.images)
    assert {str(image["title"]) for image in read.images} == {bad}
    assert bad in read.text


def test_trusted_paths() -> None:
    chains = [
        Chain(VARIANTS[2], 4, True, [Step(3, False, 0.81), Step(2, False, 0.625)]),
        Chain(VARIANTS[3], 1, True, [Step(2, True, float("inf"), [6, 7], [0.51, 0.92], "old tower")]),
        Chain(VARIANTS[3], 2, False, [Step(3, True, float("inf"), [6], [0.52, 0.93], "mill")]),
        Chain(VARIANTS[3], 3, False, [Step(3, True, float("inf"))]),
    ]
    base = page(0, 0.2, 0.9)
    shown = QueryPage(0, base.variants, chains)
    read = read_page(render([shown]))
    paths = read.text[read.text.index("Trusted paths") :]
    assert f"{VARIANTS[2]} result 4 query 0.81 image_3 0.62 ✓image_2" in paths
    assert f"{VARIANTS[3]} result 1 query 0.51 train image old tower train image 0.92 ✓image_2" in paths
    assert f"{VARIANTS[3]} result 2 query 0.52 mill 0.93 ✗image_3" in paths
    assert f"{VARIANTS[3]} result 3 query same label ✗image_3" in paths
    assert read.classes.count("bridge") == 2 and read.classes.count("train") == 3
    assert "train image image_6" in [image["alt"] for image in read.images]


def test_bare_steps_are_a_path_of_the_last_variant() -> None:
    shown = QueryPage(0, page(0, 0.2, 0.9).variants, [[Step(2, False, 0.5), Step(3, False, 0.25)]])
    assert shown.chains() == [Chain(VARIANTS[3], 2, False, shown.paths[0])]  # type: ignore[arg-type]
    assert f"{VARIANTS[3]} result 2 query 0.50 image_2 0.25 ✗image_3" in read_page(render([shown])).text


def test_a_query_without_results() -> None:
    assert read_page(render([page(0, 0, 0, results=())])).text.count("nothing found") == 4


def test_no_queries_at_all() -> None:
    assert "0 queries" in read_page(render([])).text


def test_a_missing_picture_is_a_grey_square() -> None:
    content = ReportContent([page(0, 0, 1)], {}, ["a", "b", "c", "d"], table(), NO_SKIPS, COUNTS)
    html = render_report(content)
    assert len(read_page(html).images) == 9


def test_a_thousand_queries_stay_below_the_limit() -> None:
    rng = np.random.default_rng(0)
    pages = [page(row, 0.1, 0.2, tuple(1000 + rng.integers(0, 3000, 2))) for row in range(1000)]
    ids = [f"image_{row}" for row in range(4000)]
    noise = rng.bytes(9000)
    pictures = dict.fromkeys(range(4000), noise)
    html = render_report(ReportContent(pages, pictures, ids, table(), NO_SKIPS, COUNTS), max_mib=5)
    shown = re.search(r"(\d+) more queries do not fit into a page of 5 MiB", read_page(html).text)
    assert shown and 0 < int(shown[1]) < 1000
    assert 4.5 * 2**20 < len(html.encode()) < 5 * 2**20


def test_choice_is_a_mix() -> None:
    change = np.concatenate(
        [np.linspace(0.1, 0.9, 20), np.linspace(-0.5, -0.1, 10), np.zeros(30), [np.nan] * 5]
    )
    values = np.stack([np.full(65, 0.5), np.full(65, 0.5) + change])
    chosen = choose_queries(values, 12)
    assert chosen[:6].tolist() == [19, 18, 17, 16, 15, 14]
    assert chosen[6:9].tolist() == [20, 21, 22]
    assert all(30 <= row < 60 for row in chosen[9:]) and len(set(chosen)) == 12
    assert choose_queries(values, 12).tolist() == chosen.tolist()
    assert set(choose_queries(values, 12, seed=1)[9:]) != set(chosen[9:])
    assert change_counts(values) == {"improved": 20, "worsened": 10, "unchanged": 30}


def test_choice_fills_up_and_takes_unscored_queries_last() -> None:
    values = np.array([[0.5, 0.5, 0.5, np.nan, 0.5], [0.5, 0.5, 0.9, np.nan, 0.5]])
    assert sorted(choose_queries(values, 4).tolist()) == [0, 1, 2, 4]
    assert choose_queries(values, 100).tolist()[0] == 2 and len(choose_queries(values, 100)) == 5
    assert choose_queries(values, 100).tolist()[-1] == 3
    for count in range(1, 6):
        assert len(choose_queries(values, count)) == count
    assert choose_queries(np.zeros((2, 0)), 3).tolist() == []


def test_best_and_worst() -> None:
    last = [0.5, np.nan, 1.0, 0.1, 0.9, 1.0]
    found = extremes(np.array([[0.0] * 6, last]), 2)
    assert found == {"best": [(2, 1.0), (5, 1.0)], "worst": [(3, 0.1), (0, 0.5)]}
    assert extremes(np.array([last]), 0) == {"best": [], "worst": []}
    assert extremes(np.ones((2, 4)), 8) == {"best": [(0, 1.0), (1, 1.0)], "worst": []}
    assert extremes(np.zeros((1, 0)), 3) == {"best": [], "worst": []}


def test_best_and_worst_are_shown_and_link_to_queries_on_the_page() -> None:
    read = read_page(
        render(
            [page(0, 0.2, 0.9)],
            [f"image_{row}" for row in range(9)],
            extreme_queries={"best": [(0, 0.9)], "worst": [(8, 0.125)]},
        )
    )
    assert "Best queries of the last variant 0.900 image_0" in read.text
    assert "Worst queries of the last variant 0.125 image_8" in read.text
    assert read.links.count("#q0") == 2 and "#q8" not in read.links


def test_published_figures_stand_apart_from_measured_ones() -> None:
    text = read_page(render([], published=[("theirs", None, 0.3218)], published_source="A paper.")).text
    assert "Published, not measured here whosepublicprivate theirs–0.3218 A paper." in text
    assert text.index("0.3218") > text.index("0.6500")
    assert "Published" not in read_page(render([])).text


def test_verified_matches_tell_what_geometry_found() -> None:
    points = np.zeros((31, 2))
    matches = [
        VerifiedMatch(0, 1, 80, points, points, True, True, b"\xff\xd8first"),
        VerifiedMatch(0, 2, 9, points[:4], points[:4], False, False, b"\xff\xd8second"),
        VerifiedMatch(0, 3, 9, points[:4], points[:4], False, None, b"\xff\xd8third"),
    ]
    read = read_page(render([], ["q", "right", "wrong", "unlabelled"], matches=matches, floor=20))
    assert "A pair counts as verified from 20 inliers" in read.text
    assert "same landmark, 31 inliers of 80 matches: verifiedq – right" in read.text
    assert "4 inliers of 9 matches: not verifiedq – wrong" in read.text
    alts = [str(image["alt"]) for image in read.images]
    assert alts == [
        "q and right: 31 inliers, same landmark",
        "q and wrong: 4 inliers, different landmarks",
        "q and unlabelled: 4 inliers, no landmark given",
    ]


def test_what_the_run_was_made_with() -> None:
    text = read_page(render([], facts={"commit": "0123abcd", "torch": "9.9"})).text
    assert "commit 0123abcd" in text and "torch 9.9" in text


def test_configuration() -> None:
    with pytest.raises(LandmarkRetrievalError, match="did you mean 'queries'"):
        ReportConfig(querys=3)  # type: ignore[call-arg]
    with pytest.raises(LandmarkRetrievalError):
        ReportConfig(queries=0)
