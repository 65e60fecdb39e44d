"""A spatial-temporal graph encoder and its mirror image, the decoder: joints hear their neighbours along the bones and
along time.

    P parts   N chunks   L frames   J joints of a part   V joints of all parts   C channels of a joint
    Z width of a latent   W chunks of a window   M windows (N / W)
    T steps of a window: W * L frames, fewer after each stride of s, W at the end
    S subsets of a joint's neighbours: as far from the centre as itself (it is one of them), nearer, farther

    GraphEncoder: P tensors [N, L, J, 3] (as for models/rvq/encoder.py)  ->  latents [P, N, Z]
    GraphDecoder: latents [P, N, Z]  ->  P tensors [N, L, J, 2]

Inside, everything is [V, M, T, C], joints first: a part's joints are a slice, so its graph is one matrix product over
all windows and steps, and what acts on channels is one product for all parts. There is no convolution in torch's sense,
since its algorithm depends on the batch: steps that a kernel sees are laid side by side. Nothing is shared between
windows, so a window's latents do not depend on the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from signstream.models.rvq.same_bits import RowLinear
from signstream.models.rvq.sizes import PartShape, Sizes, joints_of
from signstream.models.rvq.trunk import TypeEmbedding

SAME, NEARER, FARTHER = range(3)
LEAST_WIDTH = 16  # channels at the first rate, where they would be fewer


def graph_of(joints: int, edges: Iterable[tuple[int, int]], centre: int) -> Tensor:
    """A part's graph [S, J, J]: row i of a subset is the mean over those neighbours of joint i, or 0 where it has none.
    A joint that no edge reaches hears itself alone; joints that no path joins to the centre are all equally far from
    it."""
    near = [{joint} for joint in range(joints)]  # each joint's neighbours, and itself
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)
    steps = _steps_from(centre, near)
    pairs = [(joint, other) for joint, others in enumerate(near) for other in others]
    subsets = [_subset(steps[joint], steps[other]) for joint, other in pairs]
    graph = torch.zeros(3, joints, joints)
    rows, columns = torch.tensor(pairs).T
    graph[torch.tensor(subsets), rows, columns] = 1
    return graph / graph.sum(-1, keepdim=True).clamp(min=1)


def _subset(steps: int, neighbours: int) -> int:
    """By how many edges a joint and its neighbour are from the centre."""
    return SAME if neighbours == steps else NEARER if neighbours < steps else FARTHER


def _steps_from(centre: int, near: Sequence[set[int]]) -> list[int]:
    """Edges from the centre to each joint."""
    steps, reached = [len(near)] * len(near), {centre}
    for distance in range(len(near)):
        for joint in reached:
            steps[joint] = distance
        reached = {other for joint in reached for other in near[joint] if steps[other] == len(near)}
    return steps


def strides_of(frames: int) -> list[int]:
    """L as a product of small strides: its prime factors, smallest first."""
    strides, factor = [], 2
    while frames > 1:
        if frames % factor:
            factor += 1
        else:
            strides.append(factor)
            frames //= factor
    return strides or [1]


def patches(x: Tensor, stride: int) -> Tensor:
    """[V, M, T, C] -> [V, M, T / s, (s + 2) * C]: s steps side by side between the step before and the step after, 0
    beyond the window."""
    joints, windows, steps, width = x.shape
    middle = x.reshape(joints, windows, steps // stride, stride * width)
    before = x[:, :, stride - 1 : steps - 1 : stride]
    after = x[:, :, stride::stride]
    return torch.cat((F.pad(before, (0, 0, 1, 0)), middle, F.pad(after, (0, 0, 0, 1))), -1)


def stretched(x: Tensor, stride: int) -> Tensor:
    """[V, M, T, s * C] -> [V, M, T * s, C]"""
    joints, windows, steps, width = x.shape
    return x.reshape(joints, windows, steps * stride, width // stride)


def widths_of(strides: Sequence[int], width: int) -> list[int]:
    """Channels at each rate: `width` at the last, half as many before each stride, so that every rate costs about the
    same."""
    return [max(width >> left, min(width, LEAST_WIDTH)) for left in reversed(range(len(strides)))]


class GraphLayer(nn.Module):
    """Joints hear their neighbours, each subset through channels of its own; every edge has a weight, which begins at
    1. Parts of a projection have one graph (the last one's), with one set of weights."""

    where: Tensor  # [E] where the edges lie in all projections' graphs, flat
    share: Tensor  # [E] their part of a joint's mean

    def __init__(self, shapes: Sequence[PartShape], graphs: Sequence[Tensor], width: int) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        by_projection = {shape.projection: graph for shape, graph in zip(shapes, graphs)}
        kept = [by_projection[projection] for projection in sorted(by_projection)]
        flat = torch.cat([graph.flatten() for graph in kept])
        self.sizes = [graph.numel() for graph in kept]
        self.register_buffer("where", flat.nonzero()[:, 0], persistent=False)
        self.register_buffer("share", flat[self.where], persistent=False)
        self.edges = nn.Parameter(torch.zeros(len(self.where)))  # what is added to 1
        self.subsets = nn.ModuleList(nn.Linear(width, width, bias=subset == SAME) for subset in (SAME, NEARER, FARTHER))

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.share * (1 + self.edges)).to(x.dtype)  # [E]
        graphs = x.new_zeros(sum(self.sizes)).scatter(0, self.where, weights).split(self.sizes)
        joints = [shape.joints for shape in self.shapes]
        channels = [subset(x).flatten(1).split(joints) for subset in self.subsets]  # S x P x [J, M * T * C]
        heard = []
        for part, shape in enumerate(self.shapes):
            graph = graphs[shape.projection].view(3, shape.joints, shape.joints)
            same, nearer, farther = (graph[subset] @ channels[subset][part] for subset in (SAME, NEARER, FARTHER))
            heard.append(same + nearer + farther)
        return torch.cat(heard).view(x.shape)


