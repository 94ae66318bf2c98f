"""What is measured. Each section yields rows as they are known; SECTIONS names them all."""

from __future__ import annotations

import shutil
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import cv2
import torch
import torchvision.models as zoo
from PIL import Image
from torch import Tensor, nn

from camcli import explain, load
from camcli.capture.hooks import borrowed, tapped
from camcli.capture.windows import Window
from camcli.engine.explain import Explanation
from camcli.evaluation.evidence import BatchEvidence, MapEvidence
from camcli.evaluation.method_runner import MethodRunner
from camcli.evaluation.protocol import Protocol
from camcli.images.decode import decode
from camcli.images.find import Source, find
from camcli.images.preprocess import preprocess
from camcli.models.fold_batchnorm import fold_batchnorm
from camcli.models.model import Model
from camcli.models.precision import PRECISIONS
from camcli.runs import pipeline, resume
from camcli.runs.files import prepare
from camcli.runs.job import Job
from camcli.runs.manifest import MANIFEST, manifest
from camcli.runs.names import check_names
from camcli.runs.options import InputOptions
from camcli.runs.pipeline import Executor, run
from camcli.runs.save import written
from tests.bench.clock import (
    Contender,
    Row,
    against,
    camcli,
    command,
    peak_memory,
    ratio,
    watched,
)
from tests.support.jobs import changed

SAMPLES = Path(__file__).parents[2] / "sample_images"
CHEAP = ("gradcam", "gradcam++", "hirescam", "layercam")
"""Methods that cost one head backward beside the forward pass."""


@dataclass(frozen=True)
class Size:
    """How much is measured, on what; QUICK is as little as shows that it runs."""

    batch: int = 16
    pixels: int = 224
    repeats: int = 9
    images: int = 500
    many: int = 2000
    models: tuple[str, ...] = ()
    device: str = "cpu"
    photos: Path = SAMPLES

    def input(self, batch: int | None = None) -> Tensor:
        """Images (N,3,S,S) as the engine is given them."""
        images = torch.randn(batch or self.batch, 3, self.pixels, self.pixels, device=self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def of(self, *models: str) -> tuple[str, ...]:
        """The models of a section, or those that were asked for instead."""
        return self.models or models


QUICK = Size(batch=2, pixels=64, repeats=1, images=3, many=6, models=("squeezenet1_0",))


def bare(module: Any, images: Tensor) -> Contender:
    """The forward pass alone."""

    def run() -> None:
        with torch.inference_mode():
            module(images)

    return run


def engine(size: Size) -> Iterator[Row]:
    """The methods as the command runs them, beside the network's own forward pass."""
    for name in size.of("resnet50", "densenet121", "mobilenet_v2", "vgg16", "squeezenet1_0"):
        plain, model = _plain_and_folded(name, size)
        images = size.input()
        contenders = {"forward": bare(plain, images), "merged forward": bare(model.module, images)}
        for method in (*CHEAP, "guided-backprop"):
            contenders[method] = partial(explain, model, images, method)
        targets = ["pred", "top2"]
        contenders["gradcam, 2 targets"] = partial(explain, model, images, "gradcam", targets)
        with borrowed(model.module):
            with tapped(model.module, str(model.layer)) as tap:
                scores = model.module(images)
            best = scores.amax(1).sum()
        assert tap.acts is not None
        contenders["head backward"] = partial(
            torch.autograd.grad, best, tap.acts, retain_graph=True
        )
        most = "<= 1.15" if name in ("vgg16", "squeezenet1_0") else "<= 1.05"
        goals = {**dict.fromkeys(CHEAP, most), "guided-backprop": "<= 2.6"}
        yield from against("forward", contenders, size.repeats, ("engine", name), goals)


def peers(size: Size) -> Iterator[Row]:
    """Grad-CAM of resnet50 by other libraries, used as their documents show it, beside ours."""
    module = zoo.resnet50().eval().to(size.device)
    ours = fold_batchnorm(load("resnet50", "none", device=size.device))
    wanted = {size.batch: (">= 3.3", ">= 1.25", ">= 1.9"), 1: (">= 3.5", ">= 1.25", ">= 2.2")}
    for batch, goals in wanted.items():
        images = size.input(batch)
        contenders: dict[str, Contender] = {
            "camcli": partial(explain, ours, images, "gradcam"),
            "plain forward": bare(module, images.contiguous()),
        }
        for name, maker in PEERS.items():
            try:
                contenders[name] = maker(module, images.contiguous())
            except ImportError:
                sys.stderr.write(f"{name} is not installed here: left out\n")
        place = "peers", f"resnet50, batch {batch}"
        every = dict(zip(PEERS, goals, strict=True))
        yield from against("camcli", contenders, size.repeats, place, every)


def _pytorch_grad_cam(module: Any, images: Tensor) -> Contender:
    made = import_module("pytorch_grad_cam").GradCAM(module, [module.layer4])
    return partial(made, images, None)  # the best class


def _torchcam(module: Any, images: Tensor) -> Contender:
    made = import_module("torchcam.methods").GradCAM(module, "layer4")

    def run() -> None:
        scores = module(images)
        made(scores.argmax(1).tolist(), scores)

    return run


def _captum(module: Any, images: Tensor) -> Contender:
    made = import_module("captum.attr").LayerGradCam(module, module.layer4)

    def run() -> None:
        with torch.no_grad():
            best = module(images).argmax(1)
        made.attribute(images, target=best)

    return run


PEERS: Mapping[str, Callable[[Any, Tensor], Contender]] = {
    "pytorch-grad-cam": _pytorch_grad_cam,
    "torchcam": _torchcam,
    "captum": _captum,
}


def precision(size: Size) -> Iterator[Row]:
    """Grad-CAM of photos in half precision beside fp32: time, and how far its maps are the same."""
    for name in size.of("mini"):
        shown: dict[str, Callable[[], Explanation]] = {}
        for each in PRECISIONS:
            loaded = load(name, _learnt(name), precision=each, device=size.device)
            model = fold_batchnorm(loaded)
            photos = islice(cycle(sorted(size.photos.glob("*.jp*g"))), min(size.batch, size.images))
            (images,) = _batches(model, [*photos], size.batch)
            shown[each] = partial(explain, model, images.to(model.dtype), "gradcam")
        case = f"{name}, {len(images)} photos"
        yield from against("fp32", shown, size.repeats, ("precision", case))
        maps = {each: made().maps.flatten(1) for each, made in shown.items()}
        full = maps.pop("fp32")
        for each, half in maps.items():
            pairs = zip(full, half, strict=True)
            least = min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs)
            what = f"{each}, least correlation"
            yield Row("precision", case, what, least, least, ">= 0.99", "with fp32")


