"""The wheel holds what it needs and nothing else, and works where it is installed, far from the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import regard

ROOT = Path(__file__).parent.parent


def execute(*words: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, with nothing of this process's paths in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the repository stays as it is and nothing left in it gets in."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    execute(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", ".", cwd=copy)
    [built] = (copy / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The Python of a fresh environment with the wheel in it, which finds what it depends on in this one."""
    place = wheel.parent / "environment"
    execute(sys.executable, "-m", "venv", "--without-pip", place, cwd=wheel.parent)
    python = place / "bin" / "python"
    execute(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel),
        cwd=wheel.parent,
    )
    look = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(execute(python, "-c", look, cwd=wheel.parent).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = ROOT / "src" / "regard"
    kept = {path for path in package.rglob("*") if path.suffix in {".py", ".html"} or path.name == "py.typed"}
    assert names == {str(path.relative_to(package.parent)) for path in kept}
    assert {"regard/py.typed", "regard/inspection/page.html", "regard/cli/main.py"} <= names
    assert wheel.name == f"regard-{regard.__version__}-py3-none-any.whl"


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")]
        licenses = [name for name in archive.namelist() if "/licenses/" in name]
    assert [Path(name).name for name in licenses] == ["LICENSE"]
    assert "License-Expression: Apache-2.0" in metadata and "Requires-Python: >=3.11" in metadata
    needed = re.findall(r"^Requires-Dist: ([^;\n]+)$", metadata, re.MULTILINE)
    assert needed and all(re.search(r">=\d", one) and re.search(r"<\d", one) for one in needed), needed


def test_it_works_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    assert regard.__version__ in execute(installed, "-m", "regard", "--version", cwd=tmp_path)
    assert execute(installed.parent / "regard", "--help", cwd=tmp_path).startswith("Usage: regard")
    found = json.loads(execute(installed, "-m", "regard", "doctor", "--json", cwd=tmp_path))
    assert found["regard"] == regard.__version__


def test_pages_come_from_the_installed_package(installed: Path, tmp_path: Path) -> None:
    look = "from regard.inspection import page; print(page.__file__, page.attention_page([], 'A title'))"
    out = execute(installed, "-c", look, cwd=tmp_path)
    assert out.startswith(str(installed.parent.parent)) and "<title>A title</title>" in out