class GraphBlock(nn.Module):
    """Along the bones, then along time; normalised before, added after."""

    small = ("out",)

    def __init__(self, shapes: Sequence[PartShape], graphs: Sequence[Tensor], width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.graph = GraphLayer(shapes, graphs, width)
        self.out = nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(patches(F.gelu(self.graph(self.norm(x))), 1))  # [V, M, T, C]


class Stage(nn.Module):
    """The blocks of one rate; with `checkpointing` what is inside a block is computed again in the backward pass
    instead of kept."""

    def __init__(self, sizes: Sizes, graphs: Sequence[Tensor], width: int, *, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.blocks = nn.ModuleList(GraphBlock(sizes.shapes, graphs, width) for _ in range(sizes.layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x)
        return x


class JointEmbedding(nn.Module):
    """What a joint is, [V, 1, 1, C]: a vector for each joint of a projection, and one for the part."""

    no_decay = ("joint",)

    row: Tensor  # [V] which of the vectors is a joint's
    part_of: Tensor  # [V] which part it is in

    def __init__(self, shapes: Sequence[PartShape], type_width: int, width: int) -> None:
        super().__init__()
        joints = joints_of(shapes)
        starts = [sum(joints[:projection]) for projection in range(len(joints))]
        rows = [starts[shape.projection] + torch.arange(shape.joints) for shape in shapes]
        parts = [torch.full((shape.joints,), part) for part, shape in enumerate(shapes)]
        self.joint = nn.Parameter(torch.zeros(sum(joints), width))
        self.part = TypeEmbedding(len(shapes), type_width, width)
        self.register_buffer("row", torch.cat(rows), persistent=False)
        self.register_buffer("part_of", torch.cat(parts), persistent=False)

    def forward(self) -> Tensor:
        return self.joint[self.row][:, None, None] + self.part()[self.part_of]


class GraphEncoder(nn.Module):
    """`layers` blocks at each rate, the channels of a joint growing to `width`; then half of them, all joints side by
    side, to the latent."""

    small = ("outputs",)

    def __init__(self, sizes: Sizes, graphs: Sequence[Tensor], checkpointing: bool = False) -> None:
        super().__init__()
        self.shapes = tuple(sizes.shapes)
        self.window = sizes.window
        self.strides = strides_of(sizes.frames)
        self.tokens = min(shape.joints for shape in self.shapes)  # rows that a chunk gives a layer, unless it is one
        joints = joints_of(self.shapes)
        width, narrow = sizes.width, (sizes.width + 1) // 2
        widths = widths_of(self.strides, width)
        strides = zip(self.strides[1:], widths, widths[1:])
        self.inputs = nn.ModuleList(nn.Linear((self.strides[0] + 2) * 3, widths[0]) for _ in joints)
        # past the trunk; begins as a PCA
        self.linear = nn.ModuleList(RowLinear(sizes.frames * count * 2, sizes.latent) for count in joints)
        self.embedding = JointEmbedding(self.shapes, sizes.type_width, widths[0])
        self.stages = nn.ModuleList(Stage(sizes, graphs, width, checkpointing=checkpointing) for width in widths)
        self.shrink = nn.ModuleList(nn.Linear((stride + 2) * wide, wider) for stride, wide, wider in strides)
        self.norm = nn.LayerNorm(width)
        self.squeeze = nn.Linear(width, narrow)
        self.outputs = nn.ModuleList(RowLinear(count * narrow, sizes.latent) for count in joints)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        first, *strides = self.strides
        steps = [patches(self._steps(view), first) for view in views]  # P x [J, M, T, (s + 2) * 3]
        x = torch.cat([self.inputs[s.projection](part) for s, part in zip(self.shapes, steps)])  # [V, M, T, C]
        x = self.stages[0](x + self.embedding())
        for stride, shrink, stage in zip(strides, self.shrink, self.stages[1:]):
            x = stage(shrink(patches(x, stride)))  # [V, M, T / s, C']
        parts = self.squeeze(self.norm(x)).split([shape.joints for shape in self.shapes])  # P x [J, M, W, C / 2]
        latents = []
        for shape, view, part in zip(self.shapes, views, parts):
            row = part.permute(1, 2, 0, 3).reshape(view.shape[0], part.shape[0] * part.shape[3])  # [N, J * C / 2]
            past = self.linear[shape.projection](view[..., :2].flatten(1))  # [N, Z]
            latents.append(self.outputs[shape.projection](row) + past)
        return torch.stack(latents)

    def _steps(self, view: Tensor) -> Tensor:
        """[N, L, J, 3] -> [J, M, W * L, 3]"""
        chunks, frames, joints, channels = view.shape
        return view.reshape(chunks // self.window, self.window * frames, joints, channels).permute(2, 0, 1, 3)


class GraphDecoder(nn.Module):
    """The way back: the strides are taken in reverse, each step becoming s steps that have seen its neighbours."""

    small = ("outputs",)

    def __init__(self, sizes: Sizes, graphs: Sequence[Tensor], checkpointing: bool = False) -> None:
        super().__init__()
        self.shapes = tuple(sizes.shapes)
        self.frames = sizes.frames
        self.window = sizes.window
        self.strides = strides_of(sizes.frames)[::-1]
        joints = joints_of(self.shapes)
        width, narrow = sizes.width, (sizes.width + 1) // 2
        widths = widths_of(self.strides, width)[::-1]
        strides = zip(self.strides, widths, widths[1:])
        self.inputs = nn.ModuleList(RowLinear(sizes.latent, count * narrow) for count in joints)
        self.widen = nn.Linear(narrow, width)
        self.embedding = JointEmbedding(self.shapes, sizes.type_width, width)
        self.stages = nn.ModuleList(Stage(sizes, graphs, width, checkpointing=checkpointing) for width in widths)
        self.stretch = nn.ModuleList(nn.Linear(3 * wide, stride * less) for stride, wide, less in strides)
        self.norm = nn.LayerNorm(widths[-1])
        self.outputs = nn.ModuleList(nn.Linear(3 * widths[-1], self.strides[-1] * 2) for _ in joints)
        # past the trunk; begins as a PCA's inverse
        self.linear = nn.ModuleList(RowLinear(sizes.latent, sizes.frames * count * 2) for count in joints)

    def forward(self, latents: Tensor) -> list[Tensor]:
        rows = [self.inputs[s.projection](latent) for s, latent in zip(self.shapes, latents)]  # P x [N, J * C]
        x = torch.cat([self._joints(row, s.joints) for s, row in zip(self.shapes, rows)])  # [V, M, W, C]
        x = self.stages[0](self.widen(x) + self.embedding())
        for stride, stretch, stage in zip(self.strides, self.stretch, self.stages[1:]):
            x = stage(stretched(stretch(patches(x, 1)), stride))  # [V, M, T * s, C']
        parts = patches(self.norm(x), 1).split([shape.joints for shape in self.shapes])  # P x [J, M, T, 3 * C]
        views = []
        for shape, part, latent in zip(self.shapes, parts, latents):
            size = latent.shape[0], self.frames, shape.joints, 2
            view = stretched(self.outputs[shape.projection](part), self.strides[-1])  # [J, M, W * L, 2]
            past = self.linear[shape.projection](latent)  # [N, L * J * 2]
            views.append(view.permute(1, 2, 0, 3).reshape(size) + past.view(size))
        return views

    def _joints(self, rows: Tensor, joints: int) -> Tensor:
        """[N, J * C] -> [J, M, W, C]"""
        chunks, width = rows.shape
        return rows.reshape(chunks // self.window, self.window, joints, width // joints).permute(2, 0, 1, 3)
