"""What leaves the tree: the wheel, the README, the folders' independence."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import report
from export import compare
from gender_edge import zoo
from gender_edge.deploy_browser import PAGE
from tests.conftest import ROOT

# Imported inside a function, or by a process of its own, and only where it is there.
EXCEPTIONS = {
    "gender_edge/rewriting.py": {"onnx"},  # when one network is derived from another
    "gender_edge/half.py": {"onnx"},  # for TensorRT of 10.12 or later
    "gender_edge/deploy.py": {"onnx"},  # for DeepStream
    "benchmarks/torch_reference.py": {"torch", "onnx"},  # what gpu_check compares with
}

WORKSHOP = ("architectures", "data", "compression", "training", "evaluation")  # none uses a later


def imported(section: str) -> set[str]:
    names: set[str] = set()
    for path in (ROOT / section).rglob("*.py"):
        own: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                own |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                own.add(node.module.split(".")[0])
        names |= own - EXCEPTIONS.get(path.relative_to(ROOT).as_posix(), set())
    return names


def neighbours(folder: str) -> set[str]:
    """What its modules take from beside it: first names after `from ..`."""
    names: set[str] = set()
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                taken = [node.module] if node.module else [alias.name for alias in node.names]
                names |= {name.split(".")[0] for name in taken}
    return names


def test_folders_stand_on_each_other_as_they_should() -> None:
    heavy = {"torch", "torchvision", "onnx", "scipy", "safetensors"}
    assert not imported("gender_edge") & {"export", "benchmarks", "matplotlib", "tqdm", *heavy}
    assert not imported("benchmarks") & {"export", *heavy}
    assert "benchmarks" not in imported("export")


@pytest.mark.parametrize("folder", WORKSHOP)
def test_workshop_s_folders_stand_on_each_other_in_order(folder: str) -> None:
    later = WORKSHOP[WORKSHOP.index(folder) + 1 :]
    assert not neighbours(f"export/{folder}") & {*later, "detector"}


def test_runtime_parses_as_python_3_9() -> None:
    for path in (ROOT / "gender_edge").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_wheel_works_from_an_empty_folder(tmp_path: Path, portrait_path: Path) -> None:
    """Built from the tree and unpacked alone: models inside, no workshop, classifies."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    command += ["--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        archive.extractall(tmp_path / "site")
        assert {f"gender_edge/browser/{name}" for name in PAGE} <= set(archive.namelist())
    assert {t for t in tops if not t.endswith(".dist-info")} == {"gender_edge"}
    empty = tmp_path / "empty"
    empty.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import gender_edge, gender_edge.zoo as zoo\n"
        f"assert gender_edge.__file__.startswith({str(tmp_path)!r})\n"
        "for name in zoo.names():\n"
        "    classifier = gender_edge.Classifier(name)\n"
        f"    faces = classifier.in_frame({str(portrait_path)!r}, [(178, 63, 90, 113)])\n"
        "    print(0 < faces[0].female < 1)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=empty, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["True"] * len(zoo.names())


def test_readme_table_is_generated() -> None:
    """Between the marks is, to the letter, what a committed result of the shipped files gives;
    so are the pages with all tables of each result.
    """
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        tables = report.markdown(json.loads(file.read_text()))
        assert file.with_suffix(".md").read_text() == tables, file
    page = (ROOT / "README.md").read_text()
    shown = re.search(f"{report.START}\n(.*?)\n{report.END}", page, re.DOTALL)
    assert shown
    details = re.findall(r"\]\((benchmarks/results/[^)]+\.md)\)", shown[1])[-1]
    result = json.loads((ROOT / details).with_suffix(".json").read_text())
    assert shown[1] == report.for_readme(result, details)
    measured = {variant["name"]: variant["sha256"] for variant in result["variants"]}
    assert measured == {name: zoo.entry(name).sha256 for name in zoo.names()}  # the present files


def test_label_noise_of_cards_is_the_committed_estimate() -> None:
    table = (ROOT / "benchmarks" / "results" / "labels.md").read_text()
    rows = [line.strip("|").split("|") for line in table.splitlines() if ":" in line]
    estimated = {row[0].strip(): row[-1].strip() for row in rows if len(row) == 8}
    for name in zoo.names():
        for tested, figures in zoo.entry(name).evaluation["sets"].items():
            noise = estimated[f"{tested}:{figures['split']}"]
            assert f"{100 * figures['label_noise']:.1f}" == noise, (name, tested)


def test_table_of_references_is_generated() -> None:
    file = ROOT / "benchmarks" / "results" / "references" / "table.json"
    assert file.with_suffix(".md").read_text() == compare.markdown(json.loads(file.read_text()))


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "export/README.md", "export/NOTES.md"],
)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target
