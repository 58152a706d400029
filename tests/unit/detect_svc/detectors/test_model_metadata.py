"""Which models are supported, and how the others are refused."""

import json

import pytest

from detect_svc.detectors.model_metadata import ModelMetadata, TensorSpec, UnsupportedModel, read_metadata

TENSORS = {
    "images": TensorSpec("uint8", (-1, 640, 640, 3)),
    "scores": TensorSpec("float32", (-1, 300)),
    "labels": TensorSpec("int32", (-1, 300)),
    "boxes": TensorSpec("float32", (-1, 300, 4)),
}
PARAMETERS = {
    "name": "rtdetrv2-r18",
    "digest": "AB" * 32,
    "labels": json.dumps(["person", "motorbike", "sofa"]),
}


def test_metadata_is_read_with_canonical_labels() -> None:
    expected = ModelMetadata("rtdetrv2-r18", "ab" * 32, ("person", "motorcycle", "couch"), 640)
    assert read_metadata(TENSORS, PARAMETERS) == expected


def test_a_batch_of_one_and_any_number_of_queries_are_supported() -> None:
    fixed = {"images": TensorSpec("uint8", (1, 320, 320, 3)), "scores": TensorSpec("float32", (-1, -1))}
    assert read_metadata(TENSORS | fixed, PARAMETERS).side == 320


@pytest.mark.parametrize(
    ("name", "tensor", "found"),
    [
        ("images", TensorSpec("float32", (-1, 3, 640, 640)), r"float32 \[any, 3, 640, 640\]"),
        ("images", TensorSpec("uint8", (-1, 640, 480, 3)), r"uint8 \[any, 640, 480, 3\]"),
        ("images", TensorSpec("uint8", (-1, -1, -1, 3)), r"uint8 \[any, any, any, 3\]"),
        ("images", TensorSpec("uint8", (8, 640, 640, 3)), r"uint8 \[8, 640, 640, 3\]"),
        ("images", TensorSpec("uint8", (640, 640, 3)), r"uint8 \[640, 640, 3\]"),
        ("scores", TensorSpec("float32", (-1, 300, 80)), r"float32 \[any, 300, 80\]"),
        ("labels", TensorSpec("int64", (-1, 300)), r"int64 \[any, 300\]"),
        ("boxes", TensorSpec("float32", (-1, 300, 5)), r"float32 \[any, 300, 5\]"),
    ],
)
def test_a_tensor_of_another_type_or_shape_is_not_supported(
    name: str, tensor: TensorSpec, found: str
) -> None:
    with pytest.raises(UnsupportedModel, match=f"{name}: expected .*, found {found}"):
        read_metadata(TENSORS | {name: tensor}, PARAMETERS)


def test_a_missing_tensor_is_named_with_those_that_were_found() -> None:
    tensors = {"x": TENSORS["images"], **{name: TENSORS[name] for name in ("scores", "labels")}}
    with pytest.raises(
        UnsupportedModel, match=r"input images: .* found only labels, scores, x; output boxes: "
    ):
        read_metadata(tensors, PARAMETERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", ""),
        ("name", "a name"),
        ("digest", "abc"),
        ("labels", "person"),
        ("labels", "[]"),
        ("labels", "[1]"),
        ("labels", '{"0": "person"}'),
    ],
)
def test_invalid_parameters_are_not_supported(name: str, value: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"parameter {name}: expected"):
        read_metadata(TENSORS, PARAMETERS | {name: value})


def test_all_errors_are_reported_together() -> None:
    with pytest.raises(UnsupportedModel) as refused:
        read_metadata({}, {})
    assert str(refused.value).count("expected") == 7
