"""Laws of labels: read before a text, never drawn, and each acts on its own line."""

import bz2
import random

import keras
import numpy as np
import pytest
from conftest import TINY

import keras_charlm
from keras_charlm import fit, load
from keras_charlm.config import CorpusConfig, SampleConfig
from keras_charlm.errors import CorpusError, OptionError, OptionNote
from keras_charlm.text.corpus import prepare
from keras_charlm.text.labels import FIRST_CODE, Label
from keras_charlm.text.split import Split, split_corpus
from keras_charlm.text.streams import TextStream, Windows

SHAPE = {
    **TINY,
    "units": 32,
    "batch_size": 8,
    "seq_length": 16,
    "learning_rate": 0.01,
    "dropout": 0.0,
    "epochs": 25,
}


def names(count, seed=0):
    """Female names end in a, male ones in o; some are both."""
    rng = random.Random(seed)
    for _ in range(count):
        gender = rng.choice(["female", "male"])
        stem = "".join(rng.choice("dlmn") + rng.choice("aeio") for _ in range(rng.randint(1, 2)))
        yield stem + rng.choice("lmn") + ("a" if gender == "female" else "o"), gender
    yield from [("andi", "female"), ("andi", "male")]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "names.csv"
    rows = [f"{name},{gender}\n" for name, gender in names(400)]
    path.write_text("name,gender\n" + "".join(rows))
    return path


@pytest.fixture(scope="module")
def model(table):
    folder = table.parent / "model"
    fit(table, folder, labels=["gender"], **SHAPE)
    return load(folder)


def read_table(tmp_path, content, **settings):
    path = tmp_path / "table.csv"
    path.write_text(content)
    return prepare([path], CorpusConfig(**settings))


def test_a_label_is_read_before_its_line_and_is_never_a_target(table):
    split = split_corpus(prepare([table], CorpusConfig(labels="gender")), 0, label_dropout=0.3)
    size = split.vocabulary.size
    windows = Windows(split.train, 4, 8, start=split.vocabulary.id_of(10))
    kept = []
    for epoch in range(2):
        marked, plain = (
            stream.read(np.array([0]), stream.epoch_length(epoch), epoch)[0]
            for stream in (split.train.labelled(), split.train)
        )
        np.testing.assert_array_equal(marked[marked < size], plain)
        np.testing.assert_array_equal(
            np.flatnonzero(marked >= size), windows.stream.label_positions(epoch)
        )
        assert (marked[np.flatnonzero(marked >= size) - 1] == windows.start).all()
        targets = np.concatenate(
            [windows.batch(epoch * windows.steps + n)[1].ravel() for n in range(windows.steps)]
        )
        targets = targets[targets >= 0]
        assert targets.max() < size
        assert len(targets) == split.train.length - 1 == windows.targets(epoch, windows.steps)
        kept.append(marked)
    assert 0.6 < (kept[0] >= size).sum() / len(split.train.lines) < 0.8
    assert len(kept[0]) != len(kept[1]) or (kept[0] != kept[1]).any()


