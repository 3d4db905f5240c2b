from landmark_retrieval.runtime.text_tables import text_table


def test_names_to_the_left_and_numbers_to_the_right():
    cells = [["name", "mAP"], ["a", "0.5"], ["longer", "12.25"]]
    assert text_table(cells) == ["name      mAP", "-------------", "a         0.5", "longer  12.25"]


def test_more_columns_to_the_left_without_a_rule():
    assert text_table([["", "x"], ["row", "long"]], left=2, ruled=False) == ["     x", "row  long"]
