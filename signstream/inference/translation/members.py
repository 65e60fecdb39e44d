"""The networks whose logits a Translator averages, out of their checkpoints; that they fit together, or a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from signstream.config import to_dict
from signstream.config.translation import TranslationConfig
from signstream.errors import UserError
from signstream.models.translation import SignTranslator
from signstream.tasks.translation.restore import Kept, restore
from signstream.training import checkpoint

# of the data's keys: they change nothing of what is read of a clip
FREE = (
    *("root", "layout", "split_file", "meta_dir", "keypoints", "gloss_dict", "check_num_frames", "tokens"),
    *("more_tokens", "cache", "workers", "augment", "visual", "max_tokens"),
)


class Member(NamedTuple):
    config: TranslationConfig
    model: SignTranslator
    kept: Kept

    @classmethod
    def restored(cls, state: Mapping[str, Any], number: int = 1, count: int = 1) -> Member:
        """The `number`-th of `count` checkpoints."""
        try:
            config = checkpoint.config_of(state, TranslationConfig)
            return cls(config, *restore(config, state))
        except UserError as error:
            if count == 1:
                raise
            raise UserError(f"checkpoint {number} of {count}: {error}") from None


def check_alike(members: Sequence[Member]) -> None:
    """That all read the same of a clip and say it in the same tokens."""
    first = members[0]
    for number, member in enumerate(members[1:], 2):
        differs = next(checkpoint.differences(read_of(member), read_of(first), "data"), None)
        if differs is None and member.kept.reads.state() != first.kept.reads.state():
            differs = "it was trained on steps of another shape, or on the tokens of another tokenizer"
        texts = [each.model.text for each in (member, first)]
        ours, theirs = ((t.tokenizer.text(), t.tokenizer.target_id, t.mbart.config.vocab_size) for t in texts)
        if differs is None and ours != theirs:
            differs = "its text model has other tokens, or says them in another language"
        if differs is not None:
            raise UserError(
                f"checkpoint {number} of {len(members)} cannot be averaged with the first: {differs}; an average is "
                "of models that read the same and have the same tokens"
            )


def read_of(member: Member) -> dict[str, Any]:
    return {key: value for key, value in to_dict(member.config)["data"].items() if key not in FREE}
