"""What int8 costs a trained model: cosine distance of its vectors from those of torch in float32, and mAP.

    python benchmarks/int8.py runs/mine SITE [SITE ...]            # data sets; kind and layout are recognised

Query and gallery are embedded by torch in float32 and by onnxruntime in int8 with ranges from 64 of the images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import passerby
from passerby.evaluation import evaluate


def main() -> None:
    """Print a row in Markdown for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a run folder or an embedder.safetensors")
    parser.add_argument("sites", nargs="+", type=Path, help="folders of data sets")
    options = parser.parse_args()
    print("| data | images | cosine distance, median | 95 % | largest | mAP float32 | mAP int8 |")
    print("|---|---|---|---|---|---|---|")
    for site in options.sites:
        dataset = passerby.read_dataset(site)
        encoders = [passerby.Encoder(options.model, device="cpu", precision=each) for each in ("float32", "int8")]
        tables = [passerby.embed(encoder, dataset) for encoder in encoders]
        units = [table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True) for table in tables]
        distances = 1 - (units[0].astype(np.float64) * units[1]).sum(axis=1)
        median, most, largest = np.quantile(distances, (0.5, 0.95, 1.0))
        scores = [100 * evaluate(table, verification=False).mAP for table in tables]
        print(
            f"| {site.name} | {len(distances)} | {median:.1e} | {most:.1e} | {largest:.1e} | {scores[0]:.1f} | "
            f"{scores[1]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
