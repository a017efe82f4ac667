"""Tells GenAI what a model's tokens say: without that it cannot keep an answer to a grammar."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from mm_orch.core.errors import UnsupportedError
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.optimization.engines.openvino.model_files import MODEL_FILE

if TYPE_CHECKING:
    import openvino_genai
    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.openvino.model_files import OpenVinoModel

    # A layer and one of its outputs.
    Port = tuple[str, str]

logger = logging.getLogger(__name__)

# Those of JSON text, but for the first bytes of characters that nobody has assigned yet.
_NEEDED_BYTES = frozenset((*range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF1)))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The bytes of each token, none for those that are no text; and one that ends an answer."""

    tokens: tuple[bytes, ...]
    end_token_id: int


def read_vocabulary(spec: EngineSpec, model: OpenVinoModel) -> Vocabulary | None:
    """Read what GenAI is to know of the model's tokens; None where answers cannot be guided."""
    import openvino as ov

    graph = ov.Core().read_model(Path(model.directory) / MODEL_FILE)
    width = graph.output("logits").get_partial_shape()[-1]
    if width.is_dynamic:
        return None
    # GenAI's masks are as wide as the logits, and are written for each token that it knows.
    num_logits = width.get_length()
    if not spec.eos_token_ids or max(spec.eos_token_ids) >= num_logits:
        return None
    try:
        tokens = GrammarCompiler(Path(spec.directory), spec.eos_token_ids).read_tokens()
    except UnsupportedError as error:
        logger.info("%s: %s", spec.model, error.message)
        return None
    tokens = tokens[:num_logits]
    if missing := _NEEDED_BYTES - {token[0] for token in tokens if len(token) == 1}:
        logger.info("%s: no tokens for %d bytes: answers are not guided", spec.model, len(missing))
        return None
    return Vocabulary(tuple(tokens), spec.eos_token_ids[0])


def make_tokenizer(vocabulary: Vocabulary | None) -> openvino_genai.Tokenizer:
    """Make a tokeniser that has this vocabulary, or no text at all: token ids go in and out."""
    import openvino_genai

    with tempfile.TemporaryDirectory() as name:
        if vocabulary is not None:
            _write_detokenizer(vocabulary, Path(name))
        return openvino_genai.Tokenizer(name)


def _write_detokenizer(vocabulary: Vocabulary, directory: Path) -> None:
    """Write the model that makes text of token ids; GenAI reads the vocabulary out of it.

    It is in OpenVINO's IR, with operations of OpenVINO's tokenisers:

        ids -> Convert -> VocabDecoder(begins, ends, bytes) -> FuzeRagged -> StringTensorPack
    """
    sizes = np.array([len(token) for token in vocabulary.tokens], dtype=np.int32)
    ends = np.cumsum(sizes, dtype=np.int32)
    text = np.frombuffer(b"".join(vocabulary.tokens), np.uint8)
    graph = _Graph()
    [ids] = graph.add("Parameter", {"shape": "?,?", "element_type": "i64"}, [], ["I64 2"])
    [ids] = graph.add("Convert", {"destination_type": "i32"}, [ids], ["I32 2"])
    constants = [graph.add_constant(values) for values in (ends - sizes, ends, text)]
    *pieces, text_bytes = graph.add(
        "VocabDecoder",
        {"skip_tokens": ""},
        [ids, *constants],
        ["I32 1", "I32 1", "I32 1", "I32 1", "U8 1"],
        version="extension",
    )
    texts = graph.add("FuzeRagged", {}, pieces, ["I32 1", "I32 1"], version="extension")
    strings = graph.add(
        "StringTensorPack",
        {"mode": "begins_ends"},
        [*texts, text_bytes],
        ["STRING 1"],
        version="extension",
    )
    graph.add("Result", {}, strings, [])
    graph.write(directory / "openvino_detokenizer.xml")
    config = json.dumps({"eos_token_id": vocabulary.end_token_id})
    (directory / "config.json").write_text(config, encoding="utf-8")


class _Graph:
    """A graph in the making: its layers, the edges between them, the bytes of its constants."""

    def __init__(self) -> None:
        self._net = ET.Element("net", name="detokenizer", version="11")
        self._layers = ET.SubElement(self._net, "layers")
        self._edges = ET.SubElement(self._net, "edges")
        rt_info = ET.SubElement(self._net, "rt_info")
        # Without it GenAI takes the file for one from before 2024.
        ET.SubElement(rt_info, "openvino_genai_version", value="unknown")
        self._bytes = bytearray()

    def add(
        self,
        kind: str,
        data: dict[str, str],
        inputs: list[Port],
        outputs: list[str],
        *,
        version: str = "opset1",
    ) -> list[Port]:
        """Add an operation; return its outputs, each given by type and number of dimensions."""
        number = str(len(self._layers))
        layer = ET.SubElement(
            self._layers, "layer", id=number, name=f"{kind}_{number}", type=kind, version=version
        )
        if data:
            ET.SubElement(layer, "data", data)
        if inputs:
            into = ET.SubElement(layer, "input")
            for port, (source, source_port) in enumerate(inputs):
                ET.SubElement(into, "port", id=str(port))
                self._edges.append(
                    ET.Element(
                        "edge",
                        {
                            "from-layer": source,
                            "from-port": source_port,
                            "to-layer": number,
                            "to-port": str(port),
                        },
                    )
                )
        ports = [str(len(inputs) + index) for index in range(len(outputs))]
        if outputs:
            out = ET.SubElement(layer, "output")
            for name, form in zip(ports, outputs, strict=True):
                precision, num_dims = form.split()
                place = ET.SubElement(out, "port", id=name, precision=precision)
                for _ in range(int(num_dims)):
                    ET.SubElement(place, "dim").text = "-1"
        return [(number, port) for port in ports]

    def add_constant(self, values: NDArray[Any]) -> Port:
        """Add a constant of one dimension."""
        data = {
            "element_type": {"int32": "i32", "uint8": "u8"}[values.dtype.name],
            "shape": str(values.size),
            "offset": str(len(self._bytes)),
            "size": str(values.nbytes),
        }
        self._bytes += values.tobytes()
        [port] = self.add("Const", data, [], [f"{data['element_type'].upper()} 1"])
        return port

    def write(self, path: Path) -> None:
        """Write the graph, and beside it the bytes."""
        ET.ElementTree(self._net).write(path, encoding="utf-8", xml_declaration=True)
        path.with_suffix(".bin").write_bytes(self._bytes)
