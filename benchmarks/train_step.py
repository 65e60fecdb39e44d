"""A training step of configs/default.yaml's model against a plain PyTorch version of it, in one run.

    python -m benchmarks.train_step [--chunks 512] [--pairs 5] [--threads 1] [--arch transformer]

The plain version calls nn.TransformerEncoder part by part and has one ResidualVQ of vector-quantize-pytorch a part.
Both take a whole step: forward, loss, backward, clipping, AdamW and the codebooks' update. Printed: milliseconds, the
ratio pair by pair, and what the step's matrix products alone would take at the rate of a large product measured in the
same turn. On a GPU bf16 is printed beside fp32.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.pairs import PAIRS, Row, Times, Work, in_turn, over, shown_seconds
from signstream import cli
from signstream.config import load_config
from signstream.config.rvq import Config
from signstream.models.rvq.rvq_model import RVQModel
from signstream.models.rvq.sizes import PartShape
from signstream.skeleton import COCO_WHOLEBODY
from signstream.tasks.rvq.build import part_graph, part_shapes

LEVELS = 3  # of residual quantisation, for every part


class Sizes(NamedTuple):
    joints: list[int]  # of each part
    frames: int
    width: int
    layers: int
    latent: int
    codes: int


class Plain(nn.Module):
    """The same model as one would write it first."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from vector_quantize_pytorch import ResidualVQ

        joints, frames, width, layers, latent, codes = sizes

        def trunk() -> nn.Module:
            layer = nn.TransformerEncoderLayer(
                width, width // 32, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

        self.frames, self.width = frames, width
        self.inputs = nn.ModuleList(nn.Linear(3 * j, width) for j in joints)
        self.outputs = nn.ModuleList(nn.Linear(width, 2 * j) for j in joints)
        self.encoder, self.decoder = trunk(), trunk()
        self.pool, self.unpool = nn.Linear(frames * width, latent), nn.Linear(latent, frames * width)
        self.part_type = nn.Parameter(torch.zeros(2, len(joints), width))
        self.frame = nn.Parameter(torch.zeros(2, frames, width))
        options = {"decay": 0.99, "kmeans_init": True, "kmeans_iters": 2, "threshold_ema_dead_code": 1}
        self.quantizers = nn.ModuleList(
            ResidualVQ(dim=latent, num_quantizers=LEVELS, codebook_size=codes, **options) for _ in joints
        )

    def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
        loss = torch.zeros(())
        for part, view in enumerate(views):
            x = self.encoder(self.inputs[part](view.flatten(2)) + self.part_type[0, part] + self.frame[0])
            quantized, _, commit = self.quantizers[part](self.pool(x.flatten(1))[None])
            y = self.unpool(quantized[0]).view(-1, self.frames, self.width) + self.part_type[1, part] + self.frame[1]
            y = self.outputs[part](self.decoder(y)).view_as(view[..., :2])
            loss = loss + nn.functional.huber_loss(y, view[..., :2], delta=0.1) + 0.25 * commit.mean()
        return loss


def step_plain(model: Plain, optimizer: torch.optim.Optimizer, views: list[torch.Tensor]) -> None:
    model(views).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def step_ours(
    model: RVQModel, optimizer: torch.optim.Optimizer, views: list[torch.Tensor], *, dtype: torch.dtype | None = None
) -> None:
    with torch.autocast(views[0].device.type, dtype=dtype, enabled=dtype is not None):
        out = model(views, watched=torch.arange(0, len(views[0]), 8, device=views[0].device))
    loss = sum(nn.functional.huber_loss(y.float(), v[..., :2], delta=0.1) for y, v in zip(out.views, views))
    (loss + 0.25 * out.quantised.commit.mean() + 1e-3 * out.quantised.usage.sum() / len(views[0])).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.quantizer.update(out.quantised.statistics)


def products(model: RVQModel, views: list[torch.Tensor]) -> float:
    """Floating-point operations of a step's matrix products: the linear layers three times (forward and both
    gradients), the distances once."""
    total = [0]

    def count(layer: nn.Linear, inputs: tuple, _output: torch.Tensor) -> None:
        total[0] += 3 * 2 * inputs[0].numel() * layer.out_features

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Linear)]
    model(views)
    for hook in hooks:
        hook.remove()
    parts, depth, codes, dim = model.quantizer.codebook.shape
    return total[0] + 2 * parts * depth * codes * dim * len(views[0])


SIDE = 2048  # of a large product


def large_product(device: str) -> Work:
    a = torch.randn(SIDE, SIDE, device=device)
    return lambda: a @ a


