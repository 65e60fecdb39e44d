"""A network and an example of what goes in -> all bytes of a file: ONNX, TorchScript or .pt2, its description in it."""

from __future__ import annotations

import inspect
import io
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from signstream.errors import UserError
from signstream.inference.model_file.file import ENDS, describe, need, quiet
from signstream.inference.model_file.network import make_network
from signstream.inference.model_file.samples import random_codes, random_poses
from signstream.inference.tokenizer import Tokenizer

OPSET = 17  # the first with LayerNormalization, and the last that torch 2.1 writes


def export(tokenizer: Tokenizer, kind: str, form: str, *, precision: str = "fp32") -> bytes:
    """The whole file."""
    description = describe(tokenizer, kind, form=form, precision=precision)
    draw = random_poses if kind == "encoder" else random_codes
    with torch.no_grad(), quiet():
        return FORMS[form](make_network(tokenizer, kind), draw(tokenizer, 3, seed=3), description)


def to_torchscript(network: nn.Module, inputs: Tensor, description: dict[str, str]) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(network, (inputs,), check_trace=False), file, _extra_files=description)
    return file.getvalue()


def to_pt2(network: nn.Module, inputs: Tensor, description: dict[str, str]) -> bytes:
    version = torch.__version__
    if not hasattr(torch.export, "Dim") or tuple(map(int, version.split(".")[:2])) < (2, 6):
        raise UserError(f"--format pt2 needs torch 2.6 or later and this is {version}: take onnx or torchscript")
    file = io.BytesIO()
    windows, window = torch.export.Dim("windows", min=1), int(description["window"])
    count = windows if window == 1 else window * windows
    program = torch.export.export(network, (inputs,), dynamic_shapes=({0: count},), strict=False)
    torch.export.save(program, file, extra_files=description)
    return file.getvalue()


def to_onnx(network: nn.Module, inputs: Tensor, description: dict[str, str]) -> bytes:
    """By way of a trace, which every torch since 2.1 can do."""
    onnx, ends = need("onnx"), ENDS[description["kind"]]
    file: Any = io.BytesIO()  # every torch takes one, whatever its hints say
    by_trace: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        network,
        (inputs,),
        file,
        input_names=[ends.given],
        output_names=[ends.got],
        opset_version=OPSET,
        dynamic_axes={ends.given: {0: "N"}, ends.got: {0: "N"}},
        **by_trace,
    )
    model = NARROW[description["precision"]](onnx.load_from_string(file.getvalue()))
    onnx.helper.set_model_props(model, description)
    model.producer_name = "signstream"
    model.producer_version = description["tokenizer"]
    return model.SerializeToString()


def to_fp16(model: Any) -> Any:
    """Half the size: weights lie in 16 bits and are widened when the file is opened; all arithmetic stays in 32."""
    onnx, widen = need("onnx"), []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) < 2 or math.prod(weight.dims) < 1024:
            continue
        name, narrow = weight.name, onnx.numpy_helper.to_array(weight).astype(np.float16)
        if not np.isfinite(narrow).all():
            continue
        weight.CopyFrom(onnx.numpy_helper.from_array(narrow, f"{name}_16"))
        widen.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(widen + nodes)
    return model


FORMS = {"onnx": to_onnx, "torchscript": to_torchscript, "pt2": to_pt2}
NARROW = {"fp32": lambda model: model, "fp16": to_fp16}  # of an ONNX model's weights, a precision
