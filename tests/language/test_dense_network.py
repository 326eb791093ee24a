"""Methods of detection and segmentation as text: arguments, stand-ins, and what is refused."""

import pytest

from hiri_search.language import DenseNetwork, SpecError, parse_backbone, parse_network

BACKBONE = "hr(32 e=4) -> hr(64 e=4) -> t(128 e=4) -> t(256 e=4)"


def _parsed(text: str) -> DenseNetwork:
    network = parse_network(f"{text}:{BACKBONE}")
    assert isinstance(network, DenseNetwork)
    return network


@pytest.mark.parametrize(
    ("text", "width", "regions", "norms"),
    [
        ("mask_rcnn", 256, 1000, False),
        ("mask_rcnn(w=64 norm=bn)", 64, 1000, True),  # stand-ins of earlier versions
        ("cascade_rcnn(w=64 regions=250 norm=bn)", 64, 250, True),
        ("sparse_rcnn(regions=75)", 256, 75, False),
        ("retinanet(w=64)", 64, 0, False),
    ],
)
def test_a_text_and_its_network_are_the_same(text: str, width: int, regions: int, norms: bool):
    network = _parsed(text)
    assert (network.width, network.regions, network.norms) == (width, regions, norms)
    assert str(network).startswith(f"{text}:")
    assert parse_network(network.canonical_text).key == network.key
    assert _parsed("mask_rcnn(regions=1000 w=256)").key == _parsed("mask_rcnn").key


@pytest.mark.parametrize(
    ("method", "divisor", "stand_in"),
    [
        ("mask_rcnn", 1, "mask_rcnn:"),
        ("mask_rcnn", 4, "mask_rcnn(w=64 regions=250 norm=bn):"),
        ("sparse_rcnn", 8, "sparse_rcnn(w=32 regions=38 norm=bn):"),  # rounded up
        ("atss", 4, "atss(w=64 norm=bn):"),
    ],
)
def test_a_stand_in_has_a_narrower_pyramid_and_fewer_regions(method: str, divisor: int, stand_in: str):
    small = parse_backbone(BACKBONE)
    assert str(_parsed(method).scaled_down(small, width=divisor)).startswith(stand_in)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("atss(regions=9)", "'regions=9' is no argument of atss; write w=WIDTH, the width of its pyramid, and norm=bn"),
        ("mask_rcnn(regions=0)", "'regions=0' is no argument of mask_rcnn; write .* regions=NUMBER, how many regions"),
        ("mask_rcnn(rois=9)", "'rois=9' is no argument of mask_rcnn"),
    ],
)
def test_an_argument_that_a_method_does_not_have_is_refused(text: str, message: str):
    with pytest.raises(SpecError, match=message):
        _parsed(text)