def random_views(shapes: list[PartShape], chunks: int, *, frames: int, device: str) -> list[torch.Tensor]:
    """P x [N, L, J, 3], all visible."""
    views = []
    for shape in shapes:
        xy = torch.randn(chunks, frames, shape.joints, 2)
        views.append(torch.cat((xy, torch.ones(chunks, frames, shape.joints, 1)), -1).to(device))
    return views


def our_model(config: Config, shapes: list[PartShape], views: list[torch.Tensor]) -> RVQModel:
    """With codebooks made from its latents."""
    graphs = [part_graph(part) for part in COCO_WHOLEBODY.parts]
    model = RVQModel(shapes, [LEVELS] * len(shapes), config.model, frames=config.data.chunk_len, graphs=graphs)
    model = model.to(views[0].device).train()
    valid = torch.ones(len(shapes), len(views[0]), dtype=torch.bool, device=views[0].device)
    model.quantizer.initialise(model.encode(views).detach(), valid, iterations=2)
    return model


def plain_model(config: Config, shapes: list[PartShape], device: str) -> Plain | None:
    """None where vector-quantize-pytorch is not installed."""
    model, joints = config.model, [shape.joints for shape in shapes]
    inner = (model.encoder_latent_dim, model.encoder_layer, model.latent_dim, model.rvq.codebook_size)
    try:
        return Plain(Sizes(joints, config.data.chunk_len, *inner)).to(device).train()
    except ImportError:
        print("vector-quantize-pytorch is not installed: ours is measured alone")
        return None


def on(device: str, sides: dict[str, Work]) -> dict[str, Work]:
    """Each until the device has done it."""

    def done(work: Work) -> None:
        work()
        torch.cuda.synchronize()

    return {name: partial(done, work) for name, work in sides.items()} if device == "cuda" else sides


class Ours(NamedTuple):
    model: RVQModel
    views: list[torch.Tensor]
    step: Work
    step_bf16: Work


def ours(config: Config, chunks: int, device: str) -> Ours:
    shapes = part_shapes(COCO_WHOLEBODY, share_hands=True)
    views = random_views(shapes, chunks, frames=config.data.chunk_len, device=device)
    model = our_model(config, shapes, views)
    optimizer = torch.optim.AdamW(model.parameters())
    step = partial(step_ours, model, optimizer, views)
    return Ours(model, views, step, partial(step, dtype=torch.bfloat16))


def bare(times: Times, model: RVQModel, views: list[torch.Tensor]) -> list[float]:
    """Seconds of the step's products, at the rate of the large product of each turn."""
    count = products(model, views) / (2 * SIDE**3)
    return [count * spent for spent in times["large product"]]


def has_bf16() -> bool:
    """Whether the CPU multiplies it: without, it is worked out in float32."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))


def rows() -> Iterator[Row]:
    torch.manual_seed(0)
    made = ours(load_config("configs/default.yaml", kind=Config), 512, "cpu")
    sides: dict[str, Work] = {"step": made.step, "large product": large_product("cpu")}
    if has_bf16():
        sides["bf16"] = made.step_bf16
    times = in_turn(sides, PAIRS)
    times["its matrix products"] = bare(times, made.model, made.views)
    what = "tokenizer's training step, default.yaml, 512 chunks"
    yield Row.of(what, times, ours="step", against="its matrix products", at_most=1.15)
    if "bf16" in times:
        yield Row.of(f"{what}, bf16", times, ours="bf16", against="step", at_least=1.5)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--chunks", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--arch", default="transformer")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = load_config("configs/default.yaml", [f"model.arch={args.arch}"])
    made = ours(config, args.chunks, device)
    sides: dict[str, Work] = {"ours": made.step, "large product": large_product(device)}
    if device == "cuda":
        sides["ours, bf16"] = made.step_bf16
    plain = plain_model(config, part_shapes(COCO_WHOLEBODY, share_hands=True), device)
    if plain is not None:
        plain_optimizer = torch.optim.AdamW(plain.parameters())
        sides["plain"] = lambda: step_plain(plain, plain_optimizer, made.views)
    times = in_turn(on(device, sides), args.pairs)
    times["products"] = bare(times, made.model, made.views)
    for name, spent in times.items():
        print(f"{name:14} {shown_seconds(statistics.median(spent)):>9}")
    for slow, fast in (("plain", "ours"), ("ours", "products")):
        if slow in times:
            print(f"{slow} / {fast} {over(times, slow, fast):9.2f} x")


if __name__ == "__main__":
    cli.run(main)
