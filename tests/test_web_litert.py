"""The page with LiteRT.js instead of its own engine, in Chromium."""

import html
import json
import shutil
from pathlib import Path

import pytest
from pages import distinct, drawn, run, wait, write

import keras_charlm
from keras_charlm.export import litertjs as runtime


@pytest.fixture(scope="module")
def names_page(list_model, litertjs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "names"
    write(keras_charlm.load(list_model), folder, engine="litert", runtime=litertjs)
    return folder


def test_names_are_those_of_python(visit, names_page, list_model):
    page = visit(names_page)
    run(page, number=20, seed=5, length=30)
    expected = keras_charlm.load(list_model).samples(num=100, seed=5, length=30)
    assert drawn(page) == distinct(expected, 20)


def test_a_changed_runtime_is_not_run(visit, names_page, tmp_path):
    folder = tmp_path / "page"
    shutil.copytree(names_page, folder)
    core = folder / "runtime" / "core" / "index.js"
    core.write_text("alert(1);" + core.read_text())
    page = visit(folder, "broken")
    assert "LiteRT.js, the program that runs the model, is damaged" in page.text_content("#status")
    visit.problems.clear()


def test_no_tensor_is_left_behind(visit, names_page):
    page = visit(names_page)
    counted = """async () => {
        const { Litert } = await import("./litert.js");
        const run = Litert.prototype.run;
        let made = 0, deleted = 0;
        Litert.prototype.run = function (...given) {
            const { litert } = this;
            const { Tensor } = litert;
            if (!Tensor.counted) {
                Tensor.counted = true;
                const free = Tensor.prototype.delete;
                Tensor.prototype.delete = function () { deleted++; return free.call(this); };
            }
            made += Object.keys(given[1]).length + 5;
            return run.apply(this, given);
        };
        window.tensors = () => [made, deleted];
    }"""
    page.evaluate(counted)
    run(page, number=50)
    made, deleted = page.evaluate("() => window.tensors()")
    assert made == deleted > 0


def test_the_remote_runtime_is_pinned(list_model, litertjs, tmp_path):
    report = write(keras_charlm.load(list_model), tmp_path / "page", engine="litert")
    facts = json.loads((tmp_path / "page" / "model.json").read_text())["runtime"]
    assert not (tmp_path / "page" / "runtime").exists()
    assert report["runtime"] == {"version": runtime.VERSION, "from": runtime.ADDRESS}
    assert all(f"@{runtime.VERSION}/" in file["path"] for file in facts["files"].values())
    index = html.unescape((tmp_path / "page/index.html").read_text())
    assert f"connect-src 'self' {runtime.ADDRESS};" in index
    if json.loads((litertjs / "package.json").read_text())["version"] == runtime.VERSION:
        local, _ = runtime.source(litertjs)
        for role, file in facts["files"].items():
            assert file["integrity"] == local["files"][role]["integrity"]


@pytest.mark.parametrize("honest", [True, False])
def test_the_runtime_comes_from_its_address_or_not_at_all(
    chromium, serve, list_model, litertjs, tmp_path, honest
):
    if json.loads((litertjs / "package.json").read_text())["version"] != runtime.VERSION:
        pytest.skip(f"the npm package is not version {runtime.VERSION}")
    write(keras_charlm.load(list_model), tmp_path / "page", engine="litert")
    _, files = runtime.source(litertjs)
    asked = []

    def answer(route):
        # The address as the network would answer it: cdn/core@1.2.3/dist/index.js
        name, path = route.request.url.removeprefix(runtime.ADDRESS).split(f"@{runtime.VERSION}/")
        asked.append(path)
        body = files[f"runtime/{name}/{Path(path).name}"]
        route.fulfill(
            body=body if honest else body + b" ", headers={"Access-Control-Allow-Origin": "*"}
        )

    context = chromium.new_context()
    context.route(f"{runtime.ADDRESS}**", answer)
    page = context.new_page()
    page.goto(serve(tmp_path / "page")[0])
    if honest:
        # The second visit, without a network, finds it on the device.
        page.wait_for_selector("html[data-offline=ready]", state="attached", timeout=60_000)
        context.unroute(f"{runtime.ADDRESS}**")
        context.set_offline(True)
        page.reload()
        wait(page, "ready")
        assert len(asked) == len(files)
    else:
        wait(page, "broken")
        assert "is damaged" in page.text_content("#status")
    context.close()
