"""What many tests share: a tiny site of coloured people, a tiny recipe, one thread so that times and bits repeat."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from passerby.recipe import Recipe, load_recipe

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start; it also fixes the count of a run
torch.set_num_threads(1)
hypothesis.settings.register_profile(  # how long an example takes, or its making, says how busy a machine is
    "passerby", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("passerby")

TRAIN_IDENTITIES, TEST_IDENTITIES, CAMERAS, IMAGES_PER_CAMERA = 6, 4, 2, 4
SIZE = (64, 32)  # height, width


def draw_person(identity: int, generator: np.random.Generator) -> np.ndarray:
    """Return (64, 32, 3) uint8: a coat and trousers in the person's own colours on a grey wall, with some noise."""
    colours = np.random.default_rng(1000 + identity).integers(30, 226, (2, 3))
    pixels = np.full((*SIZE, 3), 128, dtype=np.int64)
    left = int(generator.integers(6, 10))
    pixels[8:36, left : left + 16] = colours[0]
    pixels[36:60, left : left + 16] = colours[1]
    return np.clip(pixels + generator.integers(-20, 21, pixels.shape), 0, 255).astype(np.uint8)


def write_site(root: Path, *, train_identities: int = TRAIN_IDENTITIES, wardrobe: int = 0) -> Path:
    """Write a site in the layout of Market-1501; another wardrobe is other people with the same numbers."""
    generator = np.random.default_rng(wardrobe)
    people = range(1, train_identities + TEST_IDENTITIES + 1)
    for identity in people:
        for cam in range(1, CAMERAS + 1):
            for number in range(IMAGES_PER_CAMERA):
                gallery = "query" if number == 0 else "bounding_box_test"
                folder = root / ("bounding_box_train" if identity <= train_identities else gallery)
                folder.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(draw_person(identity + 100 * wardrobe, generator))
                image.save(folder / f"{identity:04d}_c{cam}s1_{number:06d}_00.jpg", quality=95)
    return root


def write_clothes(site: Path, file: Path) -> Path:
    """Write the training images of a site as a table in which each person wears two outfits."""
    names = sorted(path.name for path in (site / "bounding_box_train").iterdir())
    rows = [
        f"{site / 'bounding_box_train' / name},{name[:4]},{name[6]},train,{'red' if int(name[10:16]) < 2 else 'blue'}"
        for name in names
    ]
    file.write_text("\n".join(["path,pid,cam,role,clothes", *rows]) + "\n")
    return file


def copy_marked(source: str, target: str) -> None:
    """Copy an image so that its pixels are the same and its bytes are not: as other people, for `copytree`."""
    Path(target).write_bytes(Path(source).read_bytes() + str(target).encode())


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep measurements of steps out of the cache of whoever runs the tests; processes that tests start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _nothing_is_timed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all steps be equally fast, so that `auto` chooses the same on every machine; marker `timed` measures."""
    if "timed" not in request.keywords:
        monkeypatch.setattr("passerby.training.probe.measure", lambda steps, **_: [1.0] * len(steps))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures of report pages empty: drawing them takes a second, and tests of words need none of them."""
    empty = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    monkeypatch.setattr("passerby.report.figure_files.svg_text", lambda _figure: empty)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 people to learn from (2 cameras x 4 images) and 4 others to test on (8 query, 24 gallery images)."""
    return write_site(tmp_path_factory.mktemp("site") / "Market-1501-v15.09.15")


@pytest.fixture(scope="session")
def masks(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foreground mask for every image of the tiny site, in a folder of their own."""
    folder = tmp_path_factory.mktemp("masks")
    person = np.zeros(SIZE, dtype=np.uint8)
    person[8:60, 8:22] = 255
    for image in sorted(site.rglob("*.jpg")):
        path = (folder / image.relative_to(site)).with_suffix(".png")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(person).convert("1").save(path)
    return folder


TINY = {
    "input": {"size": [32, 16]},
    "data": {
        "sampler": {"kind": "pk", "identities": 4, "instances": 2},
        "workers": 0,
        "augment": {"pad": 2, "jitter": {}},
    },
    "model": {"backbone": "test_resnet", "last_stride": 1},
    "optim": {"lr": 1e-3, "warmup_epochs": 1, "schedule": "constant"},
    "stages": [{"train": ["market1501"], "epochs": 2}],
    "test": {"every": 0, "rerank": {"k1": 6, "k2": 2}},
    "engine": {"device": "cpu", "precision": "float32", "channels_last": True},
}
"""Six batches of 4 x 2 images per epoch, with every augmentation on."""

JOINT = "stages=[{train: [market1501, other], epochs: 2}]"
"""Override: with a second site of 3 people (24 images), whose identity and camera numbers are those of the first."""


@pytest.fixture(scope="session")
def tiny_file(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe as a file, so that overrides and `extends` work on it."""
    import yaml

    other = write_site(tmp_path_factory.mktemp("other"), train_identities=3, wardrobe=1)
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    datasets = {"other": {"kind": "market1501", "root": str(other)}}
    for name, root in (("dressed", site), ("dressed_other", other)):
        datasets[name] = {"kind": "csv", "path": str(write_clothes(root, path.with_name(f"{name}.csv")))}
    path.write_text(yaml.safe_dump({"root": str(site.parent), "datasets": datasets, **TINY}))
    return path


@pytest.fixture(scope="session")
def tiny(tiny_file: Path):
    """Make a recipe for the tiny site: `tiny("optim.lr=0.1")`."""

    def make(*overrides: str) -> Recipe:
        return load_recipe(str(tiny_file), overrides)

    return make


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for doctests in the package only: looking through all tests takes 13 s of each worker."""
    collectors = yield
    return [each for each in collectors if not type(each).__name__.startswith("Doctest")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where torch sees none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda") is not None:
                item.add_marker(pytest.mark.skip(reason="torch sees no GPU"))
