"""What an export writes beside its tokens: the codes' vectors, the latents, the rows of a language model. They say what
the tokenizer's decoder is given, are whole or not there, and the same bytes over any ranks, batches and restarts."""

import json
import re
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import signstream
from data_sets import signer_root
from helpers import ROOT, tiny_options
from processes import on_ranks
from signstream.config import load_config, to_dict
from signstream.data.cache import open_cache
from signstream.data.datasets import skeleton_of
from signstream.inference import batches
from signstream.inference.export_beside import latents_text, write_latents_beside
from signstream.inference.tokenizer import Tokenizer
from signstream.io.latent_files import LatentFile, latents_beside
from signstream.io.vector_files import read_vectors, vectors_beside
from signstream.space import SigningSpace
from signstream.tasks.rvq.build import build_model
from signstream.tokens.format import read_jsonl
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import SPECIALS, Vocabulary
from signstream.training import checkpoint
from test_export import Tiny, export, killed, on_rank, parts_of, val

KINDS = {"rvq": (), "fsq": ("model.rvq.kind=fsq",)}
LEVELS = "model.rvq.levels={face: 3, left_hand: 2, right_hand: 2, body: 1, full_body: 1}"


def untrained(folder: Path, *options: str) -> Tokenizer:
    """A tokenizer as its weights are drawn, saved as folder/best.pt."""
    every = (*tiny_options(folder / "data"), "model.arch=mlp", LEVELS, "export.codes_per_chunk=full", *options)
    config = load_config(None, list(every))
    skeleton = skeleton_of(config.data)
    model = build_model(config, skeleton)
    if config.model.rvq.kind == "fsq":
        torch.nn.init.normal_(model.quantizer.out, generator=torch.Generator().manual_seed(0))
    model.quantizer.initialised.fill_(True)
    parts, count = [part.name for part in skeleton.parts], len(skeleton.parts)
    space = SigningSpace(tuple(parts), torch.zeros(count, 2), torch.ones(count) / 10, torch.zeros(count, 2))
    task = {"space": space.state_dict(), "budget": None}
    state = {"step": 1, "config": to_dict(config), "model": model.state_dict(), "task": task}
    checkpoint.save(state, folder / "best.pt")
    return signstream.load(folder / "best.pt", device="cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    folder = tmp_path_factory.mktemp("made")
    root = signer_root(folder, 8, {"train": (0, 2), "val": (2, 8)})
    tokenizer = untrained(folder)
    return Tiny(root, folder / "best.pt", tokenizer, open_cache(tokenizer.config.data, quiet=True))


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """An export of everything by one process that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "tokens.jsonl"
    assert export(tiny, out, "--latents", "--to-llm", "--text-vocab-size", "60") == 0
    return out


def contents(out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.parent.iterdir() if path.is_file()}


def random_codes(tokenizer, chunks: int) -> torch.Tensor:
    """Any prefix of each part's levels, nothing at all included."""
    generator = torch.Generator().manual_seed(0)
    shape = (chunks, len(tokenizer.parts), max(tokenizer.levels))
    codes = torch.randint(tokenizer.config.model.rvq.codebook_size, shape, generator=generator)
    sent = (torch.rand(shape[:2], generator=generator) * (torch.tensor(tokenizer.levels) + 1)).long()
    return torch.where(torch.arange(shape[2]) < sent[..., None], codes, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_on_the_sums_of_vectors_is_the_tokenizers_own_decode(kind, tmp_path):
    tokenizer = untrained(tmp_path, *KINDS[kind])
    codes = random_codes(tokenizer, 40)
    vectors = tokenizer.code_vectors
    assert vectors.table.shape == (5, 3, 32, 16) and not vectors.table[3, 1:].any()
    sums = vectors.sums(codes)
    assert sums.std() > 0.1 and bool((sums[codes[..., 0] < 0] == 0).all())
    for ours, theirs in zip(tokenizer.model.decode(sums.transpose(0, 1)), tokenizer.model.detokenise(codes)):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_vectors_of_an_export_are_the_tokenizers(tiny, whole, tmp_path):
    ours, theirs = read_vectors(vectors_beside(whole)), tiny.tokenizer.code_vectors
    assert torch.equal(ours.table, theirs.table)
    assert (ours.parts, ours.levels, ours.tokenizer) == (theirs.parts, theirs.levels, theirs.tokenizer)
    with np.load(vectors_beside(whole)) as file:  # as another program sees them
        assert set(file.files) == {"meta", *(f"{tag}{q}" for tag, n in zip(ours.parts, ours.levels) for q in range(n))}
        assert file["LH1"].dtype == np.float32 and np.array_equal(file["LH1"], ours.table[1, 1])
    assert export(tiny, tmp_path / "some", "--body-parts", "B", "F", "--num-samples", "1", "--latents") == 0
    some = read_vectors(tmp_path / "some.vectors.npz")
    assert some.parts == ("F", "B") and torch.equal(some.table, theirs.table[[0, 3]])
    rows, every = LatentFile.open(tmp_path / "some.latents.npy"), LatentFile.open(latents_beside(whole))
    assert np.array_equal(rows.rows(0, rows.shape[0]), every.rows(0, rows.shape[0])[:, [0, 3]])


def test_latents_are_what_the_quantiser_was_given_in_the_lines_order(tiny, whole):
    latents = np.load(latents_beside(whole), mmap_mode="r")
    assert latents.dtype == np.float16 and latents.shape[1:] == (5, 16)
    at = 0
    for tokens, i in zip(read_jsonl(whole), val(tiny), strict=True):
        n = len(tokens.codes)
        reading = tiny.tokenizer.read([tiny.cache.frames(i)], [0])
        shows = (reading.codes[:n, :, :1] >= 0).numpy()
        expected = np.where(shows, reading.latents[:n].numpy(), 0)
        assert np.allclose(latents[at : at + n], expected, rtol=2e-3, atol=1e-4)
        assert not (tokens.codes[..., 0].numpy() >= 0)[~shows[..., 0]].any()
        at += n
    assert at == len(latents) and LatentFile.open(latents_beside(whole)).note.tokenizer == tiny.tokenizer.digest


def test_tokens_do_not_change_for_what_is_written_beside_them(tiny, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_FRAMES", 1)
    assert export(tiny, tmp_path / "tokens.jsonl") == 0
    assert contents(tmp_path / "tokens.jsonl").keys() == {"tokens.jsonl", "tokens.vectors.npz"}
    assert contents(tmp_path / "tokens.jsonl").items() <= contents(whole).items()


def test_killed_and_resumed_by_two_ranks_all_of_it_is_the_same_bytes(tiny, whole, tmp_path):
    out = tmp_path / "tokens.jsonl"
    options = ["--latents", "--to-llm", "--text-vocab-size", "60"]
    arguments = ["--checkpoint", str(tiny.checkpoint), "--out", str(out), *options]
    killed(arguments, 2)
    assert parts_of(out)[".tokens.jsonl.rank0.part"] >= 1
    (tmp_path / ".tokens.latents.npy.0a1b2c3d.part").write_bytes(b"what a kill in the merge leaves")
    assert on_ranks(2, partial(on_rank, arguments, {}), tmp_path / "ranks", join=False) == [0, 0]
    assert contents(out) == contents(whole) and not parts_of(out)


def test_part_files_without_latents_are_not_taken_for_an_export_with_them(tiny, whole, tmp_path):
    out = tmp_path / "tokens.jsonl"
    killed(["--checkpoint", str(tiny.checkpoint), "--out", str(out)], 2)
    assert parts_of(out) and export(tiny, out, "--latents") == 0
    assert latents_beside(out).read_bytes() == latents_beside(whole).read_bytes()


def test_a_fault_leaves_what_stood_beside_the_tokens(tiny, whole, tmp_path, monkeypatch):
    out = tmp_path / "tokens.jsonl"
    latents_beside(out).write_text("an older export's")
    monkeypatch.setattr("signstream.inference.export_beside.as_latents", lambda values: values[:-1])
    with pytest.raises(AssertionError, match="are missing"):
        export(tiny, out, "--latents")
    assert latents_beside(out).read_text() == "an older export's" and not out.exists()


def test_the_latents_of_many_clips_take_the_memory_of_one(tmp_path):
    chunks = {f"clip{i}": 14 for i in range(1500)}
    vectors = CodeVectors(("F", "LH", "RH"), (1, 1, 1), "digest", torch.ones(3, 1, 2, 64))
    fields = (latents_text(torch.full((14, 3, 64), 1e6 * (-1) ** i)).encode() for i in range(len(chunks)))
    tracemalloc.start()
    write_latents_beside(tmp_path / "tokens.jsonl", fields, vectors, chunks=chunks)
    rows = LatentFile.open(tmp_path / "tokens.latents.npy").rows(13, 15)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "tokens.latents.npy").stat().st_size > 8e6 and peak < 3e6
    assert rows[:, 0, 0].tolist() == [65504, -65504], "beyond its range float16 ends"


def test_a_vector_for_each_id(tiny, whole):
    added = json.loads(whole.with_name("tokens.added_tokens.json").read_text())
    file = np.load(whole.with_name("tokens.added_vectors.npz"))
    assert json.loads(bytes(file["meta"]))["first_id"] == 60 and len(file["vectors"]) == len(added)
    table = tiny.tokenizer.code_vectors.table
    assert np.array_equal(file["vectors"][added["<LH1:a7>"] - 60], table[1, 1, 7])
    assert (file["part"][added["<LH1:a7>"] - 60], file["level"][added["<LH1:a7>"] - 60]) == (1, 1)
    assert not file["vectors"][: len(SPECIALS)].any() and (file["part"][: len(SPECIALS)] == -1).all()
    with pytest.raises(ValueError, match="the vocabulary has other parts"):
        tiny.tokenizer.code_vectors.of_ids(Vocabulary(("F",), (1,), 32))


def test_the_page_puts_the_vectors_into_the_rows_of_a_language_model(tiny, whole):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(vocab_size=64, **sizes, **heads))
    before = model.get_input_embeddings().weight[:60].detach().clone()
    page = (ROOT / "docs" / "tokens.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1].replace("exports/", f"{whole.parent}/"), {"model": model})
    rows = model.get_input_embeddings().weight.detach()
    added = json.loads(whole.with_name("tokens.added_tokens.json").read_text())
    assert len(rows) == 60 + len(added) and torch.equal(rows[:60], before)
    table = tiny.tokenizer.code_vectors.table
    for p, tag in enumerate(("F", "LH")):
        book = rows[[added[text] for text in added if text.startswith(f"<{tag}0:")]]
        assert torch.allclose(book.std(), before.std(), rtol=0.05)
        near, far = torch.cdist(table[p, 0], table[p, 0]), torch.cdist(book, book)
        assert torch.corrcoef(torch.stack((near.flatten(), far.flatten())))[0, 1] > 0.8, "near codes have near rows"
    line = json.loads(whole.with_name("tokens.llm.jsonl").read_text().splitlines()[0])
    ids, labels = (torch.tensor([line[key] + [1, 2, 3]]) for key in ("input_ids", "labels"))
    loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    assert loss.isfinite() and all(gradient[i].any() for i in line["input_ids"][1:3])
