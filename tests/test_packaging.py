"""The built distribution: sdist, wheel and editable install, made from a copy of the tree without a network.

The chain is tree -> sdist -> wheel -> installation, so what one step forgets, a later one misses.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

import pytest

import nnfast

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
FOLDERS = {"nnfast": "nnfast", "nnfast.kernels": "kernels"}
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist", "__pycache__"
)

# Run in an empty folder; argv[1] is where everything under test lies.
CHECK = """
import importlib.util, json, sys
import nnfast, nnfast.kernels, nnfast.kernels.reference
from nnfast.registry import get_backend
spec = importlib.util.find_spec("kernels")
print(json.dumps({
    "nnfast": nnfast.__file__,
    "kernels": nnfast.kernels.__file__,
    "version": nnfast.__version__,
    "backend": type(get_backend("numpy")).__module__,
    "loaded": "kernels" in sys.modules,
    "found": spec is not None and str(spec.origin).startswith(sys.argv[1]),
}))
"""


def installed_at_least(distribution: str, least: int) -> bool:
    try:
        return int(version(distribution).partition(".")[0]) >= least
    except PackageNotFoundError:
        return False


builds = pytest.mark.skipif(
    not (installed_at_least("setuptools", 77) and installed_at_least("pip", 23)),
    reason="building offline needs setuptools 77 and pip 23 or newer in this environment",
)


def run(*call: object, cwd: Path) -> str:
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "NNFAST_BACKEND")}
    done = subprocess.run(
        [str(part) for part in call], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{call}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """What a build front end does, without its isolated environment."""
    target.mkdir()
    run(sys.executable, "-c", f"from setuptools import build_meta as b; b.build_{kind}({str(target)!r})", cwd=source)
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("packaging") / "tree", ignore=IGNORED))


@pytest.fixture(scope="module")
def sdist(tree) -> Path:
    return build("sdist", tree, tree.parent / "sdist")


@pytest.fixture(scope="module")
def wheel(sdist) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parents[1] / "unpacked", filter="data")
    (source,) = (sdist.parents[1] / "unpacked").iterdir()
    return build("wheel", source, sdist.parents[1] / "wheel")


def installed(root: Path, name: str, *what: object) -> tuple[Path, dict[str, object]]:
    """A new environment with NumPy from this one, `what` installed into it; gives its scripts and what CHECK finds."""
    home = root / name
    venv.create(home, symlinks=os.name != "nt")
    places = {"base": str(home), "platbase": str(home)}
    ours = {sysconfig.get_path(key) for key in ("purelib", "platlib")}
    Path(sysconfig.get_path("purelib", "venv", places), "parent.pth").write_text("\n".join(ours), encoding="utf-8")
    scripts = Path(sysconfig.get_path("scripts", "venv", places))
    python = scripts / "python"
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--force-reinstall", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, cwd=root)
    empty = home / "empty"
    empty.mkdir()
    return scripts, json.loads(run(python, "-c", CHECK, root, cwd=empty))


def sources(*endings: str) -> set[str]:
    """Every Python file on disk, or every one with these endings, as the path that it is installed under."""
    return {
        str(PurePosixPath(package.replace(".", "/"), *path.relative_to(ROOT / folder).parts))
        for package, folder in FOLDERS.items()
        for ending in endings or (".py",)
        for path in (ROOT / folder).rglob(f"*{ending}")
    }


SHIPPED = (".py", ".cu", ".cuh")  # the CUDA sources are compiled where they run


def test_the_package_list_is_the_folders_on_disk():
    on_disk = {str(PurePosixPath(source).parent).replace("/", ".") for source in sources()}
    assert sorted(PACKAGES) == sorted(on_disk)
    assert PROJECT["tool"]["setuptools"]["package-dir"] == FOLDERS


def test_the_top_level_name_kernels_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", "import kernels"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "import nnfast.kernels" in done.stderr


@builds
def test_the_sdist_holds_all_sources(sdist):
    assert sdist.name == f"nnfast-{nnfast.__version__}.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    wanted = {source.replace("nnfast/kernels/", "kernels/") for source in sources(*SHIPPED)}
    assert wanted | {"pyproject.toml", "README.md", "LICENSE", "nnfast/py.typed"} <= names


@builds
def test_the_wheel_holds_all_sources_and_nothing_else(wheel):
    assert wheel.name == f"nnfast-{nnfast.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"nnfast-{nnfast.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
    assert {name for name in names if not name.startswith(info)} == sources(*SHIPPED) | {"nnfast/py.typed"}
    assert f"{info}/licenses/LICENSE" in names
    assert "License-Expression: MIT\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata


@builds
def test_the_wheel_works_from_an_empty_folder(wheel):
    root = wheel.parents[1]
    scripts, found = installed(root, "from-wheel", wheel)
    home = scripts.parent
    assert Path(str(found["nnfast"])).is_relative_to(home)
    assert Path(str(found["kernels"])).is_relative_to(home)
    assert found["version"] == nnfast.__version__
    assert found["backend"].startswith("nnfast.kernels.reference")
    assert (found["loaded"], found["found"]) == (False, False)
    facts = json.loads(run(scripts / "nnfast", "info", "--json", cwd=home / "empty"))
    assert facts["backends"]["numpy"]["available"] is True


@builds
def test_an_editable_install_works_from_an_empty_folder(tree):
    scripts, found = installed(tree.parent, "editable", "--editable", tree)
    assert found["nnfast"] == str(tree / "nnfast" / "__init__.py")
    assert found["kernels"] == str(tree / "kernels" / "__init__.py")
    assert found["version"] == nnfast.__version__
    assert (found["loaded"], found["found"]) == (False, False)
    # From the checkout `nnfast` is found in the working folder first, and its kernels still through the installation.
    assert "numpy" in run(scripts / "python", "-m", "nnfast", "info", cwd=tree)
