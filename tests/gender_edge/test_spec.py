from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gender_edge import CropRule, ModelError, ModelSpec

SPEC = ModelSpec(
    name="slim_int8",
    labels=("female", "male"),
    input_size=64,
    precision="int8",
    crop=CropRule(box_margin=1.3),
    abstain_below={"female": 0.7, "male": 0.6},
    trained_on=("a:train",),
)
CROP = json.loads(SPEC.to_json())["crop"]


def test_round_trip() -> None:
    assert ModelSpec.from_json(SPEC.to_json(), "file") == SPEC


@given(st.text() | st.binary().map(repr) | st.integers().map(str))
def test_any_text_gives_our_error(text: str) -> None:
    with pytest.raises(ModelError, match="somewhere"):
        ModelSpec.from_json(text, "somewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "age"}, "found 'age'"),
        ({"format": 99}, "format 99"),
        ({"novelty": 1}, "upgrade"),
        ({"labels": ["one"]}, "incomplete"),
        ({"labels": ["woman", "man"]}, "expected female and male"),
        ({"temperature": 0}, "positive"),
        ({"temperature": "warm"}, "wrong"),
        ({"abstain_below": {"female": 7}}, "shares"),
        ({"abstain_below": None}, "wrong"),
        ({"color_order": "xyz"}, "bgr or rgb"),
        ({"name": "../elsewhere"}, "letters, digits"),
        ({"name": 5}, "wrong"),
        ({"precision": "bf16"}, "expected fp32, fp16, int8"),
        ({"input_size": 64.0}, "whole number"),
        ({"crop": {**CROP, "landmarks": CROP["landmarks"][:3]}}, "five landmarks"),
        ({"crop": {"fill": 1}}, "incomplete"),
    ],
)
def test_foreign_metadata_is_refused(change: dict[str, object], message: str) -> None:
    text = json.dumps({**json.loads(SPEC.to_json()), **change})
    with pytest.raises(ModelError, match=message):
        ModelSpec.from_json(text, "file")
