"""The Android package: built and signed with Debian's tools, its page run in Chromium."""

import json
import shutil
import subprocess
import zipfile

import pytest
from pages import distinct, drawn, run, wait

import keras_charlm
from keras_charlm.errors import OptionError
from keras_charlm.export import apk
from keras_charlm.saved.trained import TrainedModel

NAME = '@it\'s "a" & <b> é?'


@pytest.fixture(scope="module")
def package(list_model, tmp_path_factory):
    """The package of a tiny model of lines with an awkward name."""
    missing = [tool for tool in apk.TOOLS if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: {apk.APT}")
    folder = tmp_path_factory.mktemp("apk")
    shutil.copytree(list_model, folder / "model")
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps(config | {"name": NAME}))
    opened = TrainedModel.of(folder / "model")
    content = opened.device_file.read_bytes()
    (folder / "out").mkdir()
    file = folder / "out" / "list.apk"
    report = apk.write(opened, file, content, "org.me.list", folder / "out" / "my.keystore")
    assert report["package_bytes"] == file.stat().st_size
    assert {path.name for path in file.parent.iterdir()} == {"list.apk", "my.keystore"}
    return file


def test_the_package_is_signed_and_may_do_nothing(package):
    subprocess.run(["apksigner", "verify", package], check=True)
    subprocess.run(["zipalign", "-c", "4", package], check=True)
    badging = subprocess.run(
        ["aapt", "dump", "badging", package], check=True, capture_output=True, encoding="utf-8"
    ).stdout
    assert "package: name='org.me.list'" in badging
    assert f"application-label:'{NAME}'" in badging.replace('\\"', '"')
    assert "launchable-activity: name='org.charlm.Page'" in badging
    assert "uses-permission" not in badging
    with zipfile.ZipFile(package) as archive:
        assert archive.read("classes.dex")[:4] == b"dex\n"
        assert archive.testzip() is None


def test_a_key_with_another_password_is_refused(package, tmp_path, monkeypatch):
    monkeypatch.setenv(apk.PASSWORD, "wrong-one")
    key = package.with_name("my.keystore")
    with pytest.raises(OptionError, match=r"my\.keystore cannot sign.*password was incorrect"):
        apk._sign(package, tmp_path / "new.apk", key, key)


def test_the_page_in_the_package_draws_and_shares_the_lines_of_python(
    chromium, package, list_model, tmp_path
):
    with zipfile.ZipFile(package) as archive:
        page_file = archive.extract("assets/index.html", tmp_path)
    context = chromium.new_context(viewport={"width": 390, "height": 844}, offline=True)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    # What the package's program offers to the page, on a phone.
    page.add_init_script("self.phone = { share: (text) => { self.shared = text; } }")
    page.goto(f"file://{page_file}")
    wait(page, "ready")
    run(page, number=4, seed=3, length=30)
    samples = keras_charlm.load(list_model).samples(num=40, seed=3, length=30)
    expected = distinct((s for s in samples if s.text), 4)
    assert drawn(page) == expected
    page.click("#share")
    assert page.evaluate("self.shared") == "\n".join(expected)
    context.close()
    assert not problems


def test_wrong_settings_are_refused(list_model, tmp_path, kcharlm, monkeypatch):
    def refused(*options):
        code, _, err = kcharlm("export", list_model, "-o", tmp_path / "a.apk", *options)
        assert code == 2 and not list(tmp_path.iterdir())
        return err

    assert "--apk is for --to android" in refused("--to", "web", "--apk")
    assert "give both, or neither" in refused("--to", "android", "--keystore", "my.keystore")
    monkeypatch.setenv("PATH", str(tmp_path))
    err = refused("--to", "android", "--apk")
    assert "--apk needs aapt, apksigner, smali, zipalign, keytool" in err and apk.APT in err
