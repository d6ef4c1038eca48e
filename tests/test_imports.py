"""What is loaded when: nobody waits for TensorFlow who does not need it."""

import subprocess
import sys

import preloaded
import pytest

PROBE = """
import sys
from kcharlm.main import main
sys.argv = ["kcharlm", *{args!r}]
try:
    main()
except SystemExit as error:
    assert (error.code or 0) == {code}, error.code
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


def loaded(args, heavy=("tensorflow", "keras", "rich", "matplotlib", "jinja2"), code=0):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(args=args, heavy=heavy, code=code)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["fit", "--help"],
        ["generate", "--help"],
        ["evaluate", "--help"],
        ["inspect", "--help"],
        ["compress", "--help"],
        ["decompress", "--help"],
        ["export", "--help"],
        ["report", "--help"],
        ["serve", "--help"],
        ["info", "--help"],
        ["--version"],
    ],
)
def test_help_loads_neither_tensorflow_nor_numpy(args):
    assert loaded(args, ("tensorflow", "keras", "rich", "numpy")) == "[]"


@pytest.mark.parametrize("path", ["none.txt", "."])
def test_a_text_that_is_not_there_is_told_before_tensorflow_is_loaded(path):
    assert loaded(["fit", path], code=2) == "[]"


def test_generate_and_info_never_load_tensorflow(text_model):
    model = str(text_model)
    assert loaded(["info", model]) == "[]"
    assert loaded(["generate", model, "--length", "5"]) == "[]"
    assert loaded(["generate", model, "--length", "5", "--num", "3", "--json"]) == "[]"


def test_compress_and_decompress_never_load_tensorflow(text_model, tmp_path):
    path = tmp_path / "file"
    path.write_text("the cat")
    assert loaded(["compress", str(text_model), str(path)]) == "[]"
    assert loaded(["decompress", str(text_model), f"{path}.kclm", "--overwrite"]) == "[]"


def test_an_on_device_file_is_compared_without_tensorflow(text_model, text_file):
    assert (
        loaded(
            [
                "evaluate",
                f"{text_model}/model.tflite",
                "--baseline",
                "ngram",
                "--by",
                "kind",
                "--novelty",
                "--corpus",
                str(text_file),
            ],
            ("tensorflow", "keras"),
        )
        == "[]"
    )


def test_report_never_loads_tensorflow(text_model):
    assert loaded(["report", str(text_model)], ("tensorflow", "keras", "rich")) == "[]"


def test_the_package_and_load_are_light():
    code = (
        "import sys, keras_charlm; assert not {'numpy', 'tensorflow'} & set(sys.modules); "
        "keras_charlm.load; assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_page_is_written_without_tensorflow():
    code = (
        "import sys, keras_charlm.export.web; "
        "assert not {'tensorflow', 'keras', 'click'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_public_names_are_there():
    import keras_charlm

    for name in keras_charlm.__all__:
        assert getattr(keras_charlm, name).__doc__, name
    assert set(keras_charlm.__all__) <= set(dir(keras_charlm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_charlm.nothing


def test_the_library_knows_nothing_of_click():
    """In a process that has loaded all of it."""
    code = (
        "import sys, keras_charlm.training.run, keras_charlm.charlm; "
        "assert 'click' not in sys.modules"
    )
    preloaded.run([sys.executable, "-c", code], check=True)


def test_activations_load_no_tensorflow(text_model):
    code = (
        f"import sys, keras_charlm; found = keras_charlm.activations({str(text_model)!r}, 'cat'); "
        "assert found.hidden.shape == (3, 1, 8); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_equations_and_names_of_weights_load_no_array_library():
    code = (
        "import sys, keras_charlm.network.equations, keras_charlm.network.names; "
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
