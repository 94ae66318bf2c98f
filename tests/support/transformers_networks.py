"""Small detectors and segmentation networks of `transformers`, and their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

NAMES = {0: "cat", 1: "dog", 2: "crane"}
SIDES = (64, 96)
"""Height and width of the input."""
_SQUARE = {"height": SIDES[0], "width": SIDES[1]}


def detr(transformers: Any) -> Any:
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    return transformers.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
        id2label=NAMES,
    )


def _with_encoder(kind: Any, backbone: Any, points: Any) -> Any:
    return kind(
        backbone_config=backbone,
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        feat_strides=[8, 16, 32],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        encoder_layers=1,
        d_model=16,
        num_queries=8,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_n_points=points,
        num_denoising=0,
        id2label=NAMES,
    )


_STAGES = {
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage2", "stage3", "stage4"],
}


def rt_detr(transformers: Any) -> Any:
    backbone = transformers.RTDetrResNetConfig(layer_type="basic", **_STAGES)
    return _with_encoder(transformers.RTDetrConfig, backbone, 2)


def rt_detr_v2(transformers: Any) -> Any:
    backbone = transformers.RTDetrResNetConfig(layer_type="basic", **_STAGES)
    return _with_encoder(transformers.RTDetrV2Config, backbone, 2)


def d_fine(transformers: Any) -> Any:
    backbone = transformers.HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 8, 16],
        stage_mid_channels=[4, 4, 8, 8],
        stage_out_channels=[8, 8, 16, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_downsample=[False, True, True, True],
        stage_light_block=[False] * 4,
        stage_kernel_size=[3] * 4,
        stage_numb_of_layers=[1] * 4,
        **_STAGES,
    )
    return _with_encoder(transformers.DFineConfig, backbone, [2, 2, 2])


DETECTORS = {"detr": detr, "rt_detr": rt_detr, "rt_detr_v2": rt_detr_v2, "d_fine": d_fine}
"""The configurations of detectors, by kind."""


def detector_folder(transformers: Any, kind: str, folder: Path) -> Path:
    """Write a detector with random weights that differ from query to query."""
    torch.manual_seed(1)
    net = transformers.AutoModelForObjectDetection.from_config(DETECTORS[kind](transformers))
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1 and "backbone" not in name:
            torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
    side = {"shortest_edge": SIDES[0], "longest_edge": SIDES[1]}
    processor = (
        transformers.DetrImageProcessor(size=side)
        if kind == "detr"
        else transformers.RTDetrImageProcessor(size=_SQUARE)
    )
    return _written(net, processor, folder)


def segformer_folder(transformers: Any, folder: Path, first: str = "wall") -> Path:
    """Write a SegFormer of four classes with random weights, the first one with a name."""
    torch.manual_seed(0)
    names = {0: first, 1: "cat", 2: "dog", 3: "crane"}
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=names,
    )
    net = transformers.SegformerForSemanticSegmentation(config)
    for parameter in net.decode_head.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1 / parameter[0].numel() ** 0.5)
    return _written(net, transformers.SegformerImageProcessor(size=_SQUARE), folder)


def _written(net: Any, processor: Any, folder: Path) -> Path:
    net.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
