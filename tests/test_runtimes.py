"""The on-device file in the installed runtimes; `tests/runtimes.py` runs it in many more."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_charlm.export import packing, portable, tflite
from keras_charlm.export.uniform import uniform
from keras_charlm.network import sampling
from tests import runtime_call, runtimes

TIED = (("lstm", 1, 12, True, "characters"),)
FILES = (*tflite.QUANTIZE, OLD := "float16 for 2.12")


@functools.cache
def files():
    """A model with tied weights in each format, by its name."""
    formats = (*((quantize, "2.13") for quantize in tflite.QUANTIZE), ("float16", "2.12"))
    made = runtimes.examples(TIED, shipped=False, formats=formats)
    return dict(zip(FILES, made, strict=True))


@pytest.mark.parametrize("kind", ["litert", "compiled", "tensorflow"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_computes_the_same_in_every_installed_runtime(name, kind, tmp_path):
    example, path = files()[name], tmp_path / "m.tflite"
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


def test_random_numbers_without_bitwise_operators_are_the_same():
    ends = [0, 1, -1, 2**16 - 1, 2**16, -(2**16), -(2**16) - 1, 2**31 - 1, -(2**31)]
    numbers = np.random.default_rng(0).integers(-(2**31), 2**31, 200)
    seeds = tf.constant([*ends, *numbers], tf.int32)
    positions = tf.constant([[*ends, *range(64)]], tf.int32)
    for given in (seeds[:, None], positions), (seeds, seeds + 1):
        np.testing.assert_array_equal(uniform(*given), sampling.uniform(*given))


@pytest.mark.parametrize("signature", ["generate", "generate_batch", "constrained"])
def test_a_file_for_2_12_draws_the_same_texts(signature):
    usual, old = (
        Interpreter(model_content=files()[name].content).get_signature_runner(signature)
        for name in ("float16", OLD)
    )
    details = usual.get_input_details().items()
    inputs = {name: np.zeros(detail["shape"], detail["dtype"]) for name, detail in details}
    given = {"length": 64, "stop": -1, "temperature": 1, "top_p": 1, "patience": 99, "width": 1}
    for name, value in (given | {"text_length": 1, "position": 2**31 - 30}).items():
        if name in inputs:
            inputs[name][:] = value
    texts = set()
    for seed in 0, 2**20, -(2**31), 2**31 - 16:
        inputs["seed"][:] = seed + np.arange(len(inputs["seed"]))
        expected, drawn = usual(**inputs), old(**inputs)
        for name, values in expected.items():
            np.testing.assert_array_equal(drawn[name], values)
        texts |= set(map(bytes, drawn["text"]))
    assert len(texts) > len(inputs["seed"])


def test_operators_decide_the_oldest_runtime_of_a_file():
    for name in FILES:
        least = portable.least_tensorflow(tflite.operators(files()[name].content))
        assert least == ("2.12" if name == OLD else "2.13")
    assert portable.least_tensorflow({"MUL": 6, "ADD": 1}) == "2.12"
    assert portable.least_tensorflow({"MUL": 7, "ADD": 1}) == "2.13"
    assert portable.least_tensorflow({"BITWISE_XOR": 1}) == "2.13"


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_what_old_runtimes_and_simple_hosts_need(name):
    model = schema.ModelT.InitFromPackedBuf(files()[name].content, 0)
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
