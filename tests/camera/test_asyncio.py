from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gender_edge import Classifier, ModelError
from gender_edge.camera import Camera
from gender_edge.faces import Faces, as_faces
from gender_edge.pipeline import Pipeline
from tests.camera.conftest import Scripted


def test_asyncio(clip: Callable[..., Path], head: np.ndarray, classifier: Classifier) -> None:
    """Between two results, others have their turn."""
    path = str(clip("slow", [head], 10, fps=5))
    ticks, seen = 0, []

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def collect() -> None:
        ticking = asyncio.create_task(tick())
        async with Pipeline([Camera(path, live=True)], classifier, Scripted(1)) as pipeline:
            async for result in pipeline:
                seen.append((result.number, ticks))
        assert not any(lane.thread.is_alive() for lane in pipeline._lanes if lane.thread)
        ticking.cancel()

    asyncio.run(collect())
    assert [number for number, _ in seen] == list(range(10))
    assert np.median(np.diff([at for _, at in seen])) >= 5  # there is time for 20


def test_asyncio_has_its_turn_though_results_never_run_out(
    portrait_clip: Path, classifier: Classifier
) -> None:
    ticks, seen = 0, []

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async def collect() -> None:
        ticking = asyncio.create_task(tick())
        async with Pipeline([str(portrait_clip)], classifier, Scripted(1)) as pipeline:
            async for _ in pipeline:
                time.sleep(0.02)  # the next is there before it is asked for
                seen.append(ticks)
        ticking.cancel()

    asyncio.run(collect())
    assert len(seen) == 30 and len(set(seen)) == 30


def test_asyncio_loses_nothing_when_cancelled(portrait_clip: Path, classifier: Classifier) -> None:
    def slow(frame: np.ndarray) -> Faces:
        time.sleep(0.02)
        return as_faces([])

    async def collect() -> tuple[list[int], int]:
        numbers, timeouts = [], 0
        async with Pipeline([str(portrait_clip)], classifier, slow) as pipeline:
            while True:
                try:
                    result = await asyncio.wait_for(pipeline.__anext__(), 0.005)
                    numbers.append(result.number)
                except asyncio.TimeoutError:
                    timeouts += 1
                except StopAsyncIteration:
                    return numbers, timeouts

    numbers, timeouts = asyncio.run(collect())
    assert numbers == list(range(30)) and timeouts >= 10


def test_asyncio_ends_though_a_camera_never_answers(
    silent: socket.socket, classifier: Classifier
) -> None:
    """And though nobody closed the pipeline."""
    url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/door"
    pipeline = Pipeline([url], classifier, Scripted(1))

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pipeline.__anext__(), 0.2)

    started = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - started < 2
    pipeline.close()
    assert list(pipeline) == []


def test_asyncio_tells_what_failed(portrait_clip: Path, classifier: Classifier) -> None:
    async def collect() -> None:
        async for _ in Pipeline([str(portrait_clip)], classifier, lambda frame: 7):
            pass

    with pytest.raises(ModelError, match="the detector gave int"):
        asyncio.run(collect())
