"""The graph encoder and decoder: shapes, graphs, independence of company and of how joints are numbered, and that they
learn."""

import math

import pytest
import torch

from signstream.config import Model
from signstream.models.rvq.rvq_model import RVQModel
from signstream.models.rvq.sizes import PartShape
from signstream.models.stgcn import graph_of, strides_of, widths_of
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.tasks.rvq.build import part_graph, part_shapes
from signstream.training.optim import undecayed

SHAPES = part_shapes(BODY, share_hands=True)
LATENT = 20
SIZES = [(8, 8), (10, 1), (7, 2), (1, 3)]  # L, W


pytestmark = pytest.mark.usefixtures("one_thread")


def body_graphs():
    return [part_graph(part) for part in BODY.parts]


def config(layers=1, width=16, latent=LATENT, type_width=8, checkpointing=False):
    sizes = {"encoder_layer": layers, "encoder_latent_dim": width, "latent_dim": latent, "type_embed_dim": type_width}
    return Model(arch="stgcn", checkpointing=checkpointing, **sizes)


def model(frames, window, shapes=SHAPES, graphs=None, drawn=True, **sizes) -> RVQModel:
    """`drawn`: edges and biases are drawn too, so that none of them is 0 by the way it begins."""
    graphs = body_graphs() if graphs is None else graphs
    levels = [1] * len(shapes)
    net = RVQModel(shapes, levels, config(**sizes), frames=frames, window=window, graphs=graphs, seed=1)
    if drawn:
        generator = torch.Generator().manual_seed(2)
        for half in (net.encoder, net.decoder):
            for weight in half.parameters():
                if weight.ndim < 2:
                    weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return net


