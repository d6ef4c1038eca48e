"""Each benchmark runs to its end at toy size, and RESULTS.md has the measured figures."""

import functools
import json
import types

import preloaded
import pytest

from benchmarks import (
    common,
    corpus,
    generate,
    growth,
    overhead,
    quality,
    results,
    surnames,
    train,
)

TOY = {"layers": 1, "units": 8, "embedding": 4, "batch": 4, "window": 4}


def started(command, **options):
    """A process that has TensorFlow loaded; a peer scores a short text in it."""
    if command[1:3] == ["-m", "benchmarks.peers"]:
        code = "from benchmarks import peers; peers.SCORED = 1 << 12; peers.main()"
        command = [command[0], "-c", code, *command[3:]]
    return preloaded.Popen(command, **options)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Run a benchmark without PyTorch and return the rows that it saved."""
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    processes = types.SimpleNamespace(PIPE=preloaded.PIPE, Popen=started, run=preloaded.run)
    monkeypatch.setattr(common, "subprocess", processes)
    for module in (train, generate):
        monkeypatch.setattr(module, "version", lambda _: None)  # of PyTorch

    def run(module, *arguments):
        name = module.__name__.split(".")[1]
        module.main([*map(str, arguments), "--save-as", name], standalone_mode=False)
        results.main(["-o", str(tmp_path / "RESULTS.md")], standalone_mode=False)
        assert f"python -m benchmarks.{name}" in (tmp_path / "RESULTS.md").read_text()
        return json.loads((tmp_path / f"{name}.json").read_text())["rows"]

    return run


def test_training_and_growth(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(train.SIZES, "2x128", tuple(TOY.values()))
    (row,) = rows(
        train, "--size", "2x128", "--precision", "float32", "--rounds", 1, "--seconds", 0.01
    )
    assert set(row["peers"]) == {"keras_charlm", "evaluation", "keras", "products"}
    assert all(p["characters_per_second"]["median"] > 0 for p in row["peers"].values())
    monkeypatch.setattr(growth, "BASE", TOY)
    monkeypatch.setattr(growth, "AXES", {"units": (8,)})
    cost = rows(growth, "--axis", "units", "--steps", 2, "--picture", tmp_path / "growth.svg")
    assert [r["units"] for r in cost["measured"]] == [8]
    assert (tmp_path / "growth.svg").stat().st_size


def test_the_cost_model_recovers_the_costs_behind_the_figures():
    sizes = [dict(TOY, units=u, batch=b) for u in (8, 64, 512) for b in (1, 16, 256)]
    coefficients = [1e-11, 1e-10, 1e-5]
    for row in sizes:
        row["median"] = row["batch"] * row["window"] / float(growth.costs(row) @ coefficients)
    assert growth.fit(sizes) == pytest.approx(coefficients, rel=1e-6)


def test_sampling(rows, monkeypatch):
    monkeypatch.setitem(generate.SIZES, "2x128", (8, 4))

    def one_layer(verb, *options):
        return common.kcharlm(verb, *options, *(["--layers", 1] if verb == "fit" else []))

    monkeypatch.setattr(generate, "kcharlm", one_layer)
    monkeypatch.setattr(generate, "made_text", lambda size: common.made_text(size // 10))
    (row,) = rows(generate, "--size", "2x128", "--rounds", 1, "--length", 50, "--steps", 2)
    assert row["stream"]["median"] > 0 < row["batch"]["median"]
    assert set(row["peers"]) == {"sample_keras 1", "sample_keras 64"}


def test_corpora(rows):
    for row in rows(corpus, "--megabytes", 1, "--rounds", 1):
        assert all(p["megabytes_per_second"]["median"] > 0 for p in row["peers"].values())


def test_lines_are_shuffled_as_makemore_shuffles_them():
    # torch.manual_seed(3407); torch.randperm(10)
    assert quality.shuffled(10, quality.MAKEMORES_SEED) == [9, 1, 5, 7, 3, 2, 8, 6, 4, 0]


def test_quality_and_overhead(rows, tmp_path, monkeypatch):
    text = tmp_path / "names.txt"
    text.write_text("\n".join(f"name{i:05}" for i in range(1500)))
    (row,) = rows(
        quality,
        "--text",
        f"names={text}",
        "--recipe",
        "names-distinct",
        "--seeds",
        1,
        "--options",
        "--epochs 1 --layers 1 --units 8 --embedding 4",
    )
    assert row["nats"]["median"] > 0 < row["parameters"]
    train_lines, held_out = quality.hold_out(text, tmp_path, distinct=True)
    assert len(held_out.read_text().split()) == 1000
    assert not set(held_out.read_text().split()) & set(train_lines.read_text().split())
    monkeypatch.setitem(overhead.SIZES, "2x128", tuple(TOY.values()))
    monkeypatch.setattr(overhead, "CHARACTERS", 10_000)
    (row,) = rows(overhead, "--size", "2x128", "--rounds", 1, "--seconds", 1)
    assert row["ratio"] > 0


def test_the_page_of_results_is_written_from_the_results(tmp_path):
    results.main(["-o", str(tmp_path / "RESULTS.md")], standalone_mode=False)
    assert (tmp_path / "RESULTS.md").read_text() == results.PAGE.read_text()


def test_surnames(rows, tmp_path, monkeypatch):
    small = functools.partial(surnames.fit, layers=1, embedding=4, synthetic=0)
    monkeypatch.setattr(surnames, "fit", small)
    lists = tmp_path / "lists"
    lists.mkdir()
    for label, end in (("A", "a"), ("O", "o")):
        names = [f"{x}{y}{z}{end}" for x in "bdf" for y in "aei" for z in "lmn"]
        (lists / f"{label}.txt").write_text("\n".join([*names, "both"]) + "\n")
    found = rows(surnames, lists, "--units", 8, "--epochs", 1, "--classifier-epochs", 1)
    assert found["train"] + found["test"] == 56
    assert set(found["ways"]) == {"network", "counting", "classifier"}
    assert found["ways"]["counting"]["accuracy"] == 1
    for label, other in (("A", "O"), ("O", "A")):
        train, test = surnames.deal({label: ["x", "y"] * 10, other: ["y"]}, 0)
        assert not {name for name, _ in train} & {name for name, _ in test}
