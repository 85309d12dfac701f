"""`passerby bench`: measure speed against common implementations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from passerby.cli.options import JsonFile, make_console
from passerby.files import write_json

if TYPE_CHECKING:
    from passerby.bench.measure import BenchTable

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed against common implementations.")

Quick = Annotated[bool, typer.Option("--quick", help="a smaller problem that takes seconds")]
SiteName = Annotated[
    Literal["market1501", "msmt17"], typer.Option(help="data set whose numbers of images and queries are used")
]

StepBackbone = Annotated[
    Literal["resnet50", "resnet18", "vit_small"], typer.Option(help="256x128; resnet18: 128x64; batches of 64 images")
]


@bench_app.command("ranking")
def bench_ranking(quick: Quick = False, site: SiteName = "market1501", json_file: JsonFile = None) -> None:
    """Measure exact ranking, compared with the matrix product alone and with sorting."""
    from passerby.bench.ranking import bench_ranking

    _print_bench(bench_ranking(quick=quick, site=site), json_file)


@bench_app.command("rerank")
def bench_rerank(quick: Quick = False, site: SiteName = "market1501", json_file: JsonFile = None) -> None:
    """Measure sparse k-reciprocal re-ranking, compared with the dense computation."""
    from passerby.bench.rerank import bench_rerank

    _print_bench(bench_rerank(quick=quick, site=site), json_file)


@bench_app.command("cluster")
def bench_cluster(quick: Quick = False, site: SiteName = "market1501", json_file: JsonFile = None) -> None:
    """Measure clustering on the sparse Jaccard graph, compared with the dense computation."""
    from passerby.bench.cluster import bench_cluster

    _print_bench(bench_cluster(quick=quick, site=site), json_file)


@bench_app.command("loader")
def bench_loader(quick: Quick = False, json_file: JsonFile = None) -> None:
    """Measure image loading and augmentation, compared with the training step."""
    from passerby.bench.loader import bench_loader

    _print_bench(bench_loader(quick=quick), json_file)


@bench_app.command("step")
def bench_step(
    quick: Quick = False,
    backbone: StepBackbone = "resnet50",
    json_file: JsonFile = None,
) -> None:
    """Measure a training step, compared with a plain PyTorch implementation."""
    from passerby.bench.step import bench_step

    _print_bench(bench_step(quick=quick, backbone=backbone), json_file)


@bench_app.command("compile")
def bench_compile(
    quick: Quick = False,
    backbone: StepBackbone = "resnet50",
    bf16: Annotated[bool, typer.Option("--bf16", help="also measure bf16")] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure a training step with torch.compile, and the epochs from which it pays; takes minutes."""
    from passerby.bench.compile import bench_compile, print_compile

    table = bench_compile(quick=quick, backbone=backbone, bf16=bf16)
    print_compile(table, make_console())
    if json_file is not None:
        write_json(json_file, table.to_json())


@bench_app.command("embed")
def bench_embed(
    quick: Quick = False,
    network: Annotated[
        list[str] | None,
        typer.Option(help="resnet18, osnet, resnet50 or vit; repeat for several; default: all", show_default=False),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="also measure torch.compile, which takes minutes")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure embedding on the CPU by each engine, compared with plain PyTorch in float32."""
    from passerby.bench.embed import bench_embed, print_embed

    console = make_console()
    found = bench_embed(
        quick=quick,
        networks=network or (),
        compiled="measure" if compiled else "skip",
        say=lambda sentence: console.print(sentence, highlight=False, markup=False, soft_wrap=True),
    )
    print_embed(found, console)
    if json_file is not None:
        write_json(json_file, found.to_json())


@bench_app.command("busy")
def bench_busy(
    quick: Quick = False,
    threads: Annotated[int, typer.Option(min=0, help="as engine.threads; 0 = auto")] = 0,
    shape: Annotated[Literal["resnet18", "small"], typer.Option(help="128x64 or 64x32")] = "resnet18",
    json_file: JsonFile = None,
) -> None:
    """Measure training while other processes keep cores busy, compared with training alone."""
    from passerby.bench.busy import bench_busy, print_busy

    table = bench_busy(quick=quick, threads=threads or "auto", shape=shape)
    print_busy(table, make_console())
    if json_file is not None:
        write_json(json_file, table.to_json())


def _print_bench(table: BenchTable, json_file: Path | None) -> None:
    from passerby.bench.measure import print_bench

    print_bench(table, make_console())
    if json_file is not None:
        write_json(json_file, table.to_json())