def _learnt(name: str) -> str:
    """The weights of a network to measure with: those that need no download, or random ones."""
    return "DEFAULT" if name == "mini" else "none"


def files(size: Size) -> Iterator[Row]:
    """The whole command over JPEG files beside the forward pass over the same tensors."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        photos = _photos(folder / "in", size)
        for name in size.of("resnet50", "squeezenet1_0"):
            model = load(name, "none", device=size.device)
            batches = _batches(model, photos, size.batch)
            arguments = camcli(
                *("explain", folder / "in", "--model", name, "--weights", "none", "--overwrite"),
                *("--output", folder / "out", "--device", size.device, "--quiet"),
            )

            def forward(model: Model = model, batches: list[Tensor] = batches) -> None:
                for batch in batches:
                    bare(model.module, batch)()

            goal = {"resnet50": "<= 1.11", "squeezenet1_0": "<= 1.33"}.get(name, "")
            contenders = {"forward": forward, "camcli explain": command(*arguments)}
            place = "files", f"{name}, {len(photos)} photos"
            rounds = min(3, size.repeats)
            yield from against("forward", contenders, rounds, place, {"camcli explain": goal})


def startup(size: Size) -> Iterator[Row]:
    """Commands beside the import of what they stand on."""
    python = partial(command, sys.executable, "-c")
    with tempfile.TemporaryDirectory() as out:
        explained = camcli("explain", next(SAMPLES.glob("*.jpg")), "--output", out)
        for base, name, arguments, goal in (
            ("import torch", "camcli --help", camcli("--help"), "<= 0.12"),
            ("import torchvision.models", "one image with mini", explained, "<= 1.25"),
        ):
            contenders = {base: python(base), name: command(*arguments)}
            yield from against(base, contenders, size.repeats, ("start-up", ""), {name: goal})


def memory(size: Size) -> Iterator[Row]:
    """Peak resident memory for a few images and for many."""
    few = max(1, size.many // 20)
    with tempfile.TemporaryDirectory() as made:
        peaks = {}
        for count in (few, size.many):
            folder = Path(made) / str(count)
            _photos(folder / "in", size, count)
            out, device = ("--output", folder / "out"), ("--device", size.device)
            arguments = camcli("explain", folder / "in", *out, *device, "--quiet")
            peaks[count] = peak_memory(arguments)
            shutil.rmtree(folder)
    for count, peak in peaks.items():
        goal = "<= 1.05" if count == size.many else ""
        case = f"mini, {count} photos"
        yield Row("memory", case, "peak", peak / 2**20, peak / peaks[few], goal, "MiB")


def occlusion(size: Size) -> Iterator[Row]:
    """Occlusion of one image beside the forward passes of all its covered copies."""
    window = Window(32, 16)
    for name in size.of("vgg16", "resnet50"):
        plain, model = _plain_and_folded(name, size)
        image = size.input(1)
        rows, columns = (len(covered) for covered in window.covering(*image.shape[2:]))
        covered = image.expand(rows * columns, -1, -1, -1)

        def naive(plain: nn.Module = plain, covered: Tensor = covered) -> None:
            for batch in covered.split(window.batch_size):
                bare(plain, batch.contiguous(memory_format=torch.channels_last))()

        contenders = {
            "every window": naive,
            "occlusion": partial(explain, model, image, "occlusion", window=window),
        }
        goal = {"vgg16": "<= 0.4", "resnet50": "<= 0.75"}.get(name, "")
        place, rounds = ("occlusion", f"{name}, {len(covered)} windows"), min(3, size.repeats)
        yield from against("every window", contenders, rounds, place, {"occlusion": goal})


def evaluate(size: Size) -> Iterator[Row]:
    """Insertion and deletion beside forward passes of as many images."""
    for name in size.of("squeezenet1_0"):
        plain, model = _plain_and_folded(name, size)
        runner = MethodRunner(model, ("gradcam",), Protocol(), batch_size=size.batch)
        batches = size.input(min(100, size.images)).split(size.batch)
        explained = [BatchEvidence(runner, batch, range(len(batch))) for batch in batches]
        passes = 2 * (runner.protocol.curve_steps + 1)

        def curves(explained: list[BatchEvidence] = explained) -> None:
            for batch in explained:
                maps = MapEvidence(batch, "gradcam")
                assert maps.insertion_curve.shape == maps.deletion_curve.shape

        def forwards(
            plain: nn.Module = plain, batches: Any = batches, passes: int = passes
        ) -> None:
            for batch in batches:
                for _ in range(passes):
                    bare(plain, batch)()

        contenders = {"masked images": forwards, "insertion and deletion": curves}
        place = "evaluate", f"{name}, {sum(map(len, batches))} images, {passes} passes each"
        goals = {"insertion and deletion": "<= 1.15"}
        yield from against("masked images", contenders, min(2, size.repeats), place, goals)


def _plain_and_folded(name: str, size: Size) -> tuple[nn.Module, Model]:
    """A network as it is published, and as the command runs it."""
    model = load(name, "none", device=size.device)
    return model.module, fold_batchnorm(model)


def stages(size: Size) -> Iterator[Row]:
    """Processor time an image of each stage, beside the network's, with one thread."""
    threads, count = torch.get_num_threads(), min(64, size.images)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        photos = _photos(folder / "in", size, count)
        sources = [Source(photo, Path(photo.name)) for photo in photos]
        for name in size.of("mini", "resnet50"):
            model = load(name, _learnt(name), device=size.device)
            output = folder / name
            job = Job(
                sources,
                model,
                ["gradcam"],
                ["pred"],
                output,
                inputs=InputOptions(batch_size=size.batch),
            )
            taken = _processor_time(job)
            for what, seconds in taken.items():
                cost = 1e3 * seconds / count, seconds / taken["explain"]
                yield Row("stages", f"{name}, {count} photos", what, *cost, "", "ms/image")
        sizes = [
            sum(file.stat().st_size for file in made_of) / count
            for made_of in (photos, [*output.glob("*.png")], [*output.glob("*.npy")])
        ]
        rows = MANIFEST
        sizes += [(output / rows).stat().st_size / count, _held(lambda: find([str(folder / "in")]))]
        sizes.append(_held(lambda: list(resume.rows(output))))
        names = ("read", "overlay", "map", "manifest", "list, in memory", "manifest, in memory")
        for what, size_of in zip(names, sizes, strict=True):
            cost = size_of / 1000, size_of / sizes[0]
            yield Row("stages", "bytes", what, *cost, "", "kB/image")
    torch.set_num_threads(threads)


