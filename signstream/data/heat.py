"""Heat maps: where a signer's face, mouth and hands are, drawn from keypoints on the device.

    heat_maps(keypoints [T, J, 3], places [h, w, 2], sigma) -> [T, 1, h, w] float32, 0 .. 1

A joint is a Gaussian of height 1, and where several overlap the highest counts; so a map is a function of the distance
to the nearest joint. The maps are not drawn at the picture's size and then moved with it: `places` says where each of
their points lies in the picture that the keypoints are of, so a map that is turned, cropped or mirrored is as exact as
one that is not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from signstream.skeleton import FACE, NUM_JOINTS

HEAT_JOINTS = slice(FACE, NUM_JOINTS)  # of the 133: face, mouth and both hands
REACH = 3.0  # sigmas; nothing is drawn beyond
FAR = 1e6  # pixels: where a joint that is missing lies
PIECE = 16  # frames at once


def near(keypoints: Tensor, least: float) -> Tensor:
    """[T, J, 3] -> [T, J, 2]: joints that score less than `least`, or lie nowhere, are far away."""
    seen = (keypoints[..., 2] >= least) & (keypoints[..., 2] > 0) & keypoints[..., :2].isfinite().all(-1)
    return torch.where(seen[..., None], keypoints[..., :2].clamp(-FAR, FAR), FAR).float()


def heat_maps(joints: Tensor, places: Tensor, sigma: float) -> Tensor:
    """joints [T, J, 2] and places [h, w, 2], in pixels of one picture -> [T, 1, h, w]."""
    x, y = places.float().unbind(-1)
    maps = [_drawn(piece, x, y, sigma=sigma) for piece in joints.split(PIECE)]
    return torch.cat(maps)[:, None] if maps else joints.new_zeros(0, 1, *x.shape)


def _drawn(joints: Tensor, x: Tensor, y: Tensor, *, sigma: float) -> Tensor:
    """[t, h, w]"""
    nearest = torch.full((len(joints), *x.shape), FAR * FAR, device=joints.device)
    for joint in joints.unbind(1):  # [t, 2]
        across = (x - joint[:, 0, None, None]).square_()
        nearest = torch.minimum(nearest, across.add_((y - joint[:, 1, None, None]).square_()))
    return torch.where(nearest <= (REACH * sigma) ** 2, torch.exp(nearest / (-2 * sigma**2)), 0.0)
