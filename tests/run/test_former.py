"""A resumed run writes over no record of its first half."""

from pathlib import Path

from sp_hf.run.former import write_record


def test_what_was_recorded_before_a_resume_stays(tmp_path: Path) -> None:
    recipe, former = tmp_path / "recipe.yaml", tmp_path / "recipe.until-step-6.yaml"
    for text, step in (("a", 0), ("b", 0), ("b", 6)):  # nothing to keep: afresh, afresh, the same
        write_record(recipe, lambda path, text=text: path.write_text(text), step)
        assert list(tmp_path.iterdir()) == [recipe]
    write_record(recipe, lambda path: path.write_text("c"), 6)
    assert (recipe.read_text(), former.read_text()) == ("c", "b")
    write_record(recipe, lambda path: path.write_text("d"), 6)  # c was of no step that is kept
    assert (recipe.read_text(), former.read_text()) == ("d", "b")
    write_record(recipe, lambda path: None, 6)
    assert recipe.read_text() == "d"