def _held(make: Callable[[], Sized]) -> float:
    """Bytes of memory that each item of something takes while it is made, at most."""
    tracemalloc.start()
    made = make()
    held = tracemalloc.get_traced_memory()[1] / len(made)
    tracemalloc.stop()
    return held


def _processor_time(job: Job) -> dict[str, float]:
    """Seconds of this thread for the stages of a job, one after the other."""
    prepare(job.output)
    row = next(iter(run(replace(job, sources=job.sources[:1]))))[0]  # and all is loaded
    taken: dict[str, float] = {}

    def timed(what: str, stage: Callable[[], Iterable[Any]]) -> list[Any]:
        began = thread_time()
        made = list(stage())
        taken[what] = thread_time() - began
        return made

    folder = str(job.sources[0].path.parent)
    find([folder])
    timed("list", lambda: [check_names(job.output, find([folder]), job.results)])
    loaded = timed("read", lambda: map(partial(pipeline.load, job), job.sources))
    explained = timed("explain", lambda: pipeline._explained(job, loaded))
    timed("write", lambda: map(partial(written, job), explained))
    with manifest(job.output / MANIFEST) as add:
        timed("manifest", lambda: [add([row]) for _ in job.sources])
    return taken


def one_actor(size: Size) -> Iterator[Row]:
    """The Ray engine with one actor beside the local one: time once both are under way, memory.

    mini and small photos, so that what is not the network weighs as much as it can; photos of
    ordinary size for other models.
    """
    from camcli.runs.ray import UNIT_BATCHES, connected, ray_executor

    (name,) = size.of("mini")
    photographed, kind = (_thumbnails, "small photos") if name == "mini" else (_photos, "photos")
    start = min(UNIT_BATCHES * size.batch, size.many // 2)
    with tempfile.TemporaryDirectory() as made, connected(None):
        folder, few = Path(made), max(2, size.many // 4)
        job = Job(
            sources=[
                Source(file, Path(file.name))
                for file in photographed(folder / "in", size, size.many)
            ],
            model=fold_batchnorm(load(name, _learnt(name))),
            methods=["gradcam"],
            targets=["pred"],
            output=folder / "out",
            inputs=InputOptions(batch_size=size.batch),
        )

        def actor(count: int) -> float:
            given = changed(job, sources=job.sources[:count], overwrite=True)
            with watched(ACTOR) as peak:
                seconds = _under_way(*ray_executor(given, size.device, actors=1), start)
            peaks[count] = peak[0]
            return seconds

        seconds, peaks = dict[str, list[float]](local=[], ray=[]), dict[int, int]()
        for _ in range(min(3, size.repeats)):
            seconds["local"].append(_under_way(changed(job, overwrite=True), None, start))
            seconds["ray"].append(actor(size.many))
        place = "cluster", f"{name}, {size.many - start} {kind}"
        for name, taken in seconds.items():
            goal = "<= 1.15" if name == "ray" else ""
            yield Row(*place, name, median(taken), ratio(taken, seconds["local"]), goal)
        if size.repeats > 1 and peaks[size.many]:
            actor(few)
            for count in (few, size.many):
                goal = "<= 1.05" if count == size.many else ""
                case = f"{name}, {count} {kind}"
                row = peaks[count] / 2**20, peaks[count] / peaks[few]
                yield Row("cluster", case, "peak of the actor", *row, goal, "MiB")


ACTOR = "ray::MapWorker"
"""What Ray calls the process of an actor of Ray Data's."""


def _under_way(job: Job, executor: Executor | None, start: int) -> float:
    """Seconds to the end from image number `start`, with which an actor's report ends."""
    began = perf_counter()
    for number, _ in enumerate(run(job, executor), 1):
        if number == start:
            began = perf_counter()
    return perf_counter() - began


def _thumbnails(folder: Path, size: Size, count: int) -> list[Path]:
    """Photos of 160 pixels at most."""
    files = _photos(folder, size, count)
    for file in files:
        with Image.open(file) as image:
            image.thumbnail((160, 160))
            image.save(file)
    return files


def _photos(folder: Path, size: Size, count: int = 0) -> list[Path]:
    """Photos in a folder: of the given one over and over, each at most 500 pixels wide or high."""
    folder.mkdir(parents=True)
    given = sorted(file for file in size.photos.iterdir() if file.suffix == ".jpg")
    encoded = []
    for file in given[: count or size.images]:
        pixels = decode(file)
        scale = min(1.0, 500 / max(pixels.shape[:2]))
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        encoded.append(cv2.imencode(".jpg", small[:, :, ::-1])[1].tobytes())
    made = []
    for number, data in enumerate(islice(cycle(encoded), count or size.images)):
        made.append(folder / f"{number:05}.jpg")
        made[-1].write_bytes(data)
    return made


def _batches(model: Model, photos: list[Path], count: int) -> list[Tensor]:
    tensors = [preprocess(decode(photo), model.preset)[0] for photo in photos]
    return [
        torch.stack(tensors[start : start + count]).to(
            model.device, memory_format=torch.channels_last
        )
        for start in range(0, len(tensors), count)
    ]


SECTIONS: Mapping[str, Callable[[Size], Iterator[Row]]] = {
    "engine": engine,
    "peers": peers,
    "precision": precision,
    "files": files,
    "start-up": startup,
    "memory": memory,
    "occlusion": occlusion,
    "evaluate": evaluate,
    "stages": stages,
    "cluster": one_actor,
}
