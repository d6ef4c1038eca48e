"""The on-device file in the installed runtimes; `tests/runtimes.py` runs it in many more."""

import functools

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_charlm.export import packing, portable, tflite
from tests import runtime_call, runtimes

TIED = (("lstm", 1, 12, True, "characters"),)


@functools.cache
def files():
    """A model with tied weights in each format, by its name."""
    return {each.quantize: each for each in runtimes.examples(TIED, shipped=False)}


@pytest.mark.parametrize("kind", ["litert", "compiled", "tensorflow"])
@pytest.mark.parametrize("quantize", tflite.QUANTIZE)
def test_a_file_computes_the_same_in_every_installed_runtime(quantize, kind, tmp_path):
    example, path = files()[quantize], tmp_path / "m.tflite"
    path.write_bytes(example.content)
    results = runtime_call.answer(kind, str(path), example.calls)
    assert runtimes.fault(example, results) is None


def test_a_fault_is_seen(tmp_path):
    example, path = files()["none"], tmp_path / "m.tflite"
    path.write_bytes(files()["int8"].content)
    results = runtime_call.answer("litert", str(path), example.calls)
    assert "logits differ" in runtimes.fault(example, results)
    path.write_bytes(b"no model")
    assert "Error" in runtime_call.answer("litert", str(path), example.calls)


@pytest.mark.parametrize("quantize", tflite.QUANTIZE)
def test_a_file_has_what_old_runtimes_and_simple_hosts_need(quantize):
    model = schema.ModelT.InitFromPackedBuf(files()[quantize].content, 0)
    versions = {code.builtinCode: code.version for code in model.operatorCodes}
    assert versions[schema.BuiltinOperator.FULLY_CONNECTED] <= 9
    for graph in model.subgraphs:
        looked_up = {o.inputs[0] for o in graph.operators if portable.is_a(model, o, "GATHER")}
        for operator in graph.operators:
            if portable.is_a(model, operator, "FULLY_CONNECTED"):
                weights = graph.tensors[operator.inputs[1]]
                assert weights.buffer or operator.inputs[1] not in looked_up
                if weights.type == schema.TensorType.INT8:
                    assert len(weights.quantization.scale) == 1
            if portable.is_a(model, operator, "DEQUANTIZE"):
                assert len(graph.tensors[operator.inputs[0]].shape) == 2


def test_subgraph_0_is_generate_with_named_tensors_in_alphabetical_order():
    interpreter = Interpreter(model_content=files()["none"].content)
    runner = interpreter.get_signature_runner("generate")
    inputs = [detail["name"] for detail in interpreter.get_input_details()]
    outputs = [detail["name"] for detail in interpreter.get_output_details()]
    assert inputs == sorted(runner.get_input_details())
    assert outputs == [f"out_{name}" for name in sorted(runner.get_output_details())]
    indices = {n: d["index"] for n, d in runner.get_output_details().items()}
    assert {d["name"]: d["index"] for d in interpreter.get_output_details()} == {
        f"out_{name}": index for name, index in indices.items()
    }


def test_packing_a_packed_file_changes_nothing():
    for example in files().values():
        again = packing.pack(example.content, {})
        assert packing.pack(again, {}) == again
        assert len(again) == len(example.content)


def test_equal_buffers_are_stored_once():
    model = schema.ModelT.InitFromPackedBuf(files()["int8"].content, 0)
    contents = [np.asarray(b.data).tobytes() for b in model.buffers if b.data is not None]
    assert len(contents) == len(set(contents))