def test_a_line_under_two_labels_is_two_examples_in_one_part(tmp_path):
    rng = random.Random(0)
    texts = sorted({"".join(rng.choices("abc", k=5)) for _ in range(100)})
    rows = [(text, label) for text in texts for label in "xyx"]
    corpus = read_table(
        tmp_path, "t,l\n" + "".join(f"{a},{b}\n" for a, b in rows), labels=("l",), val_frac=0.3
    )
    split = split_corpus(corpus)
    parts = [stream.lines for stream in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == 2 * len(texts)
    prints = [set(part.fingerprints.tolist()) for part in parts]
    assert not prints[0] & prints[1] and not prints[0] & prints[2] and not prints[1] & prints[2]
    assert [label.share for label in split.labels] == [0.5, 0.5]


def test_lines_cost_less_under_their_own_label(model):
    for label, others in (("female", "male"), ("male", "female")):
        lines = [name for name, gender in names(60, seed=9) if gender == label and name != "andi"]
        own, other = (
            sum(score.bits for score in model.scores(lines, labels=each))
            for each in (label, others)
        )
        assert own < other - len(lines)
        by_evaluation = [
            model.evaluate("\n".join(lines) + "\n", labels=each).bits_per_character
            for each in (label, others)
        ]
        assert by_evaluation[0] < by_evaluation[1]


def test_the_likeliest_label_follows_from_bayes_rule(model):
    shares = {label.value: label.share for label in model.card.labels}
    for even in (True, False):
        (score,) = model.scores(["dala"], label_prior="even" if even else "shares")
        weights = {
            label: 2.0 ** -next(model.scores(["dala"], labels=label)).bits
            * (1 if even else shares[label])
            for label in shares
        }
        (likely,) = score.labels
        assert likely.value == "female"
        assert likely.probability == pytest.approx(
            weights["female"] / sum(weights.values()), rel=1e-4
        )
    assert next(model.scores(["dala"], labels="male")).labels == ()


def test_a_label_is_never_drawn_and_steers_what_is(model):
    wild = list(model.samples(num=200, temp=20, seed=1, length=20))
    assert all(ord(c) < 128 for sample in wild for c in sample.text)
    for label, end in (("female", "a"), ("male", "o")):
        drawn = [s.text for s in model.samples(num=40, seed=1, labels=label)]
        assert sum(text.endswith(end) for text in drawn) > 30
    fitting = list(model.samples(num=5, seed=1, labels=["gender=female"], ends_with="a"))
    assert len(fitting) == 5 and all(s.text.endswith("a") for s in fitting)


def test_the_on_device_file_and_keras_agree_after_a_label(model):
    """With the label read, the same logits from both."""
    import tensorflow as tf

    from keras_charlm.network import model as network

    codes = [10, model.card.labels[1].code, *map(ord, "dal")]
    ids = model.vocabulary.lookup(np.array(codes))
    logits, _ = network.run(
        model.model, tf.constant(ids[None], tf.int32), network.zero_states(model.model, 1)
    )
    assert logits.shape[-1] == model.vocabulary.size
    state = np.zeros((1, model.runner.state_size), np.float32)
    for code, expected in zip(codes, logits[0].numpy(), strict=True):
        out = model.runner("step", text=np.array([code], np.int32), state=state)
        state = out["state"]
        np.testing.assert_allclose(out["logits"][0], expected, atol=1e-4)


def test_novel_for_a_label(model):
    known = model.bundle.labelled_lines(model.labels("female"))
    everywhere = model.bundle.training_lines()
    assert len(known) < len(everywhere) and np.isin(known, everywhere).all()
    drawn = {s.text for s in model.samples(num=30, seed=2, labels="female", novel_label=True)}
    females = {name for name, gender in names(400) if gender == "female"}
    test = model.corpus()[1]
    held_out = drawn & females
    trained = {
        model.vocabulary.decode(test.train.ids[test.train.symbols[a : a + n]])
        for a, n in zip(test.train.lines.starts, test.train.lines.lengths, strict=True)
    }
    assert not held_out & trained


def test_one_label_for_all_changes_no_target(table, tmp_path):
    """The same parts, vocabulary and targets in the same order as without a label."""
    texts = list(dict.fromkeys(name for name, _ in names(400)))
    (tmp_path / "one.csv").write_text("name,kind\n" + "".join(f"{t},same\n" for t in texts))
    (tmp_path / "none.txt").write_text("".join(f"{t}\n" for t in texts))
    one = split_corpus(prepare([tmp_path / "one.csv"], CorpusConfig(labels="kind")))
    none = split_corpus(prepare([tmp_path / "none.txt"], CorpusConfig(lines=True)))
    assert one.vocabulary.codes == none.vocabulary.codes
    for part in ("train", "validation", "test"):
        marked, plain = getattr(one, part).labelled(), getattr(none, part)
        ids = marked.read(np.array([0]), marked.epoch_length(3), 3)[0]
        np.testing.assert_array_equal(
            ids[ids < one.vocabulary.size], plain.read(np.array([0]), plain.length, 3)[0]
        )
        assert (ids >= one.vocabulary.size).sum() == len(plain.lines)
    assert [label.share for label in one.labels] == [1.0]


def test_files_label_their_lines(tmp_path):
    for name, text in (("Czech", "novak\n\ndvorak"), ("Dutch", "jansen\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    config = CorpusConfig(lines=True, label_by_file=True)
    corpus = prepare([tmp_path / "Czech.txt", tmp_path / "Dutch.txt"], config)
    assert corpus.labels == (("file", "Czech"), ("file", "Dutch"))
    assert corpus.text(0, len(corpus.symbols)) == b"\nnovak\n\ndvorak\njansen\n"
    assert corpus.lines().labels.tolist() == [[0], [0], [1]]
    (tmp_path / "Dutch.txt").rename(tmp_path / "Flemish.txt")
    renamed = prepare([tmp_path / "Czech.txt", tmp_path / "Flemish.txt"], config)
    assert renamed.sha256 != corpus.sha256
    (tmp_path / "Dutch.txt.bz2").write_bytes(bz2.compress(b"jansen\n"))
    packed = prepare([tmp_path / "Czech.txt", tmp_path / "Dutch.txt.bz2"], config)
    assert packed.labels == corpus.labels


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        ("name,age\nann,3\n", {"labels": "gender"}, "no column 'gender'; its first line names"),
        ("name,gender\nann,f\nbob,\n", {"labels": "gender"}, "line 3 has an empty label"),
        ("name,gender\nann,f\nbob\n", {"labels": "gender"}, "line 3 has 1 fields"),
        ("name,gender\n,f\n", {"labels": "gender"}, "line 2 has no text"),
        (
            'name,gender\n"ann,f\n',
            {"labels": "gender"},
            "(unexpected end of data); correct its quotation",
        ),
        ('name,gender\n"a\nb",f\n', {"labels": "gender"}, "line 3 has a line break"),
        (
            'name,gender\n"a\x1eb",f\n',
            {"labels": "gender", "documents": True},
            "line 2 has the character U+001E",
        ),
        ("a,b,gender\nx,y,f\n", {"labels": "gender"}, "with --text"),
        ("gender\nf\n", {"labels": "gender"}, "no column for the text"),
        (
            "name,gender\na,f\n",
            {"labels": "gender", "text_column": "gender"},
            "both the text and a label",
        ),
        ("", {"labels": "gender"}, "is empty; its first line must name the columns"),
    ],
)
def test_a_wrong_table_is_one_sentence_with_its_line(tmp_path, content, settings, expected):
    with pytest.raises(CorpusError, match="table") as error:
        read_table(tmp_path, content, **settings)
    assert expected in str(error.value)


def test_a_row_may_be_a_document_of_several_lines(tmp_path):
    content = 'poem,by\n"roses\r\nare red",ann\n"violets\nare blue",bob\n'
    corpus = read_table(tmp_path, content, labels="by", documents=True)
    assert corpus.text(0, len(corpus.symbols)) == b"\x1eroses\nare red\x1eviolets\nare blue\x1e"
    assert corpus.labels == (("by", "ann"), ("by", "bob"))


def test_other_delimiters_and_quotes(tmp_path):
    corpus = read_table(
        tmp_path,
        'sex;"full name"\nf;"Ann; or ""Nan"""\nm;Bob\n',
        labels="sex",
        text_column="full name",
    )
    assert corpus.text(0, len(corpus.symbols)) == b'\nAnn; or "Nan"\nBob\n'


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["italian"], "no label 'italian'; it has female, male"),
        (["female", "male"], "both of the column gender"),
    ],
)
def test_a_wrong_label_is_refused_with_those_there_are(model, labels, expected):
    with pytest.raises(OptionError, match=expected):
        model.generate(labels=labels)


