"""The workflows of the public forge, as far as they can be tried without it: what they name exists, and what must not
happen there cannot."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from batteries import NAMES

from nnfast.commands import COMMANDS

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = set(PROJECT["project"]["optional-dependencies"])
OLDEST = PROJECT["project"]["requires-python"].removeprefix(">=")
KNOWN = re.findall(r"Programming Language :: Python :: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.M)
NEWEST = "3.x"  # for setup-python: the newest that is released
SYSTEMS = {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "windows-2025"}
PINNED = re.compile(r"uses: (?P<action>[\w.-]+/[\w./-]+)@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", re.M)
MORE_RIGHTS = {("release.yml", "publish"): {"id-token": "write"}}
TOOLS = {"test", "uv"}  # run as they are


def workflow(text):
    made = yaml.safe_load(text)
    made["on"] = made.pop(True)  # a word of YAML for "yes"
    return made


def steps_of(text):
    for name, job in workflow(text)["jobs"].items():
        for step in job["steps"]:
            yield name, job, step


def matrix(job):
    return job.get("strategy", {}).get("matrix", {})


def pythons(text):
    """Every version of Python that a workflow asks for."""
    for _, job, step in steps_of(text):
        version = step.get("with", {}).get("python-version")
        if version is not None:
            yield from matrix(job)["python"] if version == "${{ matrix.python }}" else [version]


# ---- what may be wrong with one -------------------------------------------------------------------------------------


def faults(name, text):
    """All that is wrong with a workflow."""
    made = workflow(text)
    if made.get("permissions") != {"contents": "read"}:
        yield "it may do more than read"
    if "${{ github.workflow }}" not in str(made.get("concurrency")):
        yield "it has no concurrency group of its own"
    for job_name, job in made["jobs"].items():
        if job.get("permissions", {}) != MORE_RIGHTS.get((name, job_name), {}):
            yield f"{job_name} has other rights than it needs"
        if "timeout-minutes" not in job:
            yield f"{job_name} may hang"
        systems = matrix(job)["os"] if job["runs-on"] == "${{ matrix.os }}" else [job["runs-on"]]
        yield from (f"{job_name} runs on {system}" for system in systems if system not in SYSTEMS)
        if matrix(job).get("battery", list(NAMES)) != list(NAMES):
            yield f"{job_name} does not run every battery once"
    yield from wrong_actions(name, text)
    for job_name, _, step in steps_of(text):
        yield from (f"{job_name}: {wrong}" for wrong in wrong_commands(step.get("run", "")))
    yield from (f"Python {v} is not supported" for v in pythons(text) if v not in (*KNOWN, NEWEST))


def wrong_actions(name, text):
    for line in re.findall(r"uses:.*", text):
        if not PINNED.fullmatch(line):
            yield f"{line.split()[1]} is not pinned"
    if len(PINNED.findall(text)) < sum("uses" in step for _, _, step in steps_of(text)):
        yield "some action is written in another way"
    everywhere = {found[0] for other in TEXTS.values() for found in PINNED.finditer(other)}
    for found in PINNED.finditer(text):
        others = {pin for pin in everywhere if f" {found['action']}@" in pin} - {found[0]}
        yield from (f"{found['action']} has another pin elsewhere" for _ in others)
    for job, _, step in steps_of(text):
        options = step.get("with", {})
        if step.get("uses", "").startswith("actions/checkout@") and options.get("persist-credentials") is not False:
            yield f"{job} leaves the token in the checkout"
        if name == "release.yml" and any("cache" in option for option in options):
            yield f"{job} uses a cache"


def wrong_commands(script):
    """What a step would run that does not exist, or that is put together from what others may write."""
    if "${{" in script:
        yield "a script is made from an expression; hand it over as a variable"
    for line in script.splitlines():
        words = shlex.split(line)
        what = " ".join(words[:3])
        yield from (f"no extra {e}" for e in re.findall(r"\.\[([\w-]+)\]", line) if e not in EXTRAS)
        if what == "python -m pytest":
            yield from (f"no {word}" for word in words[3:] if not (ROOT / word).exists())
        elif words[:2] == ["python", "tests/batteries"]:
            given = [word for word in words[2:] if not word.startswith("-") and word != "$BATTERY"]
            yield from (f"no battery {word}" for word in given if word not in NAMES)
        elif words[0] == "bash":
            yield from () if (ROOT / words[1]).exists() else (f"no {words[1]}",)
        elif words[0] == "nnfast":
            yield from () if words[1] in COMMANDS else (f"no command {words[1]}",)
        elif what not in ("python -m pip", "python -m build", "python -m mkdocs") and words[0] not in TOOLS:
            yield f"nobody knows {line!r}"


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_wrong(name):
    assert list(faults(name, TEXTS[name])) == []


def test_what_ci_runs_exists():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    (target,) = re.findall(r"\bmake (\w+)", re.sub(r"#.*", "", script))
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    (extras,) = re.findall(r"EXTRAS=(\S+)", script)
    assert set(extras.split(",")) <= EXTRAS


PIN = "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8  # v5.0.0"
PIN_CHANGED = PIN.replace("08c6903c", "18c6903c")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("test.yml", "contents: read", "contents: write", "it may do more than read"),
        ("test.yml", "permissions:\n  contents: read\n", "", "it may do more than read"),
        ("test.yml", "${{ github.workflow }}-", "", "it has no concurrency group of its own"),
        ("release.yml", "id-token: write", "contents: write", "publish has other rights than it needs"),
        ("test.yml", "    timeout-minutes: 60\n", "", "all may hang"),
        ("test.yml", "macos-15", "macos-12", "all runs on macos-12"),
        ("weekly.yml", "cache, threads", "threads", "thorough does not run every battery once"),
        ("test.yml", PIN, "actions/checkout@v5", "actions/checkout@v5 is not pinned"),
        ("test.yml", PIN, PIN.partition(" ")[0], f"{PIN.partition(' ')[0]} is not pinned"),
        ("test.yml", f"uses: {PIN}", f'"uses": {PIN}', "some action is written in another way"),
        ("test.yml", PIN, PIN_CHANGED, "actions/checkout has another pin elsewhere"),
        ("test.yml", "persist-credentials: false", "fetch-depth: 0", "all leaves the token in the checkout"),
        ("release.yml", 'python-version: "3.x"', 'python-version: "3.x"\n          cache: pip', "build uses a cache"),
        ("weekly.yml", '"$BATTERY"', "${{ matrix.battery }}", "thorough: a script is made from an expression"),
        ("test.yml", "batteries threads", "batteries treads", "threading-layer: no battery treads"),
        ("test.yml", "tests/test_numba_threads.py", "tests/test_no.py", "threading-layer: no tests/test_no.py"),
        ("test.yml", '".[test]"', '".[tests]"', "no extra tests"),
        ("test.yml", "bash .ci/run", "bash .ci/walk", "all: no .ci/walk"),
        ("weekly.yml", "nnfast parity", "nnfast party", "parity: no command party"),
        ("test.yml", "bash .ci/run", "curl -s x", "all: nobody knows 'curl -s x'"),
        ("test.yml", '"3.11"', '"3.9"', "Python 3.9 is not supported"),
    ],
)
def test_what_is_wrong_is_found(name, old, new, said):
    assert old in TEXTS[name]
    assert any(said in fault for fault in faults(name, TEXTS[name].replace(old, new, 1)))


# ---- what is promised -----------------------------------------------------------------------------------------------


def runs(name, job):
    """The commands of a job, its variables before them."""
    made = workflow(TEXTS[name])["jobs"][job]
    variables = [f"{key}={value}" for key, value in made.get("env", {}).items()]
    return [*variables, *(line for step in made["steps"] for line in step.get("run", "").splitlines())]


def test_every_system_runs_the_tests_on_the_oldest_and_the_newest_python():
    asked = matrix(workflow(TEXTS["test.yml"])["jobs"]["all"])
    assert set(asked["os"]) == SYSTEMS
    assert asked["python"] == [OLDEST, NEWEST]
    assert {"bash .ci/run", "python -m pytest"} <= set(runs("test.yml", "all"))


def test_what_is_asked_of_the_jobs():
    """The order counts: what is taken away or exchanged is so before the tests."""
    bare = runs("test.yml", "without-numba")
    assert bare.index("python -m pip uninstall --yes numba llvmlite") < bare.index("python -m pytest")
    oldest = runs("test.yml", "oldest")
    (resolved,) = [line for line in oldest if "--resolution lowest-direct" in line]
    assert oldest.index(resolved) < oldest.index("python -m pytest")
    assert set(pythons(TEXTS["test.yml"])) == {OLDEST, NEWEST}
    nightly = runs("weekly.yml", "nightly")
    (exchanged,) = [line for line in nightly if '--index-url "$NIGHTLY"' in line and "numpy" in line]
    assert any(line.startswith("NIGHTLY=https://") and "nightly-wheels" in line for line in nightly)
    assert nightly.index(exchanged) < nightly.index("python -m pytest")
    assert workflow(TEXTS["weekly.yml"])["on"]["schedule"]
    layers = workflow(TEXTS["test.yml"])["jobs"]["threading-layer"]
    assert matrix(layers)["layer"] == ["workqueue", "omp", "tbb"]
    assert layers["env"] == {"NUMBA_THREADING_LAYER": "${{ matrix.layer }}"}


def test_python_versions_agree():
    oldest, *later = (int(version.partition(".")[2]) for version in KNOWN)
    assert f"3.{oldest}" == OLDEST
    assert later == list(range(oldest + 1, oldest + 1 + len(later)))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"Python (3\.\d+) or newer", makefile)) == {OLDEST}
    assert f"sys.version_info >= (3, {oldest})" in makefile
    (numba,) = [said for said in PROJECT["project"]["dependencies"] if said.startswith("numba")]
    (bound,) = re.findall(r"python_version < '3\.(\d+)'", numba)
    assert max(oldest, *later) < int(bound)


def test_warnings_are_errors():
    assert PROJECT["tool"]["pytest"]["ini_options"]["filterwarnings"] == ["error"]
    for text in TEXTS.values():
        assert not re.search(r"PYTHONWARNINGS|no:warnings| -W", text)
