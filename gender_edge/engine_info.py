"""What stands beside a TensorRT engine, in `<engine>.json`.

An engine file is raw, so that trtexec, Triton and DeepStream load it; the file beside it has the
model's own metadata, and what the engine was built from, by, on and for.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

from . import zoo
from .backends import tensorrt_api
from .backends.tensorrt_api import Target, TensorRT
from .caching import write_whole
from .errors import ModelError
from .spec import ModelSpec

# 2: several contexts share a profile (TensorRT 8.6); 3: names its model; 4: no smallest batch.
FORMAT_VERSION = 4


@dataclass(frozen=True)
class EngineInfo:
    """What stands beside an engine.

    Attributes:
        spec: the model's own metadata.
        model: what it was built from: a shipped name, or the path of a file.
        onnx_sha256: of the file it was built from.
        engine_sha256: of the engine itself.
        tensorrt: module name and full version that built it, the only ones that load it.
        gpu, capability: what it was built on; None for one built ahead of time.
        target: what it was built for.
    """

    spec: ModelSpec
    model: str
    onnx_sha256: str
    engine_sha256: str
    tensorrt: tuple[str, str]
    gpu: Optional[str]
    capability: Optional[str]
    target: Target

    @property
    def place(self) -> str:
        """The GPU or the compute capabilities that it runs on, as text."""
        if self.gpu is not None:
            return f"{self.gpu} ({self.capability})"
        return ", ".join(self.target.capabilities or tensorrt_api.RTX_PORTABLE)

    def misfit(self, api: TensorRT, gpu: str, capability: str) -> Optional[str]:
        """Why it would not run with this TensorRT on this GPU; None if it should."""
        if self.gpu is None:  # ahead of time, with RTX
            fits = capability in (self.target.capabilities or tensorrt_api.RTX_PORTABLE)
        else:
            fits = self.gpu == gpu or self.target.portable
        if fits and self.tensorrt == (api.name, api.version):
            return None
        return (
            f"built by {' '.join(self.tensorrt)} for {self.place}, found {api!r} on {gpu} "
            f"({capability})"
        )

    def rebuild(self, output: Path) -> str:
        """How to build it again here, for an error's end."""
        target = self.target
        words = ["gender-edge", "build", self.model, "--output", os.fspath(output)]
        words += ["--max-batch", str(target.max_batch)]
        words += ["--fp16"] if target.precision == "fp16" else []
        words += ["--portable"] if target.portable else []
        words += [part for capability in target.capabilities for part in ("--target", capability)]
        return f"build it again here: {shlex.join(words)}"

    def write(self, engine: Path) -> None:
        """Write it beside the engine."""
        content = {
            "format": FORMAT_VERSION,
            **asdict(self),
            "spec": json.loads(self.spec.to_json()),
        }
        write_whole(sidecar(engine), json.dumps(content, indent=1).encode())

    @classmethod
    def read(cls, engine: Path) -> EngineInfo:
        """Read what stands beside an engine.

        Raises:
            ModelError: nothing does, or it is of another format.
        """
        path = sidecar(engine)
        model = engine.stem if engine.stem in zoo.names() else "MODEL"
        rebuild = f"build it from its model: gender-edge build {model} --output {engine}"
        if not engine.exists():
            raise ModelError(
                f"{engine}: no such engine; {rebuild} (one that was built without --output lies in "
                "the cache, and is opened by the model's name)"
            )
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw.pop("format") != FORMAT_VERSION:
                raise ModelError(f"{path}: of another format; {rebuild}")
            target = raw.pop("target")
            target["capabilities"] = tuple(target["capabilities"])
            name, version = raw.pop("tensorrt")
            spec = ModelSpec.from_json(json.dumps(raw.pop("spec")), str(path))
            return cls(spec=spec, tensorrt=(name, version), target=Target(**target), **raw)
        except FileNotFoundError:
            raise ModelError(
                f"{path}: missing; an engine needs the file written beside it (labels, crop rule, "
                f"calibration): copy both, or {rebuild}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: cannot be read ({error}); {rebuild}") from error


def sidecar(engine: Path) -> Path:
    """`<engine>.json`."""
    return engine.with_name(engine.name + ".json")