def seen_views(chunks, frames, shapes=SHAPES, seed=0):
    """Smooth motion, a tenth of the joints missing."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(chunks * frames).view(chunks, frames, 1, 1) / 12
    views = []
    for shape in shapes:
        phase, rate, size = (torch.randn(1, 1, shape.joints, 2, generator=generator) for _ in range(3))
        score = (torch.rand(chunks, frames, shape.joints, 1, generator=generator) > 0.1).float()
        views.append(torch.cat(((time * rate + phase).sin() * size, score), -1))
    return views


@pytest.mark.parametrize(("frames", "window"), SIZES)
def test_views_come_back_in_their_shapes_and_every_weight_learns(frames, window):
    net = model(frames, window)
    views = seen_views(2 * window, frames)
    out = net(views, quantise=False)
    assert out.latents.shape == (5, 2 * window, LATENT)
    assert [v.shape for v in out.views] == [v[..., :2].shape for v in views]
    sum(v.square().sum() for v in out.views).backward()
    halves = [*net.encoder.named_parameters(), *net.decoder.named_parameters()]
    assert [name for name, p in halves if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(("frames", "window"), SIZES)
def test_an_empty_batch_goes_through(frames, window):
    net = model(frames, window)
    out = net(seen_views(0, frames), quantise=False)
    assert out.latents.shape == (5, 0, LATENT) and [v.shape for v in out.views] == [
        (0, frames, s.joints, 2) for s in SHAPES
    ]


@pytest.mark.parametrize(("frames", "window"), SIZES)
@torch.no_grad()
def test_a_window_does_not_depend_on_its_company(frames, window):
    net = model(frames, window, width=24).eval()
    views = seen_views(7 * window, frames)
    latents = net.encode(views)
    poses = net.decode(latents)
    for first, windows in ((0, 1), (4, 1), (2, 3)):
        rows = slice(first * window, (first + windows) * window)
        assert torch.equal(net.encode([v[rows] for v in views]), latents[:, rows])
        for alone, together in zip(net.decode(latents[:, rows]), poses):
            assert torch.equal(alone, together[rows])
    codes = net.tokenise(views)
    assert torch.equal(net.tokenise([v[:window] for v in views]), codes[:window])


@torch.no_grad()
def test_no_window_hears_another_one_but_its_chunks_hear_each_other():
    net = model(4, 2).eval()
    views = seen_views(8, 4)
    changed = [torch.cat((v[:4], v[4:5] + 1, v[5:])) for v in views]
    other = (net.encode(changed) != net.encode(views)).any(-1).any(0)
    assert other.tolist() == [False] * 4 + [True, True] + [False] * 2
    latents = net.encode(views)
    moved = latents.clone()
    moved[:, 4] += 1
    other = [(a != b).flatten(1).any(1).tolist() for a, b in zip(net.decode(moved), net.decode(latents))]
    assert other == [[False] * 4 + [True, True] + [False] * 2] * 5


def test_what_missing_joints_hold_changes_nothing():
    net = model(8, 2).eval()
    views = seen_views(4, 8)
    for value in (5.0, 1e6, float("nan"), float("inf")):
        filled = [torch.cat((torch.where(v[..., 2:] > 0, v[..., :2], value), v[..., 2:]), -1) for v in views]
        assert torch.equal(net.encode(filled), net.encode(views))


@torch.no_grad()
def test_how_joints_are_numbered_does_not_matter():
    """One part, its joints numbered anew; the rows that belong to a joint move with it."""
    part, frames, window = BODY.part("body"), 4, 2
    joints, edges = len(part), part.bones  # the body's joints begin at 0
    order = torch.randperm(joints, generator=torch.Generator().manual_seed(0))  # new joint j is the old joint order[j]
    new = order.argsort().tolist()
    shapes = [PartShape(joints, 0)]
    graph = graph_of(joints, edges, 0)
    moved_graph = graph_of(joints, [(new[a], new[b]) for a, b in edges], new[0])
    assert torch.equal(moved_graph, graph[:, order][:, :, order])
    old, net = (model(frames, window, shapes, [g], layers=2, width=8) for g in (graph, moved_graph))
    net.load_state_dict(old.state_dict())
    # the axis that holds joints, and what lies along it
    along = {
        "encoder.linear": (1, frames, joints),
        "encoder.outputs": (1, joints),
        "decoder.linear": (0, frames, joints),
        "decoder.inputs": (0, joints),
    }
    for name, weight in (
        *net.encoder.named_parameters(prefix="encoder"),
        *net.decoder.named_parameters(prefix="decoder"),
    ):
        axis, *sizes = along.get(name.rsplit(".", 2)[0], (None,))
        if name.endswith("embedding.joint"):
            weight.copy_(weight[order])
        elif name.endswith("edges"):
            dense = torch.zeros(graph.numel()).scatter(0, graph.flatten().nonzero()[:, 0], weight).view_as(graph)
            weight.copy_(dense[:, order][:, :, order][moved_graph > 0])
        elif axis is not None and axis < weight.ndim:
            spread = weight.unflatten(axis, (*sizes, -1))
            weight.copy_(spread.index_select(axis + len(sizes) - 1, order).flatten(axis, axis + len(sizes)))
    (view,) = seen_views(4, frames, shapes)
    latents = net.encode([view[:, :, order]])
    torch.testing.assert_close(latents, old.encode([view]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net.decode(latents)[0], old.decode(latents)[0][:, :, order], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(old.encode([view[:, :, order]]), latents, atol=1e-2)


def test_a_graph_tells_who_is_nearer_to_the_centre():
    same, nearer, farther = graph_of(6, [(0, 1), (1, 2), (1, 3), (2, 3), (3, 2)], 0)  # 4 and 5 are reached by no edge
    assert same.nonzero().tolist() == [[0, 0], [1, 1], [2, 2], [2, 3], [3, 2], [3, 3], [4, 4], [5, 5]]
    assert nearer.nonzero().tolist() == [[1, 0], [2, 1], [3, 1]]
    assert farther.nonzero().tolist() == [[0, 1], [1, 2], [1, 3]]
    assert same[2, 3] == 0.5 and farther[1, 3] == 0.5
    apart = graph_of(4, [(2, 3)], 0)  # an edge that no path joins to the centre
    assert apart[0, 2].tolist() == [0, 0, 0.5, 0.5] and not apart[1:].any()


def test_the_body_s_graphs_are_whole_and_the_hands_have_one():
    graphs = body_graphs()
    for part, graph in zip(BODY.parts, graphs):
        reached = torch.linalg.matrix_power((graph.sum(0) > 0).double(), len(part)) > 0
        assert reached.all(), part.name
        rows = graph.sum(-1)
        torch.testing.assert_close(rows, (rows > 0).float())
    assert torch.equal(graphs[1], graphs[2])
    nearer = graphs[1][1]  # of a hand: a finger's joint has one neighbour nearer to the wrist
    assert (nearer[1:].sum(-1) == 1).all() and not nearer[0].any()


def test_strides_are_small_and_widths_double():
    assert [strides_of(frames) for frames in (1, 7, 8, 10, 12)] == [[1], [7], [2, 2, 2], [2, 5], [2, 2, 3]]
    assert all(math.prod(strides_of(frames)) == frames for frames in range(1, 65))
    assert widths_of([2, 2, 2], 64) == [16, 32, 64]
    assert widths_of([2] * 6, 64) == [16, 16, 16, 16, 32, 64] and widths_of([2, 2], 8) == [8, 8]


def test_checkpointing_changes_no_gradient():
    views = seen_views(4, 8)

    def kept_and_gradients(checkpointing):
        net, kept = model(8, 2, layers=2, checkpointing=checkpointing).train(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            loss = sum(v.square().sum() for v in net(views, quantise=False).views)
        loss.backward()
        return sum(kept), [p.grad for half in (net.encoder, net.decoder) for p in half.parameters()]

    (kept, plain), (kept_less, recomputed) = (kept_and_gradients(checkpointing) for checkpointing in (False, True))
    assert len(plain) == len(recomputed) and all(torch.equal(a, b) for a, b in zip(plain, recomputed))
    assert kept_less < 0.5 * kept


def test_edges_begin_at_one_and_neither_they_nor_joints_decay():
    net = model(4, 2, drawn=False)
    kept = undecayed(net)
    for name, weight in net.named_parameters():
        if name.endswith("edges"):
            assert not weight.any() and id(weight) in kept
        if name.endswith("embedding.joint"):
            assert id(weight) in kept


def test_it_runs_under_autocast():
    net = model(4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = net(seen_views(4, 4), quantise=False).views
    exact = net(seen_views(4, 4), quantise=False).views
    for view, other in zip(views, exact):
        assert (view - other).abs().mean() < 0.05 * other.abs().mean()


def test_it_learns_a_batch_by_heart():
    """Through two numbers a chunk, which a linear map cannot do."""
    shapes = [PartShape(5, 0), PartShape(8, 1)]
    graphs = [graph_of(5, [(0, 1), (1, 2), (2, 3), (3, 4)], 0), graph_of(8, [(0, i) for i in range(1, 7)], 0)]
    views = seen_views(8, 4, shapes)
    sizes = config(width=32, latent=2, type_width=4)
    net = RVQModel(shapes, [1, 1], sizes, frames=4, window=2, graphs=graphs, seed=0)
    net.fit(views)
    optimizer = torch.optim.AdamW([*net.encoder.parameters(), *net.decoder.parameters()], lr=3e-3, weight_decay=0.0)
    losses = []
    for _ in range(300):
        out = net(views, quantise=False).views
        loss = sum(((a - v[..., :2]) * v[..., 2:]).square().mean() for a, v in zip(out, views))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0], (losses[0], losses[-1])
