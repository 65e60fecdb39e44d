"""A training step of configs/default.yaml's model against a plain PyTorch version of it, in one run.

    python -m benchmarks.train_step [--chunks 512] [--pairs 5] [--threads 1] [--arch transformer]

The plain version calls nn.TransformerEncoder part by part and has one ResidualVQ of vector-quantize-pytorch a part. Both take a whole step: forward,
loss, backward, clipping, AdamW and the codebooks' update. Printed: milliseconds, the ratio pair by pair, and what the step's matrix products
alone would take at the rate of a large product measured in the same run. On a GPU bf16 is printed beside fp32.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from signstream.config import load_config
from signstream.models.rvq.rvq_model import RVQModel
from signstream.skeleton import COCO_WHOLEBODY
from signstream.tasks.rvq.views import part_graph, part_shapes


class Plain(nn.Module):
    """The same model as one would write it first."""

    def __init__(
        self, joints: list[int], frames: int, width: int, layers: int, latent: int, levels: int, codes: int
    ) -> None:
        super().__init__()
        from vector_quantize_pytorch import ResidualVQ

        def trunk() -> nn.Module:
            layer = nn.TransformerEncoderLayer(
                width, width // 32, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

        self.frames, self.joints, self.width = frames, joints, width
        self.inputs = nn.ModuleList(nn.Linear(3 * j, width) for j in joints)
        self.outputs = nn.ModuleList(nn.Linear(width, 2 * j) for j in joints)
        self.encoder, self.decoder = trunk(), trunk()
        self.pool, self.unpool = nn.Linear(frames * width, latent), nn.Linear(latent, frames * width)
        self.part_type = nn.Parameter(torch.zeros(2, len(joints), width))
        self.frame = nn.Parameter(torch.zeros(2, frames, width))
        options = {"decay": 0.99, "kmeans_init": True, "kmeans_iters": 2, "threshold_ema_dead_code": 1}
        self.quantizers = nn.ModuleList(
            ResidualVQ(dim=latent, num_quantizers=levels, codebook_size=codes, **options) for _ in joints
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
    model: RVQModel, optimizer: torch.optim.Optimizer, views: list[torch.Tensor], dtype: torch.dtype | None = None
) -> None:
    with torch.autocast(views[0].device.type, dtype=dtype, enabled=dtype is not None):
        out = model(views, watched=torch.arange(len(views[0]), device=views[0].device) % 8 == 0)
    loss = sum(nn.functional.huber_loss(y.float(), v[..., :2], delta=0.1) for y, v in zip(out.views, views))
    (loss + 0.25 * out.quantised.commit.mean() + 1e-3 * out.quantised.usage.sum() / len(views[0])).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.quantizer.update(out.quantised.statistics)


def seconds(work, device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def products(model: RVQModel, views: list[torch.Tensor]) -> float:
    """Floating-point operations of a step's matrix products: the linear layers three times (forward and both gradients), the distances once."""
    total = [0]

    def count(layer: nn.Linear, inputs: tuple, _output: torch.Tensor) -> None:
        total[0] += 3 * 2 * inputs[0].numel() * layer.out_features

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Linear)]
    model(views)
    for hook in hooks:
        hook.remove()
    parts, depth, codes, dim = model.quantizer.codebook.shape
    return total[0] + 2 * parts * depth * codes * dim * len(views[0])


def gemm_rate(device: str) -> float:
    """Floating-point operations a second of a large product."""
    a = torch.randn(2048, 2048, device=device)
    seconds(lambda: a @ a, device)
    return 2 * 2048**3 / min(seconds(lambda: a @ a, device) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--arch", default="transformer")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = load_config("configs/default.yaml", [f"model.arch={args.arch}"])
    model_config, frames = config.model, config.data.chunk_len
    shapes = part_shapes(COCO_WHOLEBODY, share_hands=True)
    views = [
        torch.cat((torch.randn(args.chunks, frames, s.joints, 2), torch.ones(args.chunks, frames, s.joints, 1)), -1).to(
            device
        )
        for s in shapes
    ]
    ours = (
        RVQModel(
            shapes,
            [3] * len(shapes),
            model_config,
            frames=frames,
            graphs=[part_graph(part) for part in COCO_WHOLEBODY.parts],
        )
        .to(device)
        .train()
    )
    ours.quantizer.initialise(
        ours.encode(views).detach(), torch.ones(len(shapes), args.chunks, dtype=torch.bool, device=device), iterations=2
    )
    optimizer = torch.optim.AdamW(ours.parameters())
    sides = {"ours": lambda: step_ours(ours, optimizer, views)}
    if device == "cuda":
        sides["ours, bf16"] = lambda: step_ours(ours, optimizer, views, torch.bfloat16)
    try:
        plain = (
            Plain(
                [s.joints for s in shapes],
                frames,
                model_config.encoder_latent_dim,
                model_config.encoder_layer,
                model_config.latent_dim,
                3,
                model_config.rvq.codebook_size,
            )
            .to(device)
            .train()
        )
        plain_optimizer = torch.optim.AdamW(plain.parameters())
        sides["plain"] = lambda: step_plain(plain, plain_optimizer, views)
    except ImportError:
        print("vector-quantize-pytorch is not installed: ours is measured alone")
    times = {name: [] for name in sides}
    for work in sides.values():
        seconds(work, device)
    for _ in range(args.pairs):
        for name, work in sides.items():
            times[name].append(seconds(work, device))
    for name, spent in times.items():
        print(f"{name:12} {statistics.median(spent) * 1e3:9.1f} ms")
    if "plain" in times:
        print(f"plain / ours {statistics.median(p / o for p, o in zip(times['plain'], times['ours'])):9.2f} x")
    bare = products(ours, views) / gemm_rate(device)
    print(
        f"products     {bare * 1e3:9.1f} ms at the rate of a large product; a step is {statistics.median(times['ours']) / bare:.2f} times that"
    )


if __name__ == "__main__":
    main()
