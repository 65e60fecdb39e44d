"""What a report measures a clip by: its chunks that lie in a gloss segment, and its frames at the file's rate."""

from dataclasses import replace

import pytest
import torch

from signstream.config import Data
from signstream.inference.report.as_filed import at_filed_rate
from signstream.inference.report.items import Item, chunks_within, items_of
from signstream.io.pose_cache import CachedClip


def test_a_clip_comes_back_at_its_files_frame_rate():
    clip = CachedClip("a", "val", 0, 30, 25, 25.0, True, None, "", "", "", ())
    poses = torch.arange(30.0)[:, None, None].expand(30, 1, 3) + 1
    ours = at_filed_rate(poses, clip, Data(fps=30))
    assert len(ours) == 25 and ours[:, 0, 0].tolist() == pytest.approx([1 + 1.2 * i for i in range(25)])
    assert torch.equal(at_filed_rate(poses, replace(clip, num_frames=30, fps=29.97), Data(fps=30)), poses)
    assert len(at_filed_rate(poses[:10], replace(clip, num_frames=30, fps=30.0), Data(fps=30, max_frames=10))) == 10


def test_segments_become_the_chunks_whose_middle_they_hold():
    clip = CachedClip(
        "a", "val", 0, 60, 50, 25.0, True, None, "", "A B", "", ()
    )  # 50 frames of a file are 60, 6 chunks of 8 1/3 frames of the file
    data = Data(fps=30, chunk_len=10)
    assert chunks_within(0, 50, clip, data=data) == (0, 6)
    assert chunks_within(4, 13, clip, data=data) == (0, 2)  # middles at 4.2 and 12.5
    assert chunks_within(5, 9, clip, data=data) == (0, 1)  # no middle: the chunk that has frame 7
    first, last = chunks_within(45, 50, replace(clip, length=20), data=data)  # cut by max_frames
    assert first == last
    made = {"": ("A",), "x": ("A", "B")}
    for name, words in made.items():
        clips = [replace(clip, gloss=" ".join(words), name=name)]
        cache = type("Cache", (), {"clips": clips})
        whole, segments = items_of(cache, [0], data)
        assert whole == [Item(0, 0, 6, words)] and segments == whole[: len(words) == 1]
