"""README.md and docs/ agree with the program: tables, commands, options, listings and links."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest
from conftest import babble
from test_cli import end_soon

from benchmarks import docs

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted([README, *(ROOT / "docs").glob("*.md")])
OTHER_PAGES = sorted(
    [ROOT / "CHANGELOG.md", *ROOT.glob("benchmarks/*.md"), *ROOT.glob("saved_models/*/*.md")]
)
# Options that make each of the post's commands small enough for a test.
TOY = {"--layers": "1", "--units": "8", "--epochs": "1", "--batch-size": "2", "--seq-length": "8"}


def read(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), re.S | re.M)


def prose(page):
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", read(page), flags=re.S | re.M)


def shell_lines(page):
    """The commands of a page: those of its shell blocks, and those in the text."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\||(?:^|\s)#", line)]
    return [re.sub(r"^(\w+=\S+ )+", "", part) for part in parts]


def commands(program):
    """(page, command) for every command of a program in the pages."""
    return [
        pytest.param(line, id=f"{page.stem}: {line}")
        for page in PAGES
        for line in dict.fromkeys(shell_lines(page))
        if line.startswith(program + " ")
    ]


@pytest.mark.parametrize(("page", "name"), docs.SECTIONS)
def test_tables_are_those_of_the_program(page, name):
    assert docs.section(page, name)[2] == docs.SECTIONS[page, name]()


def test_the_readme_is_short():
    assert len(read(README).splitlines()) <= 200
    assert len(read(README)) <= 9000


def test_every_option_in_the_text_exists():
    known = {name for verb in docs.VERBS for name in docs.option_names(verb)}
    known |= {"--help", "--version"}
    for page in PAGES:
        text = re.sub(r"<!--|-->", "", read(page))
        # Other programs' options are checked with their commands.
        text = re.sub(r"python3? [^`\n]*(\n[^`\n]+`)?|^#SBATCH.*|srun.*", "", text, flags=re.M)
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
        assert used <= known, (page.name, used - known)


@pytest.mark.parametrize("line", commands("kcharlm"))
def test_every_command_is_one_that_the_program_takes(line):
    from kcharlm.main import kcharlm

    if line.count("'") % 2:
        line = line.removesuffix("'")  # the last line of a quoted script
    _, verb, *args = shlex.split(line)
    if verb in ("VERB", "--help", "--version"):
        return
    command = kcharlm.get_command(None, verb)
    assert command is not None, f"{verb} is no verb"
    if "[" in line or (args and all(re.fullmatch(r"[A-Z.]+", arg) for arg in args)):
        return  # a heading of docs/cli.md
    parameters = [p for p in command.params if isinstance(p, click.Argument) and p.required]
    if not [arg for arg in args if not arg.startswith("-")]:
        args += ["X"] * len(parameters)  # in the text, `kcharlm inspect` may go without its files
    command.make_context(f"kcharlm {verb}", args)  # raises where an option or value is wrong


@pytest.mark.parametrize("line", [*commands("python"), *commands("python3")])
def test_every_script_and_its_options_exist(line):
    _, *args = shlex.split(line)
    if args[:2] in (["-m", "venv"], ["-m", "http.server"]):
        return
    script = ROOT / (args[1].replace(".", "/") + ".py" if args[0] == "-m" else args[0])
    for option in filter(lambda arg: arg.startswith("--"), args):
        assert f'"{option}"' in read(script), option