def test_a_model_without_labels_says_so(list_model):
    with pytest.raises(OptionError, match="trained without labels"):
        load(list_model).generate(labels="female")
    assert load(list_model).vocabulary.labels == 0


def test_the_card_lists_the_labels(model, kcharlm):
    code, out, _ = kcharlm("info", model.path)
    assert code == 0 and "gender: female" in out
    (first, second) = model.card.labels
    assert (first.id, first.code) == (model.vocabulary.size, FIRST_CODE)
    assert first.share + second.share == pytest.approx(1)
    assert "Samples by label" in (model.path / "report.html").read_text()
    alone = keras_charlm.load(model.path / "model.tflite")
    assert alone.card.labels == model.card.labels
    assert alone.generate(seed=1, labels="male") == model.generate(seed=1, labels="male")


def test_evaluation_by_label(model, table, kcharlm):
    rows = model.evaluate(by="label").labels
    assert [row["label"] for row in rows] == ["female", "male"]
    assert sum(row["examples"] for row in rows) == len(model.corpus()[1].validation.lines)
    whole = model.evaluate(table)
    code, out, _ = kcharlm("evaluate", model.path, table, "--by", "label")
    assert code == 0 and "gender=female" in out
    alone = load(model.path / "model.tflite").evaluate(table)
    assert alone.bits_per_character == pytest.approx(whole.bits_per_character, abs=0.02)


