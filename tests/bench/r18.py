# mypy: disable-error-code="import-not-found"
"""Writes an RT-DETRv2-r18 with random weights, which needs as much computation as a trained one.

Runs in the export environment: `python -m tests.bench.r18 FOLDER` writes it in the format of the hub and as a
Triton repository.
"""

import sys
from pathlib import Path

from transformers import RTDetrResNetConfig, RTDetrV2Config

from deploy.model.export import export
from deploy.model.tiny import write_model
from mesh.labels import COCO_LABELS

SIDE, SEED = 640, 37


def config() -> RTDetrV2Config:
    """The configuration of the published r18."""
    return RTDetrV2Config(
        backbone_config=RTDetrResNetConfig(
            hidden_sizes=[64, 128, 256, 512],
            depths=[2, 2, 2, 2],
            layer_type="basic",
            out_indices=[2, 3, 4],
        ),
        encoder_in_channels=[128, 256, 512],
        hidden_expansion=0.5,
        decoder_layers=3,
        id2label=dict(enumerate(COCO_LABELS)),
        label2id={label: number for number, label in enumerate(COCO_LABELS)},
    )


def main(folder: Path) -> None:
    write_model(config(), SIDE, SEED, folder / "checkpoint")
    export(str(folder / "checkpoint"), folder / "repository")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
