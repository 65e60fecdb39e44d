"""Evaluated, a row gets the same bits in any company; in training and in a recording nothing is added."""

import pytest
import torch

from signstream.models.rvq.same_bits import ROWS, RowLinear, at_least_rows, blocks, one_thread, whole_windows


def layer() -> RowLinear:
    torch.manual_seed(0)
    return RowLinear(300, 200)


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (640, 64), (512, 2048), (2660, 256)])
def test_from_so_many_rows_on_this_cpu_gives_a_row_the_same_bits(size):
    """How many it takes grows with what is added up, and differs by CPU."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, size[0], generator=draw)
    weight, bias = torch.randn(size[::-1], generator=draw), torch.randn(size[1], generator=draw)
    with one_thread():
        whole = torch.nn.functional.linear(x, weight, bias)
        for rows in range(ROWS, 100):
            assert torch.equal(torch.nn.functional.linear(x[5 : 5 + rows], weight, bias), whole[5 : 5 + rows]), rows


@torch.no_grad()
def test_a_row_has_the_same_bits_alone_and_among_others():
    net, x = layer().eval(), torch.randn(40, 300, generator=torch.Generator().manual_seed(1))
    with one_thread():
        whole = net(x)
        for rows in (slice(0, 1), slice(5, 7), slice(10, 13), slice(3, 30)):
            assert torch.equal(net(x[rows]), whole[rows])
        assert net(x[:0]).shape == (0, 200)
        assert torch.equal(net(x.view(20, 2, 300)), whole.view(20, 2, 200))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("rows", [1, ROWS])
def test_in_training_and_in_a_recording_it_is_a_linear_layer(rows):
    net, x = layer(), torch.randn(rows, 300, generator=torch.Generator().manual_seed(1))
    plain = torch.nn.functional.linear(x, net.weight, net.bias)
    assert torch.equal(net.train()(x), plain)
    graph = torch.jit.trace(net.eval(), (x,), check_trace=False).graph
    assert "aten::pad" not in str(graph) and "aten::slice" not in str(graph)


def test_rows_are_added_where_there_are_too_few():
    x = torch.ones(3, 2, dtype=torch.int64)
    assert at_least_rows(x, 0, fill=-1).tolist() == [[1, 1]] * 3 + [[-1, -1]] * (ROWS - 3)
    assert at_least_rows(x, 1, rows=3).tolist() == [[1, 1, 0]] * 3
    assert at_least_rows(x, 0, rows=2) is x


@pytest.mark.parametrize(
    ("chunks", "window", "tokens", "filled"),
    [(0, 1, 1, 16), (1, 1, 1, 16), (1, 1, 10, 2), (0, 3, 1, 18), (16, 3, 1, 18), (19, 3, 10, 21), (17, 1, 1, 17)],
)
def test_windows_are_whole_and_make_enough_rows(chunks, window, tokens, filled):
    assert len(whole_windows(torch.zeros(chunks, 5), window, tokens)) == filled


@pytest.mark.parametrize(
    ("windows", "window", "tokens"), [(0, 1, 10), (1, 2, 10), (63, 1, 10), (500, 1, 10), (77, 8, 5)]
)
def test_blocks_are_whole_windows_one_after_another(windows, window, tokens):
    x = torch.zeros(2, windows * window)
    pieces = blocks(x, 1, window=window, tokens=tokens)
    assert torch.equal(torch.cat([torch.arange(x.shape[1])[piece] for piece in pieces]), torch.arange(x.shape[1]))
    sizes = [piece.stop - piece.start for piece in pieces]
    assert all(size % window == 0 for size in sizes) and max(sizes) * tokens < 2 * 640 + window * tokens
