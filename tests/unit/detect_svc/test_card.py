"""Which models are taken, and what is said of those that are not."""

import json

import pytest

from detect_svc.card import Card, Misfit, Tensor, card_of

FITS = {
    "images": Tensor("uint8", (-1, 640, 640, 3)),
    "scores": Tensor("float32", (-1, 300)),
    "labels": Tensor("int32", (-1, 300)),
    "boxes": Tensor("float32", (-1, 300, 4)),
}
SAID = {"name": "rtdetrv2-r18", "digest": "AB" * 32, "labels": json.dumps(["person", "motorbike", "sofa"])}


def test_what_fits_is_read_with_canonical_labels() -> None:
    expected = Card("rtdetrv2-r18", "ab" * 32, ("person", "motorcycle", "couch"), 640)
    assert card_of(FITS, SAID) == expected


def test_a_batch_of_one_and_open_queries_fit() -> None:
    fixed = {"images": Tensor("uint8", (1, 320, 320, 3)), "scores": Tensor("float32", (-1, -1))}
    assert card_of(FITS | fixed, SAID).side == 320


@pytest.mark.parametrize(
    ("name", "tensor", "found"),
    [
        ("images", Tensor("float32", (-1, 3, 640, 640)), r"float32 \[any, 3, 640, 640\]"),
        ("images", Tensor("uint8", (-1, 640, 480, 3)), r"uint8 \[any, 640, 480, 3\]"),
        ("images", Tensor("uint8", (-1, -1, -1, 3)), r"uint8 \[any, any, any, 3\]"),
        ("images", Tensor("uint8", (8, 640, 640, 3)), r"uint8 \[8, 640, 640, 3\]"),
        ("images", Tensor("uint8", (640, 640, 3)), r"uint8 \[640, 640, 3\]"),
        ("scores", Tensor("float32", (-1, 300, 80)), r"float32 \[any, 300, 80\]"),
        ("labels", Tensor("int64", (-1, 300)), r"int64 \[any, 300\]"),
        ("boxes", Tensor("float32", (-1, 300, 5)), r"float32 \[any, 300, 5\]"),
    ],
)
def test_another_tensor_does_not_fit(name: str, tensor: Tensor, found: str) -> None:
    with pytest.raises(Misfit, match=f"{name}: expected .*, found {found}"):
        card_of(FITS | {name: tensor}, SAID)


def test_a_tensor_that_is_missing_is_named_with_those_there_are() -> None:
    tensors = {"x": FITS["images"], **{name: FITS[name] for name in ("scores", "labels")}}
    with pytest.raises(Misfit, match=r"input images: .* found only labels, scores, x; output boxes: "):
        card_of(tensors, SAID)


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
    with pytest.raises(Misfit, match=f"parameter {name}: expected"):
        card_of(FITS, SAID | {name: value})


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Misfit) as refused:
        card_of({}, {})
    assert str(refused.value).count("expected") == 7
