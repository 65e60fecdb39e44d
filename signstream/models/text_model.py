"""The text side of translation: an mBART of transformers' own class, in parts frozen.

    B clips or sentences   T steps of signing   U units of a sentence (text_tokenizer.py)   V tokens   D width

    text.freeze(SPECIFIED)
    text.read(ids [B, U], mask [B, U])                          [B, U, D], of mBART's encoder
    text(embeds [B, T, D], mask [B, T], decoder_inputs(labels)) logits [B, U, V]; the loss is the caller's
    text.attention(embeds, mask, decoder_ids)                   [B, U, T], where the decoder looks
    text.generate(embeds, mask, beams=5, n_best=1)              Generated(ids [B, n, U], scores [B, n])
    text.generate(.., beside=[other.listens(embeds, mask)])     the same, of the mean of several models' logits

text_sources.py makes or opens one. mBART ends a sentence with its language and reads it rotated by one: its decoder
starts with the language and says the first token next. So does generation here: the language is the decoder's start,
and nothing is forced after it. The public code forces the language as the second unit, a start that training never saw.

`scale_inputs`: mBART multiplies its own embeddings by the root of D (32) before it adds positions; what comes from
signing is not multiplied, as in the specification, unless this is true.

A frozen group gets no gradient of its own and stays in evaluation mode, whoever calls train(); gradients still pass
through it. It is not among what a checkpoint keeps (state_dict_to_keep): frozen_digest() says whose it was.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from signstream import published
from signstream.errors import UserError, shown
from signstream.models.text_tokenizer import BEGIN, END, PAD, TextTokenizer

GROUPS = ("embedding", "positions", "encoder", "decoder")
SPECIFIED = ("embedding", "positions", "encoder")  # what the specification freezes


class Generated(NamedTuple):
    ids: Tensor  # [B, n, U] int64: tokens and </s>, then 1; best first
    scores: Tensor  # [B, n] float32: sum of the log-probabilities over units ** length_penalty


class Listens(NamedTuple):
    """A text model that has read B clips."""

    model: TextModel
    hidden: Tensor  # [B, T, D] of its encoder
    mask: Tensor  # [B, T]

    def next(self, ids: Tensor) -> Tensor:
        """ids [B * n, U], n beams a clip -> [B * n, V] float32 log-probabilities of what comes next. Without a cache,
        since whoever searches does not say which beam went on from which."""
        beams, mbart = len(ids) // len(self.hidden), self.model.mbart
        hidden, mask = (each.repeat_interleave(beams, 0) for each in (self.hidden, self.mask.long()))
        body = mbart.model
        out = body(encoder_outputs=(hidden,), attention_mask=mask, decoder_input_ids=ids, use_cache=False)
        logits = mbart.lm_head(out.last_hidden_state[:, -1]) + mbart.final_logits_bias  # as mBART has them, of one unit
        return logits.float().log_softmax(-1)


class Mean:
    """A logits processor of transformers: the log-softmax of the mean of all models' logits, which is that of the mean
    of their log-probabilities, for the two differ by one number a row. It comes after transformers' own processors, so
    what these rule out (-inf) stays ruled out."""

    def __init__(self, others: Sequence[Listens]) -> None:
        self.others = others

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """ids [B * n, U], scores [B * n, V] of the model that searches: logits or their log-softmax"""
        total = scores.float().log_softmax(-1)
        for other in self.others:
            total = total + other.next(ids)
        return (total / (1 + len(self.others))).log_softmax(-1)


class TextModel(nn.Module):
    def __init__(
        self, mbart: Any, tokenizer: TextTokenizer, *, origin: Mapping[str, Any], scale_inputs: bool = False
    ) -> None:
        super().__init__()
        self.mbart, self.tokenizer = mbart, tokenizer
        self.origin = dict(origin)
        self.frozen: tuple[str, ...] = ()
        config = mbart.config
        self.width, self.positions = int(config.d_model), int(config.max_position_embeddings)
        self.scale = math.sqrt(self.width) if scale_inputs and config.scale_embedding else 1.0
        self.scale_inputs = scale_inputs
        if config.vocab_size < tokenizer.size:
            raise UserError(f"the tokenizer has {tokenizer.size} tokens and the mBART {config.vocab_size}: not a pair")
        # What generates is said in generate() alone, not in a published file.
        mbart.generation_config = transformers_package().GenerationConfig(bos_token_id=BEGIN, pad_token_id=PAD)

    def plain(self) -> dict[str, Any]:
        """Plain values that opened_model makes this model of: drawn anew, or fetched before; weights are not among
        them."""
        languages = {"source": self.tokenizer.source, "target": self.tokenizer.target}
        return {**self.origin, **languages, "scale_inputs": self.scale_inputs}

    # -- frozen groups

    def freeze(self, groups: Iterable[str]) -> None:
        """These, and no others."""
        chosen = tuple(groups)
        for group in chosen:
            if group not in GROUPS:
                raise UserError(f"the text model has no part {shown(group)}: it has {', '.join(GROUPS)}")
        self.frozen = tuple(group for group in GROUPS if group in chosen)
        for name, parameter in self.mbart.named_parameters():
            parameter.requires_grad_(group_of(name) not in self.frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> TextModel:
        super().train(mode)
        body = self.mbart.model
        modules = {
            "embedding": (body.shared,),
            "positions": (body.encoder.embed_positions, body.decoder.embed_positions),
            "encoder": (body.encoder,),
            "decoder": (body.decoder,),
        }
        for group in self.frozen:
            for module in modules[group]:
                module.eval()
        for name, parameter in self.mbart.named_parameters():
            if group_of(name) in self.frozen:
                parameter.requires_grad_(False)
        return self

    def frozen_digest(self) -> str:
        """Of all that is frozen; equal models have equal digests."""
        tensors = _tensors(self.mbart).items()
        return published.digest_of({name: tensor for name, tensor in tensors if group_of(name) in self.frozen})

    def check_digest(self, digest: str) -> None:
        ours = self.frozen_digest()
        if digest != ours:
            name = self.origin.get("name", "the tiny model")
            raise UserError(
                f"the frozen weights of {name} are not those of the training: {ours[:12]} here, {shown(digest, 12)} "
                "there; take the text model that the run was trained with"
            )

    def state_dict_to_keep(self) -> dict[str, Tensor]:
        """What training changes: each tensor once, of no frozen group."""
        return {
            name: tensor.detach() for name, tensor in _tensors(self.mbart).items() if group_of(name) not in self.frozen
        }

    def load_kept(self, state: Mapping[str, Any]) -> None:
        """From state_dict_to_keep of the same model with the same groups frozen; on an error nothing has changed."""
        own = self.state_dict_to_keep()
        odd = sorted(set(own) ^ set(state), key=str)
        if odd:
            where = "lacks" if odd[0] in own else "has, and this one does not,"
            raise UserError(f"not the kept weights of this text model: what was kept {where} {shown(odd[0])}")
        for name, tensor in own.items():
            kept = state[name]
            if not isinstance(kept, Tensor) or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
                raise UserError(f"the kept weight {name} is not a {tensor.dtype} of shape {list(tensor.shape)}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    # -- what it computes

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Sentences [B, U] through the encoder: [B, U, D]"""
        self._fits(ids.shape[1], "units of a sentence")
        return self.mbart.model.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state

    def forward(self, embeds: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """Signing [B, T, D] with its mask [B, T] bool, and what the decoder reads [B, U]: logits [B, U, V]"""
        self._fits(decoder_ids.shape[1], "units of a sentence")
        inputs = {**self._inputs(embeds, mask), **whole_masks(mask, decoder_ids)}
        return self.mbart(**inputs, decoder_input_ids=decoder_ids, use_cache=False).logits

    @torch.no_grad()
    def attention(self, embeds: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """As forward takes them: where the decoder looks while it chooses what comes after each unit, [B, U, T]. The
        mean over layers and heads; a row sums to 1 and is 0 in the padding. In evaluation mode."""
        inputs = {**self._inputs(embeds, mask), "decoder_input_ids": decoder_ids}
        out = that_tells(self.mbart)(**inputs, use_cache=False, output_attentions=True)
        return torch.stack(out.cross_attentions).float().mean((0, 2))

    @torch.no_grad()
    def listens(self, embeds: Tensor, mask: Tensor) -> Listens:
        """What generate(beside=) takes, of signing [B, T, D] with its mask."""
        return Listens(self, self.mbart.model.encoder(**self._inputs(embeds, mask)).last_hidden_state, mask)

    @torch.no_grad()
    def generate(
        self,
        embeds: Tensor,
        mask: Tensor,
        *,
        beams: int = 5,
        max_new_tokens: int = 60,
        n_best: int = 1,
        length_penalty: float = 1.0,
        beside: Sequence[Listens] = (),
    ) -> Generated:
        """`beside`: other models with the same tokens, each of which has read the same clips; at each step of the
        search the mean of all models' logits decides. They must be in evaluation mode."""
        if not 1 <= n_best <= beams or max_new_tokens < 1:
            raise UserError(
                f"{n_best} best of {beams} beams in {max_new_tokens} units: at least one each, and no more than beams"
            )
        self._fits(max_new_tokens, "units of a sentence")
        settings = transformers_package().GenerationConfig(
            **{"num_beams": beams, "num_return_sequences": n_best, "max_new_tokens": max_new_tokens},
            **{"length_penalty": length_penalty, "do_sample": False, "early_stopping": False},
            **{"decoder_start_token_id": self.tokenizer.target_id, "forced_eos_token_id": END},
            **{"bos_token_id": BEGIN, "pad_token_id": PAD, "eos_token_id": END},
            **{"return_dict_in_generate": True, "output_scores": True},
        )
        means = transformers_package().LogitsProcessorList([Mean(beside)] if beside else [])
        training = self.training
        self.eval()
        try:
            inputs = {**self._inputs(embeds, mask), **cache_of_beams(self.mbart)}
            out = self.mbart.generate(**inputs, generation_config=settings, logits_processor=means)
        finally:
            self.train(training)
        ids = out.sequences[:, 1:]
        scores = out.sequences_scores if beams > 1 else self._greedy_scores(out, length_penalty)
        return Generated(ids.reshape(len(embeds), n_best, -1), scores.float().reshape(len(embeds), n_best))

    def _greedy_scores(self, out: Any, length_penalty: float) -> Tensor:
        """As transformers scores beams: [B]"""
        steps = self.mbart.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
        said = out.sequences[:, 1:] != PAD
        return steps.masked_fill(~said, 0).sum(1) / said.sum(1) ** length_penalty

    def _inputs(self, embeds: Tensor, mask: Tensor) -> dict[str, Tensor]:
        self._fits(embeds.shape[1], "steps of signing")
        embeds = torch.where(mask[..., None], embeds, 0) * self.scale  # whatever stands in the padding
        return {"inputs_embeds": embeds, "attention_mask": mask.long()}

    def _fits(self, count: int, what: str) -> None:
        if count > self.positions:
            raise UserError(f"{count} {what}: the text model has positions for {self.positions}")


def group_of(name: str) -> str:
    """The group of a parameter or buffer of transformers' MBartForConditionalGeneration."""
    if name in ("lm_head.weight", "final_logits_bias") or name.endswith(("shared.weight", "embed_tokens.weight")):
        return "embedding"
    if ".embed_positions." in name:
        return "positions"
    return "encoder" if name.startswith("model.encoder.") else "decoder"


def group_counts(mbart: nn.Module) -> dict[str, int]:
    """Parameters of each group, tied ones once."""
    counts = dict.fromkeys(GROUPS, 0)
    for name, parameter in mbart.named_parameters():
        counts[group_of(name)] += parameter.numel()
    return counts


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, tied ones once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def that_tells(mbart: Any) -> Any:
    """The same weights in a network that gives its attention, in evaluation mode: transformers' own does, and torch's,
    which is the usual one, does not. Which one it has, a network is told when it is made."""
    config = type(mbart.config).from_dict(mbart.config.to_dict(), attn_implementation="eager")
    with torch.device("meta"):  # nothing is drawn, and no memory taken
        twin = type(mbart)(config)
    twin.load_state_dict(mbart.state_dict(), assign=True)
    return twin.eval()


def whole_masks(mask: Tensor, decoder_ids: Tensor) -> dict[str, Tensor]:
    """The masks [B, 1, 1, T] and [B, 1, U, U] that transformers makes of mask [B, T]. It would first look whether there
    is anything to mask, for which the host waits in every step. Versions that take no such masks get none."""
    transformers_package()
    from transformers.models.mbart import modeling_mbart

    if not hasattr(modeling_mbart, "create_bidirectional_mask"):
        return {}
    clips, units = decoder_ids.shape
    earlier = torch.ones(units, units, dtype=torch.bool, device=mask.device).tril()
    return {"attention_mask": mask[:, None, None], "decoder_attention_mask": earlier.expand(clips, 1, units, units)}


def cache_of_beams(mbart: Any) -> dict[str, Any]:
    """What one search keeps of each beam. All beams of a clip hear the same, so that need not follow them when they
    change places, for which transformers copies it at every unit. Versions that have a way of their own get none."""
    if hasattr(mbart, "_reorder_cache"):
        return {}
    package = transformers_package()
    said, heard = package.DynamicCache(), package.DynamicCache()
    heard.reorder_cache = lambda beams: None
    taken = inspect.signature(mbart.forward).parameters
    return {"cache" if "cache" in taken else "past_key_values": package.EncoderDecoderCache(said, heard)}


def decoder_inputs(labels: Tensor) -> Tensor:
    """Labels [B, U] rotated as mBART does: the language, then the tokens. What comes after </s> has no label."""
    transformers_package()
    from transformers.models.mbart.modeling_mbart import shift_tokens_right

    return shift_tokens_right(labels, PAD)


def transformers_package() -> Any:
    return published.transformers_package("text models")
