"""The pytest plugin in a project of its own, as a user would use it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

# pytester removes the modules that its runs import, but torch cannot be imported twice, and two
# copies of a class do not match. Import all of them here first.
from camcli.runs import pipeline  # noqa: F401
from camcli.snapshots import accept, pictures, tables  # noqa: F401
from camcli.snapshots.pytest_plugin import _folder_name
from tests.support.files import ROOT, make_photo, manifest

pytest_plugins = ["pytester"]

PROJECT = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        testpaths = ["tests"]
        filterwarnings = ["error"]
        addopts = "--strict-markers --strict-config"
    """,
    "src/shop/__init__.py": """
        import torch
        from torch import nn

        def network(seed):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(3, 6, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(6, 5),
            )
    """,
    "tests/conftest.py": """
        import os, sys
        from pathlib import Path
        sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
    """,
    "tests/test_looks.py": """
        import os
        import pytest
        from shop import network

        SEED = int(os.environ.get("SEED", 0))

        def test_dog(cam_snapshot):
            cam_snapshot("data/dog.jpg", model=network(SEED), method=["gradcam++", "guided"],
                         target=[1, "pred"])
            cam_snapshot("data/dog.jpg", model=network(0), target=2)

        @pytest.mark.parametrize("target", ["top2", "a/b"])
        def test_targets(target, cam_snapshot):
            cam_snapshot("data/dog.jpg", model=network(0), target=target.replace("a/b", "3"))
    """,
}


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name, content in PROJECT.items():
        lines = content.strip("\n").splitlines()
        file = pytester.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(line[8:] for line in lines) + "\n")
    make_photo(pytester.path / "tests" / "data" / "dog.jpg")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # This process has imported the plugin: pytest cannot rewrite its asserts and warns about it.
    quiet = "-W ignore::pytest.PytestAssertRewriteWarning"
    monkeypatch.setenv(
        "PYTEST_ADDOPTS", f"-p camcli.snapshots.pytest_plugin -p no:cacheprovider {quiet}"
    )
    return pytester


def output(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines)


def test_first_run_fails_and_writes_nothing(project: pytest.Pytester) -> None:
    first = project.runpytest_inprocess()
    first.assert_outcomes(failed=3)
    assert (
        "no snapshot in tests/__cam_snapshots__/test_looks.test_dog: "
        "run pytest with --cam-snapshot-update"
    ) in output(first)
    assert not (project.path / "tests" / "__cam_snapshots__").exists()


def test_update_writes_a_folder_for_each_test(project: pytest.Pytester) -> None:
    project.runpytest_inprocess("--cam-snapshot-update").assert_outcomes(passed=3)
    snapshots = project.path / "tests" / "__cam_snapshots__"
    names = {path.name for path in snapshots.iterdir()}
    assert len(names) == 3
    assert {"test_looks.test_dog", "test_looks.test_targets[top2]"} < names
    assert {path.name for path in (snapshots / "test_looks.test_dog").iterdir()} == {
        *("call2", "dog.gradcam++.1.npy", "dog.gradcam++.npy", "dog.guided.1.npy"),
        *("dog.guided.npy", "manifest.jsonl", "run.json"),
    }
    project.runpytest_inprocess().assert_outcomes(passed=3)


def test_changed_network_fails_until_its_snapshot_is_updated(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.runpytest_inprocess("--cam-snapshot-update").assert_outcomes(passed=3)
    monkeypatch.setenv("SEED", "1")
    changes = project.path / "changes"
    changed = project.runpytest_inprocess("--cam-snapshot-diff", str(changes))
    changed.assert_outcomes(failed=1, passed=2)
    picture = changes / "test_looks.test_dog" / "dog.gradcam++.diff.png"
    assert picture.exists()
    assert f"picture: {picture}" in output(changed)
    assert "what changed" in output(changed)
    assert "_check" not in output(changed), "the failure shows a traceback of camcli"

    snapshots = project.path / "tests" / "__cam_snapshots__"
    before = {path: path.read_bytes() for path in snapshots.rglob("*.*") if path.is_file()}
    project.runpytest_inprocess("--cam-snapshot-update").assert_outcomes(passed=3)
    rewritten = {path.parent.name for path in before if before[path] != path.read_bytes()}
    assert rewritten == {"test_looks.test_dog"}, "a snapshot that is alike is written again"
    project.runpytest_inprocess().assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("cam_snapshot('none.jpg', model=network(0))", "none.jpg: No such file or directory"),
        ("cam_snapshot('data/dog.jpg', model='resnet19')", "unknown model 'resnet19'"),
        ("cam_snapshot('data/dog.jpg', model=network(0), method='cm')", "unknown method 'cm'"),
        ("cam_snapshot('data/dog.jpg', model=network(0), rtol=-1)", "rtol -1: expected a number"),
    ],
)
def test_wrong_call_gives_a_one_line_error(
    call: str, message: str, project: pytest.Pytester
) -> None:
    file = project.path / "tests" / "test_looks.py"
    file.write_text(f"from shop import network\ndef test_it(cam_snapshot):\n    {call}\n")
    found = project.runpytest_inprocess("--cam-snapshot-update", "--tb=short")
    found.assert_outcomes(failed=1)
    assert message in output(found)
    assert "Traceback" not in output(found)
    assert not (project.path / "tests" / "__cam_snapshots__").exists()


def test_unused_plugin_imports_nothing(project: pytest.Pytester) -> None:
    """Load the plugin by its entry point, as when installed, in a run that does not use it."""
    file = project.path / "tests" / "test_looks.py"
    file.write_text(
        "import sys\n"
        "def test_it(request):\n"
        "    assert request.config.pluginmanager.has_plugin('camcli')\n"
        "    assert not {'torch', 'numpy', 'click', 'PIL'} & set(sys.modules)\n"
    )
    (project.path / "tests" / "conftest.py").unlink()
    installed = project.path / "site" / "camcli_entry-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: camcli-entry\nVersion: 0\n")
    toml = (ROOT / "pyproject.toml").read_text()
    entry = re.search(r'\[project\.entry-points\.pytest11]\n(\w+) = "(.+)"', toml)
    assert entry
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{entry[1]} = {entry[2]}\n")
    environment = {"PYTHONPATH": f"{project.path / 'site'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_ADDOPTS"):
        project._monkeypatch.delenv(name)
    for name, value in environment.items():
        project._monkeypatch.setenv(name, value)
    found = project.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
    found.assert_outcomes(passed=1)


def test_folder_names_are_distinct_and_valid() -> None:
    assert _folder_name("tests/test_a.py::TestB::test_c[top2-1.5]") == (
        "test_a.TestB.test_c[top2-1.5]"
    )
    names = {
        _folder_name(f"test_a.py::test_c[{part}]") for part in ("a/b", "a:b", "a_b", "x" * 300)
    }
    assert len(names) == 4
    assert all(len(name) < 200 and not set(name) & set('/:"') for name in names)


def test_snapshot_is_an_output_folder_that_check_can_read(project: pytest.Pytester) -> None:
    project.runpytest_inprocess("--cam-snapshot-update").assert_outcomes(passed=3)
    folder: Path = project.path / "tests" / "__cam_snapshots__" / "test_looks.test_dog"
    assert [(row["image"], row["method"], row["target"]) for row in manifest(folder)] == [
        ("dog.jpg", method, target)
        for method in ("gradcam++", "guided")
        for target in ("1", "pred")
    ]
