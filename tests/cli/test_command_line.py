"""The command line of `camcli explain`: output streams, exit codes and import costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import TINY, Run, refused, stderr, stdout
from tests.support.files import SAMPLES, make_photo, manifest


def test_imports_and_help_do_not_load_torch() -> None:
    for code in (
        "import camcli",
        "import camcli.cli; camcli.cli.camcli.main(['--help'], standalone_mode=False)",
        "import camcli.cli; camcli.cli.camcli.main(['explain', '--help'], standalone_mode=False)",
        "import camcli.cli; camcli.cli.camcli.main(['figure', '--help'], standalone_mode=False)",
        "import camcli.cli; camcli.cli.camcli.main(['ask', '--help'], standalone_mode=False)",
        "import camcli; list(camcli.METHODS)",
    ):
        check = (
            f"import sys; {code}; assert not {{'torch', 'cv2', 'matplotlib'}} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", check], check=True, stdout=subprocess.DEVNULL)


def test_module_and_version() -> None:
    command = [sys.executable, "-m", "camcli", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("camcli, version ")


def test_one_image(run: Run, photo: Path, tmp_path: Path) -> None:
    found = run("explain", photo, *TINY, "--output", tmp_path / "out")
    assert found.exit_code == 0
    assert "photo.jpg  gradcam  " in stdout(found)
    assert stdout(found).rstrip().endswith("out/photo.gradcam.png")
    notes = stderr(found).splitlines()
    assert "Note: squeezenet1_1 with weights none (random, seed 0) is untrained." in notes
    assert f"1 image -> {tmp_path}/out" in notes
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("manifest.jsonl", "photo.gradcam.npy", "photo.gradcam.png", "run.json")
    ]


def test_every_option(run: Run, tmp_path: Path) -> None:
    make_photo(tmp_path / "in" / "a.jpg")
    make_photo(tmp_path / "in" / "sub" / "b.jpg")
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"thing {i}\n" for i in range(1000)))
    found = run(
        *("explain", tmp_path / "in", *TINY, "--labels", labels, "--no-recursive", "--quiet"),
        *("--method", "occlusion", "--method", "gradcam++", "--method", "occlusion"),
        *("--target", "Thing 7", "--target", "top3", "--target", 12),
        *("--layer", "features.-3", "--output", tmp_path / "out", "--fit", "squash"),
        *("--save", "overlay,map", "--save", "heatmap,panel,map"),
        *("--colormap", "viridis", "--alpha", 0.3, "--blend", "even", "--scale", "probability"),
        *("--window", 100, "--stride", 50, "--batch-size", 2, "--workers", 1),
    )
    assert (found.exit_code, found.stdout_bytes, found.stderr_bytes) == (0, b"", b"")
    rows = manifest(tmp_path / "out")
    assert [(r["image"], r["method"], r["target"], r["layer"]) for r in rows] == [
        *(("a.jpg", "gradcam++", t, "features.10") for t in ("12", "Thing 7", "top3")),
        *(("a.jpg", "occlusion", t, None) for t in ("12", "Thing 7", "top3")),
    ]
    assert [r["class_name"] for r in rows[:2]] == ["thing 12", "thing 7"]
    for row in rows:
        for ending in ("npy", "png", "heatmap.png", "panel.png"):
            layer = f".{row['layer']}" if row["layer"] else ""
            name = f"a.{row['method']}.{row['target']}{layer}.{ending}"
            assert (tmp_path / "out" / name).exists()


def test_json_prints_the_manifest(run: Run, tmp_path: Path) -> None:
    make_photo(tmp_path / "in" / "ünï ☃.jpg")
    (tmp_path / "in" / "bad.jpg").touch()
    found = run("explain", tmp_path / "in", *TINY, "--json", "--output", tmp_path / "out")
    assert found.exit_code == 1
    assert found.stdout_bytes == (tmp_path / "out" / "manifest.jsonl").read_bytes()
    rows = [json.loads(line) for line in found.stdout_bytes.splitlines()]
    assert [row["status"] for row in rows] == ["error", "ok"]


def test_failed_images_are_reported(run: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("x")
    missing = tmp_path / "missing.jpg"
    options = (*TINY, "--method", "gradcam", "--method", "xgradcam", "--output", tmp_path / "o")
    found = run("explain", tmp_path / "text.jpg", photo, missing, *options)
    assert found.exit_code == 1
    errors = [line for line in stderr(found).splitlines() if line.startswith("Error")]
    assert errors == [
        f"Error: {tmp_path}/text.jpg: not an image that Pillow can read",
        f"Error: {missing}: No such file or directory",
    ]
    assert stderr(found).endswith("3 images -> " + f"{tmp_path}/o (2 failed)\n")
    assert (tmp_path / "o" / "photo.gradcam.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet19"], "unknown model 'resnet19': did you mean 'resnet18'"),
        (["--method", "gradcamm"], "unknown method 'gradcamm': did you mean 'gradcam'"),
        (["--layer", "feature"], "unknown layer 'feature': did you mean 'features'"),
        (["--colormap", "jett"], "unknown colormap 'jett': did you mean 'jet'"),
        (["--target", "tabbi"], "unknown target 'tabbi': did you mean 'tabby'"),
        (["--target", "1000"], "target 1000: expected a class index from 0 to 999"),
        (["--target", "top0"], "target 'top0': expected top1 to top1000"),
        (["--labels", "none.txt"], "labels 'none.txt': No such file or directory"),
        (["--weights", "none.pth"], "weights 'none.pth': no such file"),
        (["--device", "gpu"], "unknown device 'gpu': expected auto, cpu, cuda, cuda:N or mps"),
        (["--save", "overlay,pictures"], "unknown output 'pictures': did you mean"),
        (["--fit", "crop"], "unknown fit 'crop': did you mean"),
        (["--alpha", "2"], "alpha 2.0: expected 0 (photo only) to 1 (heat only)"),
        (["--alpha", "half"], "'half' is not a valid float"),
        (["--batch-size", "0"], "0 is not in the range x>=1"),
        (["--output", "/proc/none"], "cannot write to '/proc/none': "),
        (["--model", "vgg11", "--method", "cam"], "cam needs a network that ends in global"),
        (["--method", "occlusion", "--window", "500"], "window 500, stride 250: expected"),
        (["--fuse", "mean"], "fusion 'mean' needs two layers or more, got 1"),
        (["--boxes", "larg"], "unknown choice of boxes 'larg': did you mean 'largest'"),
        (["--box-threshold", "1"], "box threshold 1.0: expected a fraction of the map's maximum"),
        (["--method", "guided", "--save", "boxes"], "'guided' gives images, and only maps have"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, run: Run, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert message in refused(run("explain", photo, *TINY, "--output", out, "--quiet", *arguments))
    refused_at_first_batch = {"cam", "occlusion"} & {*arguments}
    assert refused_at_first_batch or not out.exists()


def test_no_images_and_no_command_are_wrong_usage(run: Run, tmp_path: Path) -> None:
    assert refused(run("explain", tmp_path, *TINY)) == f"no images in {tmp_path}: nothing to do"
    assert run().exit_code == 2
    assert run("explain").exit_code == 2
    assert run("explian").exit_code == 2


def test_guided_methods_warn_or_fail_without_relus(run: Run, photo: Path, tmp_path: Path) -> None:
    arguments = ("explain", photo, "--weights", "none", "--method", "guided", "--output", tmp_path)
    found = run(*arguments, "--model", "mobilenet_v3_small")
    assert found.exit_code == 0
    assert "Warning: guided backpropagation applies to this" in stderr(found)
    message = refused(run(*arguments, "--model", "efficientnet_b0", "--overwrite", "--quiet"))
    assert "needs ReLUs and this network has none" in message


def test_options_come_from_the_environment(
    run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMCLI_EXPLAIN_METHOD", "cam,occlusion")
    monkeypatch.setenv("CAMCLI_EXPLAIN_TARGET", "pred,German shepherd")
    monkeypatch.setenv("CAMCLI_EXPLAIN_WINDOW", "112")
    monkeypatch.setenv("CAMCLI_EXPLAIN_OUTPUT", str(tmp_path / "out"))
    assert run("explain", photo, *TINY).exit_code == 0
    assert [(row["method"], row["target"]) for row in manifest(tmp_path / "out")] == [
        (method, target)
        for method in ("cam", "occlusion")
        for target in ("German shepherd", "pred")
    ]


def test_several_layers_are_separate_or_fused(run: Run, photo: Path, tmp_path: Path) -> None:
    layers = ("--layer", "auto", "--layer", "features.5", "--layer", "features.-8")
    arguments = ("explain", photo, *TINY, "--method", "layercam", *layers, "--save", "map")
    assert run(*arguments, "--output", tmp_path / "each").exit_code == 0
    assert [row["map"] for row in manifest(tmp_path / "each")] == [
        *("photo.layercam.npy", "photo.layercam.features.5.npy")
    ], "features.-8 is features.5"
    assert run(*arguments, "--fuse", "mean", "--output", tmp_path / "one").exit_code == 0
    assert [row["map"] for row in manifest(tmp_path / "one")] == ["photo.layercam.mean.npy"]


def test_a_fixed_input_size_is_an_error_of_the_image(run: Run, photo: Path, tmp_path: Path) -> None:
    given = ("--model", "vit_b_32", "--weights", "none", "--fit", "full", "--output", tmp_path)
    found = run("explain", photo, *given)
    assert found.exit_code == 1
    assert b"vit_b_32 failed (Wrong image width! Expected 224" in found.stderr_bytes
    assert manifest(tmp_path)[0]["status"] == "error"


def test_standard_input(photo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "camcli", "explain", "-", *TINY, "--output", str(tmp_path)]
    subprocess.run(command, check=True, input=photo.read_bytes(), capture_output=True)
    assert np.load(tmp_path / "stdin.gradcam.npy").shape == (13, 13)


def test_boxes_are_printed_and_recorded(run: Run, tmp_path: Path) -> None:
    boxes = ("--save", "boxes", "--boxes", "all", "--box-threshold", 0.5)
    found = run("explain", SAMPLES / "dog.jpg", *TINY, *boxes, "--output", tmp_path)
    assert found.exit_code == 0
    (row,) = manifest(tmp_path)
    assert row["boxes"]
    printed = "".join(f"  box {x0},{y0},{x1},{y1}" for x0, y0, x1, y1 in row["boxes"])
    assert stdout(found).rstrip().endswith(printed)
    assert (tmp_path / "dog.gradcam.boxes.png").exists()
    found = run("explain", SAMPLES / "dog.jpg", "--save", "boxes", "--dry-run", "--output", "o")
    assert stdout(found).endswith("dog.jpg -> o/dog.gradcam.boxes.png\n")
