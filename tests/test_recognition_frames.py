"""What is the frames' own in a recogniser (test_recognition.py has what holds whatever is read)."""

import torch

from signstream.models.recognition import Recognizer
from signstream.models.recognition_blocks import Mixing
from signstream.models.recognition_frames import FrameFront, SpatialAttention, Whole


def test_the_default_has_as_many_weights_as_the_public_model():
    """57,154,016 at 1,296 classes; its fifth block attends. No buffer holds whole numbers: the public code's average of
    weights moves those."""
    model = Recognizer(FrameFront(mixing=Mixing()), 1296, width=512, depth=0)
    assert sum(p.numel() for p in model.parameters()) == 57_154_016
    kinds = [type(block.spatial) for block in model.front.blocks]
    assert [number for number, kind in enumerate(kinds) if kind is SpatialAttention] == [4]
    assert all(value.is_floating_point() for value in model.state_dict().values())


def test_whole_pictures_come_along_axes_that_vary_alike():
    generator = torch.Generator().manual_seed(0)
    background, arm, face = torch.randn(3, 3, 32, 48, generator=generator)
    much, little = torch.randn(2, 600, 1, 1, 1, generator=generator)
    pictures = background + 2 * much * arm + little * face
    whole = Whole(3, 2, width=8, stride=1)
    whole.fit(pictures)
    along = whole(pictures).flatten(1)
    torch.testing.assert_close(along.T @ along / len(along), torch.eye(2), atol=0.05, rtol=0)
    coordinates = torch.cat((much, little), 1).flatten(1)
    seen = (along.T @ (coordinates / coordinates.std(0)) / len(along)).abs()
    assert seen[0, 0] > 0.9 and seen[1, 1] > 0.9  # what is small counts as much as what is large