def post_commands():
    block = re.search(r"<!-- post -->\n```sh\n(.*?)```", read(ROOT / "docs/post.md"), re.S)[1]
    lines = [line.split("#")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """Small texts with the names of the examples', in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("essays.txt", "shakespeare.txt", "war_and_peace.txt", "post.md", "enwik8"):
        (tmp_path / name).write_text(babble(400, seed=len(name)))
    (tmp_path / "baby_names.txt").write_text("\n".join(f"name{i}" for i in range(60)))
    for folder, name in (("stacks", "a.tex"), ("linux", "a.c")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(babble(400))
    return tmp_path


def run_as_written(kcharlm, line, options):
    """Run a line of the post with other options: (exit code, stdout, stderr)."""
    stdin = None
    if "|" in line:
        fed, line = (part.strip() for part in line.split("|"))
        stdin = shlex.split(fed)[1].encode()
    program, verb, *args = shlex.split(line)
    assert program == "kcharlm"
    for name, value in options.items():
        if name in args:
            args[args.index(name) + 1] = value
        else:
            args += [name, value]
    code, out, err = kcharlm(verb, *args, stdin=stdin)
    assert "Traceback" not in err
    return code, out, err


def test_hello_is_memorized(texts, kcharlm):
    fit, generate, *_ = post_commands()
    code, _, err = run_as_written(kcharlm, fit, {})
    assert code == 0
    assert "batch of 1 and windows of 5 characters" in err
    assert "no validation part" in err
    assert re.search(r"^kept +epoch \d+, the last$", err, re.M)
    code, out, _ = run_as_written(kcharlm, generate, {})
    assert (code, out) == (0, "hello\n")


def test_the_post_s_examples_run_as_written(texts, kcharlm, monkeypatch):
    _, _, *lines = post_commands()  # the first two: the test above
    assert len(lines) >= 8
    for line, then in zip(lines, [*lines[1:], ""], strict=True):
        drawn, fits = " generate " in line, " fit " in line
        options = TOY if fits else {"--length": "20", "--seed": "1"} if drawn else {}
        # A model that no other line reads is as well as written once it trains.
        unread = fits and (not then or " fit " in then)
        with monkeypatch.context() as patch:
            if unread:
                end_soon(patch)
            code, out, err = run_as_written(kcharlm, line, options)
        assert code == (130 if unread else 0), (line, err)
        assert out.strip() or not drawn, line


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "python.md"], ids=lambda p: p.stem)
def test_the_python_listings_run(page, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text("Once upon a time. Some other text.\n" * 30)
    code, *_ = blocks(page, "python")  # the others: tests/test_pieces.py
    small = "epochs=1, layers=1, units=8, embedding=4, seq_length=8, verbose=0"
    limit = r'max_time=(600|"10m")(, batch_size=\d+)?'
    assert re.search(limit, code)
    code = re.sub(limit, f"{small}, batch_size=4", code)
    exec(compile(code, page.name, "exec"), {})
    assert "Once upon a time" in capfd.readouterr().out


def test_the_activations_listing_runs(text_model, tmp_path, monkeypatch):
    (tmp_path / "saved_models").mkdir()
    (tmp_path / "saved_models" / "shakespeare").symlink_to(text_model)
    monkeypatch.chdir(tmp_path)
    code = next(c for c in blocks(ROOT / "docs/inspecting.md", "python") if "activations(" in c)
    code = code.replace('"ROMEO:\\nBut soft"', '"the cat sat on\\n"')
    names = {}
    exec(compile(code, "inspecting.md", "exec"), names)
    assert names["found"].hidden.shape == (15, 1, 8)


def test_the_inspect_listing_runs(text_model, tmp_path, monkeypatch):
    (tmp_path / "saved_models").mkdir()
    (tmp_path / "saved_models" / "shakespeare").symlink_to(text_model)
    monkeypatch.chdir(tmp_path)
    code = next(c for c in blocks(ROOT / "docs/inspecting.md", "python") if "model.inspect" in c)
    code = re.sub(r'"ROMEO:\\nBut soft[^"]*"', lambda _: repr(babble(300)), code)
    exec(compile(code, "inspecting.md", "exec"), {})
    assert (tmp_path / "inside.html").stat().st_size > 1000


def test_the_readme_has_the_two_commands():
    lines = read(README).splitlines()
    assert sum(line.endswith("&& kcharlm fit") and "pip install" in line for line in lines) == 1
    assert sum(line.startswith("pip") and line.endswith("pytest") for line in lines) == 1


def test_the_fields_of_evaluate_are_those_of_the_page(text_model, text_file, kcharlm):
    rows = {}
    for line in read(ROOT / "docs/cli.md").splitlines():
        if match := re.match(r"\| (always|`--[a-z -]+`) \| (.*) \|$", line):
            rows.setdefault(match[1].strip("`"), re.findall(r"`(\w+)`", match[2]))
    code, out, err = kcharlm(
        "evaluate",
        text_model / "model.tflite",
        "--baseline",
        "ngram",
        "--by",
        "kind",
        "--novelty",
        "--corpus",
        text_file,
        "--json",
    )
    assert code == 0, err
    values = json.loads(out)
    assert values.keys() == {*rows["always"], "baseline", "kinds", "novelty"}
    assert rows["--baseline ngram"] == ["baseline", *values["baseline"]]
    assert {"kinds"} | values["kinds"][0].keys() <= set(rows["--by kind"])
    novelty = values["novelty"]
    sides = novelty["drawn"].keys() | novelty["real"].keys() | novelty["drawn"]["longest"].keys()
    assert novelty.keys() | sides <= set(rows["--novelty"])


def test_the_warm_up_of_scoring_is_that_of_the_page():
    from keras_charlm.evaluation.evaluator import WARM_UP

    assert f"{WARM_UP} characters before it" in read(ROOT / "docs/evaluating.md")


def test_every_file_of_a_model_is_described(text_model, list_model):
    described = set(re.findall(r"^\| `([\w.]+)/?` \|", read(ROOT / "docs/model-folder.md"), re.M))
    files = {path.name for model in (text_model, list_model) for path in model.iterdir()}
    assert files - {"lock"} <= described


def test_every_promise_names_tests_that_exist():
    text = read(ROOT / "docs" / "reliability.md").partition("## Long runs")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| guarantee", "| ---"))]
    assert len(promises) > 15
    for row in promises:
        named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", row.rpartition(" | ")[2])
        assert named, row
        for file, name in named:
            code = read(Path(__file__).parent / file)
            assert not name or f"def {name}(" in code, name


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", prose(page), re.M)
    }


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_reached_from_the_readme():
    reached, todo = set(), [README]
    while todo:
        page = todo.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)#\s]+\.md)", prose(page))
        todo += [(page.parent / target).resolve() for target in targets if ":" not in target]
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_path_in_the_text_exists(page):
    folders = r"(?:keras_charlm|cli|tests|benchmarks|docs|saved_models/names)"
    for path in re.findall(rf"`({folders}/[\w./-]*)`", prose(page)):
        assert (ROOT / path).exists(), path