def test_scores_on_the_command_line(model, kcharlm, tmp_path):
    (tmp_path / "lines.txt").write_text("dala\nmino\n")
    code, out, _ = kcharlm("score", model.path, tmp_path / "lines.txt", "--tsv")
    header, *rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and header[3:] == ["gender", "gender_probability", "text"]
    assert [row[3] for row in rows] == ["female", "male"]


def test_a_prior_that_does_not_exist_is_refused(model):
    with pytest.raises(OptionError, match="label_prior is 'odd'; choose one of shares, even"):
        model.scores(["dala"], label_prior="odd")


def test_generate_says_that_it_draws_one_text(model):
    with pytest.warns(OptionNote, match="num has no effect with generate"):
        text = model.generate(num=3, seed=1)
    assert text == model.generate(seed=1)


def test_the_plain_keras_file_reads_the_labels(model, tmp_path):
    report = model.export(tmp_path / "m.keras", to="keras")
    assert report["largest_logit_difference"] < 1e-4
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.output_shape[-1] == model.vocabulary.size
    ids = np.array([[label.id] for label in model.card.labels], np.int32)
    female, male = np.asarray(loaded(ids))
    assert not np.allclose(female, male)


def test_settings_are_checked():
    with pytest.raises(OptionError, match="novel_label needs labels"):
        SampleConfig(novel_label=True)
    with pytest.raises(OptionError, match="was given twice"):
        CorpusConfig(labels=("a", "a"))


def test_training_from_a_labelled_model_keeps_the_rows_of_its_labels(model):
    from keras_charlm.network.model import build, named_weights
    from keras_charlm.training.compiled import start_from

    size = model.vocabulary.size
    labels = (Label("gender", "male", 0.5, size, 0), Label("gender", "new", 0.5, size + 1, 0))
    none = TextStream(np.zeros(0, np.int32), np.zeros(1, np.int32), 0, 0)
    split = Split(model.vocabulary, none, none, none, model.card.start, labels=labels)
    network = build(model.card.model, size, labels=2)
    fresh = named_weights(network)["embedding/embeddings"].numpy()
    assert start_from(network, model.bundle, split) == size - 1
    rows = named_weights(network)["embedding/embeddings"].numpy()
    theirs = model.bundle.weights()["embedding/embeddings"]
    male = next(label.id for label in model.card.labels if label.value == "male")
    np.testing.assert_array_equal(rows[: size + 1], theirs[[*range(size), male]])
    np.testing.assert_array_equal(rows[-1], fresh[-1])


def test_the_saved_model_draws_what_the_on_device_file_draws(model):
    """Each row after its own label, after none, and after both in one call."""
    from keras_charlm.export.serving import Server

    card = model.card
    server = Server(
        model.model,
        card.model,
        model.vocabulary,
        lines=True,
        start=card.start,
        normalize=card.normalize,
        labels=card.labels,
    )
    labels = ["female", "gender=male", ""]
    values = {
        "prompt": ["", "da", "da"],
        "length": [20],
        "temperature": [0.8],
        "top_k": [0],
        "top_p": [1.0],
        "min_p": [0.0],
    }
    out = server.functions["generate"](
        *values.values(), np.array([1, 2, 3], np.int32), [["", label] for label in labels]
    )
    for row, (prompt, label) in enumerate(zip(values["prompt"], labels, strict=True)):
        own = next(model.samples(prompt, seed=row + 1, length=20, labels=[label] if label else []))
        assert out["text"][row].numpy().decode() == own.text
    scored = server.functions["score"](["dala"] * 3, [[label] for label in labels])
    for row, label in enumerate(labels):
        own = next(model.scores(["dala"], labels=[label] if label else []))
        without_end = own.bits - _end_bits(model, label)
        assert scored["bits_per_character"][row].numpy() * 4 == pytest.approx(without_end, abs=1e-3)
    assert scored["characters"].numpy().tolist() == [4, 4, 4]


