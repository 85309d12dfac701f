"""The whole pipeline on synthetic data: generate, train, evaluate, report. No download, no GPU, a few minutes.

The second demo goes on over several cameras: clips, tracklets, one identity per person, a page.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from passerby.association.associate import AssociationSettings, associate
from passerby.association.topology import read_topology
from passerby.commands.associating import describe_association, scores_of, write_identities
from passerby.commands.tracklets import TrackletsRequest, make_all_tracklets
from passerby.commands.training import train_and_report
from passerby.console import bar
from passerby.data.synthetic.clips import DEFAULT_SIZE, TOPOLOGY, make_clips
from passerby.data.synthetic.site import make_site
from passerby.data.synthetic.visits import ClipSize
from passerby.device import InferenceSettings
from passerby.report.identities_page import write_identities_page
from passerby.types import Tracklets


def run_demo(folder: Path, *, seed: int, console: Console) -> Path:
    """Run the demo in `folder` and return its report.

    Finished steps are kept: an interrupted demo is resumed.
    """
    console.rule("1. render a synthetic site; no real person is in it")
    with bar("rendering", console) as advance:
        root = make_site(folder / "people", "plaza", seed=seed, progress=advance)
    console.print(f"{len(list(root.rglob('*.jpg')))} images in the layout of Market-1501: {root}", highlight=False)
    console.rule("2. train an embedder, and evaluate it on unseen identities")
    run = folder / "run"
    overrides = [f"root={root}", f"engine.seed={seed}"]
    report = train_and_report("demo", overrides, run, resume=(run / "last.pt").exists(), console=console)
    console.rule("3. use it")
    console.print(
        f"use the model:  passerby embed {run} YOUR_IMAGES -o vectors.npz\n"
        f"your own data:  passerby train small --data YOUR_FOLDER --out runs/mine",
        highlight=False,
    )
    return report


def run_camera_demo(folder: Path, *, seed: int, console: Console, size: ClipSize = DEFAULT_SIZE) -> Path:
    """Run the demo of several cameras in `folder` and return its page of people.

    Finished steps are kept, and so is the model of the first demo where it lies in the folder.
    """
    console.rule(f"1. render {size.cameras} cameras of a synthetic site; no real person is in it")
    with bar("rendering", console) as advance:
        site = make_clips(folder / "site", "plaza", seed=seed, size=size, progress=advance)
    console.print(f"a MOT folder per camera, whose views do not overlap: {site}", highlight=False)
    console.rule("2. train an embedder on other synthetic people")
    run = folder / "run"
    if not (run / "embedder.safetensors").is_file():
        with bar("rendering", console) as advance:
            root = make_site(folder / "people", "plaza", seed=seed, progress=advance)
        overrides = [f"root={root}", f"engine.seed={seed}"]
        train_and_report("demo", overrides, run, resume=(run / "last.pt").exists(), console=console)
    console.print(f"the model: {run}", highlight=False)
    console.rule("3. tracklets: the best crops of each track, and one vector")
    request = TrackletsRequest(site, None, folder / "tracklets", run, true_ids=True)
    tables = make_all_tracklets(request, inference=InferenceSettings(), console=console)
    for place, table in tables:
        console.print(f"{place}: {len(table)} tracklets with {len(table.crop_vectors)} crops", highlight=False)
    console.rule("4. one identity per person")
    page = _associate(folder, site, Tracklets.join([table for _, table in tables]), console)
    console.rule("5. use it")
    console.print(
        f"your own videos:  passerby tracklets YOUR_SITE --run {run} -o tracklets\n"
        "one identity per person:  passerby associate tracklets -o identities.csv --report people.html",
        highlight=False,
    )
    return page


def _associate(folder: Path, site: Path, tracklets: Tracklets, console: Console) -> Path:
    """Write the table and the page of the people of a site, and print the results."""
    association = associate(tracklets, AssociationSettings(topology=read_topology(site / TOPOLOGY)))
    scores = scores_of(association)
    sentences = describe_association(association, scores)
    for sentence in sentences:
        console.print(sentence, highlight=False, soft_wrap=True)
    console.print(
        "This model saw few generated people for a few minutes, so many are split or merged; the page shows who. "
        "A model that saw thousands of people finds nearly all of them on such clips.",
        highlight=False,
        soft_wrap=True,
    )
    write_identities(folder / "identities.csv", association)
    write_identities_page(folder / "people.html", association, scores, sentences)
    console.print(f"a row for each tracklet: {folder / 'identities.csv'}", highlight=False)
    return folder / "people.html"
