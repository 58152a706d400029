"""Which models are taken, and what is said of those that are not."""

import json

import pytest

from detect_svc.detectors.model_metadata import ModelMetadata, TensorSpec, UnsupportedModel, read_metadata

FITS = {
    "images": TensorSpec("uint8", (-1, 640, 640, 3)),
    "scores": TensorSpec("float32", (-1, 300)),
    "labels": TensorSpec("int32", (-1, 300)),
    "boxes": TensorSpec("float32", (-1, 300, 4)),
}
SAID = {"name": "rtdetrv2-r18", "digest": "AB" * 32, "labels": json.dumps(["person", "motorbike", "sofa"])}


def test_what_fits_is_read_with_canonical_labels() -> None:
    expected = ModelMetadata("rtdetrv2-r18", "ab" * 32, ("person", "motorcycle", "couch"), 640)
    assert read_metadata(FITS, SAID) == expected


def test_a_batch_of_one_and_open_queries_fit() -> None:
    fixed = {"images": TensorSpec("uint8", (1, 320, 320, 3)), "scores": TensorSpec("float32", (-1, -1))}
    assert read_metadata(FITS | fixed, SAID).side == 320


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
def test_another_tensor_does_not_fit(name: str, tensor: TensorSpec, found: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"{name}: expected .*, found {found}"):
        read_metadata(FITS | {name: tensor}, SAID)


def test_a_tensor_that_is_missing_is_named_with_those_there_are() -> None:
    tensors = {"x": FITS["images"], **{name: FITS[name] for name in ("scores", "labels")}}
    with pytest.raises(
        UnsupportedModel, match=r"input images: .* found only labels, scores, x; output boxes: "
    ):
        read_metadata(tensors, SAID)


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
def test_what_it_says_of_itself_must_make_sense(name: str, value: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"parameter {name}: expected"):
        read_metadata(FITS, SAID | {name: value})


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UnsupportedModel) as refused:
        read_metadata({}, {})
    assert str(refused.value).count("expected") == 7