def _end_bits(model, label):
    """-log2 p of the end of the line after dala."""
    codes = [10, *(x.code for x in model.labels([label] if label else [])), *map(ord, "dala")]
    state = np.zeros((1, model.runner.state_size), np.float32)
    for code in codes:
        out = model.runner("step", text=np.array([code], np.int32), state=state)
        state = out["state"]
    logits = out["logits"][0].astype(np.float64)
    end = model.vocabulary.id_of(10)
    return (np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[end]) / np.log(2)


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """A model of two documents with a label each."""
    folder = tmp_path_factory.mktemp("documents")
    rng = random.Random(3)
    for name, words in (("cats", ["mew", "purr", "cat"]), ("dogs", ["bark", "dog", "wag"])):
        text = "".join(rng.choice(words) + rng.choice([" ", " ", ".\n"]) for _ in range(900))
        (folder / f"{name}.txt").write_text(text)
    settings = {"layers": 1, "units": 32, "dropout": 0.0, "learning_rate": 0.01, "verbose": 0}
    fit(
        folder,
        folder / "model",
        glob="*.txt",
        label_by_file=True,
        init_from=None,
        epochs=4,
        seq_length=32,
        batch_size=4,
        **settings,
    )
    return load(folder / "model")


def test_documents_are_read_in_pieces_that_begin_with_their_label(documents):
    corpus, split = documents.corpus()
    size, start = split.vocabulary.size, split.vocabulary.id_of(split.start)
    windows = Windows(split.train, 4, 8, start=start)
    plain = split.train.read(np.array([0]), split.train.length)[0]
    for epoch in range(2):
        stream = windows.stream
        ids = stream.read(np.array([0]), stream.epoch_length(epoch), epoch)[0]
        marks = np.append(0, stream.label_positions(epoch))
        np.testing.assert_array_equal(np.delete(ids, marks), plain)
        begins, sizes = stream.segments(epoch)
        assert (ids[begins - 1] == start).all() and (ids[begins] >= size).all()
        assert (begins[1:] == (begins + sizes)[:-1] + 1).all()
        targets = [windows.batch(epoch * windows.steps + n)[1] for n in range(windows.steps)]
        assert sum((target >= 0).sum() for target in targets) == len(plain)
        assert windows.targets(epoch, windows.steps) == len(plain)
    assert corpus.characters == len(corpus.symbols) - 2


def test_documents_steer_and_are_scored_by_label(documents):
    for label, other in (("cats", "dogs"), ("dogs", "cats")):
        text = documents.generate(labels=label, seed=1, length=200, temp=0.7)
        own = sum(text.count(word) for word in {"cats": ["mew", "purr"], "dogs": ["bark"]}[label])
        assert own > 5
        text = (documents.path.parent / f"{label}.txt").read_text()[-500:]
        bits = [documents.evaluate(text, labels=x).bits_per_character for x in (label, other)]
        assert bits[0] < bits[1]
    rows = documents.evaluate(by="label").labels
    assert [row["label"] for row in rows] == ["cats", "dogs"]
    assert (
        sum(row["characters"] for row in rows) == documents.card.split["validation"]["characters"]
    )
    alone = load(documents.path / "model.tflite").evaluate("mew purr cat.\n" * 20, labels="cats")
    whole = documents.evaluate("mew purr cat.\n" * 20, labels="cats")
    assert alone.bits_per_character == pytest.approx(whole.bits_per_character, abs=1e-3)


def test_inspection_and_compression_read_the_labels(model):
    lines = "dala\nmela\nnona\n"
    bits = {
        label: model.inspect(lines, labels=label).bits_per_character for label in ("female", "male")
    }
    assert bits["female"] < bits["male"]
    scored = sum(score.bits for score in model.scores(lines.split(), labels="female"))
    whole = model.evaluate(lines, labels="female").bits_per_character
    assert bits["female"] == pytest.approx(whole, abs=1e-3)
    assert scored > 0
    data = lines.encode() * 20
    packed = {label: model.compress(data, labels=label) for label in ("female", "male")}
    assert len(packed["female"]) < len(packed["male"])
    assert all(model.decompress(content) == data for content in packed.values())
