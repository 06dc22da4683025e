from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest

from gender_edge import ArgumentError, BackendError, Classifier, ImageError, Prediction
from gender_edge.batcher import Batcher


def _crops(classifier: Classifier, seed: int, count: int) -> list[np.ndarray]:
    side = classifier.spec.input_size
    return list(np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8))


def test_batches_are_shared_and_answers_find_their_way(classifier: Classifier) -> None:
    batcher = Batcher(classifier, max_batch=64, max_delay=5.0)
    answers: dict[int, list[Prediction]] = {}
    barrier = threading.Barrier(6)

    def ask(number: int) -> None:
        with batcher.caller():
            barrier.wait()
            answers[number] = batcher.ask(_crops(classifier, number, number))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 7)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 4  # all waited for it: the delay is not sat out
    assert batcher.batches == 1 and batcher.faces == 21
    for number, own in answers.items():
        expected = classifier.predict(np.stack(_crops(classifier, number, number)))
        assert [p.label for p in own] == [p.label for p in expected]
        np.testing.assert_allclose([p.female for p in own], [p.female for p in expected], atol=2e-3)
    batcher.close()
    with pytest.raises(BackendError, match="closed"):
        batcher.ask(_crops(classifier, 0, 1))


def test_who_announces_nothing_waits_for_nobody(classifier: Classifier) -> None:
    """Threads of a server that just ask: batches are what arrived while the last one ran."""
    with Batcher(classifier, max_delay=30.0) as batcher:
        threads = [
            threading.Thread(target=batcher.ask, args=(_crops(classifier, n, 1),), daemon=True)
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
            assert not thread.is_alive(), "it sat the delay out"
        assert batcher.faces == 8


@pytest.mark.parametrize(
    "options", [{"max_batch": 2.5}, {"max_batch": 0}, {"max_delay": math.inf}, {"max_delay": -1}]
)
def test_limits_that_make_no_sense(classifier: Classifier, options: dict[str, float]) -> None:
    before = threading.active_count()
    with pytest.raises(ArgumentError, match=f"{next(iter(options))}=.*expected"):
        Batcher(classifier, **options)  # type: ignore[arg-type]
    assert threading.active_count() == before


def test_what_is_no_crop_is_told(classifier: Classifier) -> None:
    with Batcher(classifier) as batcher:
        for wrong in (["face.jpg"], [None], _crops(classifier, 1, 1)[0]):
            with pytest.raises(ImageError, match=r"Classifier\.crop"):
                batcher.ask(wrong)  # type: ignore[arg-type]


def test_a_batch_has_its_limits(classifier: Classifier) -> None:
    """Full batches run at once; a lonely question waits for the delay and no longer."""
    fast = Batcher(classifier, max_batch=4, max_delay=0.05)
    with fast as batcher, batcher.caller(), batcher.caller():  # the second never asks
        started = time.monotonic()
        assert len(batcher.ask(_crops(classifier, 1, 2))) == 2
        assert 0.04 < time.monotonic() - started < 2
        batcher.max_delay = 5.0
        started = time.monotonic()
        assert len(batcher.ask(_crops(classifier, 1, 9))) == 9  # one question stays whole
        assert time.monotonic() - started < 2
        assert len(batcher.ask([])) == 0
    with pytest.raises(BackendError, match="closed"):
        batcher.ask(_crops(classifier, 1, 1))


def test_crops_that_do_not_fit_cost_their_batch_and_no_more(classifier: Classifier) -> None:
    """Two callers whose crops cannot be one batch: both are told, and nobody waits for ever."""
    batcher, told = Batcher(classifier, max_delay=0.5), []

    def ask(crops: list[np.ndarray]) -> None:
        try:
            batcher.ask(crops)
        except Exception as error:
            told.append(error)

    odd = [np.zeros((3, 3, 3), np.uint8)]
    threads = [threading.Thread(target=ask, args=(c,)) for c in (odd, _crops(classifier, 0, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert told and len(batcher.ask(_crops(classifier, 0, 1))) == 1
    batcher.close()


def test_an_engine_that_fails_is_told_and_survives(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = Batcher(classifier)
    with Classifier(classifier.name) as closed:
        pass
    with monkeypatch.context() as patch:
        patch.setattr(batcher, "classifier", closed)
        with pytest.raises(BackendError, match="was closed"):
            batcher.ask(_crops(classifier, 0, 1))
    assert len(batcher.ask(_crops(classifier, 0, 1))) == 1
    batcher.close()


def test_a_bad_crop_costs_only_whoever_asked_for_it(classifier: Classifier) -> None:
    batcher = Batcher(classifier, max_batch=64, max_delay=0.5)
    (good,) = _crops(classifier, 0, 1)
    found: list[list[Prediction]] = []
    asking = threading.Thread(target=lambda: found.append(batcher.ask([good])))
    asking.start()
    for bad in (good[1:], good.astype(np.float32)):
        with pytest.raises(ImageError, match=r"a crop of .* expected"):
            batcher.ask([good, bad])
    asking.join()
    assert len(found[0]) == 1 and batcher.faces == 1
    batcher.close()
