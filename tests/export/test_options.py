from __future__ import annotations

from pathlib import Path

import pytest

from export.__main__ import main

MAKING = ("build", "train", "quantize", "prune")
LOOKING = ("sizes", "clean")
VERBS = (*MAKING, *LOOKING, "requantize", "restore", "compare", "seeds", "detector")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_can_be_told(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert ("--models" in shown) == (verb not in (*MAKING[1:], *LOOKING, "seeds"))
    assert ("--epochs" in shown) == ("--face-init" in shown) == (verb in MAKING[:3])
    assert ("--seed" in shown) == ("--age-trunk" in shown) == (verb in MAKING)
    assert "--runs" in shown


@pytest.mark.parametrize(
    ("verb", "option"),
    [(verb, "--models") for verb in (*MAKING[1:], *LOOKING)]
    + [
        ("prune", "--epochs"),
        ("prune", "--face-init"),
    ],
)
def test_what_would_change_nothing_is_refused(
    verb: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "tiny", "--data", "somewhere", option, "1"])
    assert stopped.value.code == 2
    assert f"unrecognized arguments: {option} 1" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [*MAKING, *LOOKING, "requantize", "restore"])
def test_a_recipe_that_is_not_there_is_told_by_each(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing but what has to be said: every verb finds what else it goes by."""
    assert main([verb, "nobody", "--data", str(tmp_path)]) == 2
    assert "no recipe 'nobody'" in capsys.readouterr().err
