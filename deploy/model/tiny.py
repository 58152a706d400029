"""Writes a tiny, untrained RT-DETRv2 in the format of the hub, for tests.

Runs in the export environment: `python -m deploy.model.tiny FOLDER`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

from mesh.labels import COCO_LABELS

SIDE = 160
# With these, nearly every sample photo has findings of watched classes above and below the threshold of 0.5.
SEED = 37
CLASS_GAIN = 1.3


def tiny_config() -> RTDetrV2Config:
    """The whole architecture, in 1 MB and a few milliseconds a photo."""
    return RTDetrV2Config(
        backbone_config=RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_indices=[2, 3, 4],
        ),
        encoder_in_channels=[16, 24, 32],
        encoder_hidden_dim=32,
        d_model=32,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_layers=1,
        decoder_layers=2,
        decoder_n_points=2,
        hidden_expansion=0.5,
        decoder_in_channels=[32] * 3,
        num_queries=30,
        num_denoising=0,
        id2label=dict(enumerate(COCO_LABELS)),
        label2id={label: number for number, label in enumerate(COCO_LABELS)},
    )


def write_model(config: RTDetrV2Config, side: int, seed: int, folder: Path) -> None:
    """Writes config.json, preprocessor_config.json and model.safetensors, the same for the same seed."""
    model = RTDetrV2ForObjectDetection(config).eval()
    randomise_weights(model, seed)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        f'{{"do_normalize": false, "do_pad": false, "do_rescale": true, "do_resize": true, '
        f'"image_processor_type": "RTDetrImageProcessor", "resample": 2, '
        f'"rescale_factor": {1 / 255}, "size": {{"height": {side}, "width": {side}}}}}\n'
    )


@torch.no_grad()
def randomise_weights(model: RTDetrV2ForObjectDetection, seed: int) -> None:
    """Draws weights scaled by fan-in, so that the queries differ. transformers' own initialisation makes them
    equal."""
    # Its numbers are the same on every machine, unlike torch's.
    random = np.random.RandomState(seed)
    for name, weight in model.named_parameters():
        if weight.dim() < 2:
            # The weight of a norm; biases are left as they are.
            if name.endswith("weight"):
                weight.fill_(1)
            continue
        values = random.standard_normal(tuple(weight.shape)) * (2 / weight[0].numel()) ** 0.5
        if weight.dim() == 4 and weight.shape[1] == 3:
            # The stem: it responds to changes within the photo only, not to a plain wall.
            values -= values.mean(axis=(2, 3), keepdims=True)
        if "class_embed" in name:
            values *= CLASS_GAIN
        weight.copy_(torch.from_numpy(values))


if __name__ == "__main__":
    write_model(tiny_config(), SIDE, SEED, Path(sys.argv[1]))
