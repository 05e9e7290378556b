"""motion.html: what it holds, skinned here as the page skins it; that it asks no network; and in a browser (slow)."""

import base64
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from md_jax.body.model import load_body
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import vertices_of
from md_jax.page import scene
from md_jax.page.page import PREVIEWS, Made, curves_of, previews_in, write_page
from md_jax.page.scene import Shown

PROMPT = "a </script> <b>person</b> & \u2028 'walks'"


@pytest.fixture(scope="module")
def body():
    return load_body()


def swinging(frames=7):
    t = np.linspace(0, 1, frames)
    pose, path = np.zeros((frames, 21, 3)), np.zeros((frames, 3))
    pose[:, 0, 0], pose[:, 15, 2], path[:, 0], path[:, 1] = 0.7 * np.sin(5 * t), -1.1 + t, t, 1.2
    return Motion(pose, np.array([0, 0.5, 0]) * t[:, None], path, 30.0)


@pytest.fixture(scope="module")
def page(body, tmp_path_factory):
    path, motion = tmp_path_factory.mktemp("page") / "motion.html", swinging()
    still = dataclasses.replace(motion, body_pose=np.zeros_like(motion.body_pose))
    metrics = [{"step": s, "guidance_rms": [0.5 / s, 0.1], "loss_reg": [None, 1.0]} for s in (1, 2, 4)]
    made = Made({"steps": "4"}, "md-jax 'a person'", curves_of(metrics), {}, ("motion.npz",))
    write_page(path, PROMPT, body, [Shown(PROMPT, motion, {"held still": still})], made)
    return path


def test_previews_are_spread_from_the_first_to_the_last(tmp_path):
    assert previews_in(tmp_path) == {}
    (tmp_path / "previews").mkdir()
    for step in range(0, 300, 10):
        (tmp_path / "previews" / f"step-{step:05d}.png").touch()
    shown = list(previews_in(tmp_path))
    assert len(shown) == PREVIEWS and shown[0] == "step 0" and shown[-1] == "step 290"


def data_of(text):
    start = text.index('<script type="application/json" id="data">') + len('<script type="application/json" id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def unpacked(text, kind, *shape):
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


def test_the_page_s_body_is_ours(page, body):
    """Linear blend skinning in float64 from the page's own numbers, against the body model."""
    data = data_of(page.read_text(encoding="utf-8"))
    shape, clip = data["body"], data["motions"][0]["clips"][0]
    rest = unpacked(shape["positions"], "<i2", -1, 3) * shape["unit"]
    joints, weights = unpacked(shape["joints"], "u1", -1, 4), unpacked(shape["weights"], "<u2", -1, 4) / 65535
    rotations = unpacked(clip["rotations"], "<i2", clip["frames"], 55, 4) / 32767
    path = unpacked(clip["path"], "<f4", clip["frames"], 3)
    wanted = vertices_of(body, swinging())
    for f in (0, 3, 6):
        world, origin, start = np.zeros((55, 3, 3)), np.zeros((55, 3)), np.zeros((55, 3))
        for j, parent in enumerate(shape["parents"]):
            x, y, z, w = rotations[f, j] / np.linalg.norm(rotations[f, j])
            turn = np.array([
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ])  # fmt: skip
            offset = np.array(shape["offsets"][j])
            if parent < 0:
                world[j], origin[j], start[j] = turn, offset + path[f], offset
            else:
                world[j], origin[j] = world[parent] @ turn, origin[parent] + world[parent] @ offset
                start[j] = start[parent] + offset
        moved = np.einsum("vkab,vkb->vka", world[joints], rest[:, None] - start[joints]) + origin[joints]
        ours = (weights[..., None] * moved).sum(axis=1)
        assert np.abs(ours - wanted[f]).max() < 0.012, "four of up to eight joints move a vertex"
        assert np.abs(ours - wanted[f]).mean() < 3e-4


def test_texts_cannot_leave_their_place(page):
    text = page.read_text(encoding="utf-8")
    inside = text.partition('id="data">')[2].partition("</script>")[0]
    assert "<b>person" not in text and "\u2028" not in inside and inside.rstrip().endswith("}")
    data = data_of(text)
    assert data["title"] == data["motions"][0]["title"] == PROMPT
    assert [clip["label"] for clip in data["motions"][0]["clips"]] == ["this run", "held still"]
    assert list(data["curves"]) == ["pull of the sentence"], "a metric without a value has no curve"
    assert data["curves"]["pull of the sentence"][0] == [1, pytest.approx(0.3)]


def test_nothing_is_fetched(page):
    """No element names an address; three.js's licence is there."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""<(script|link|img|iframe)[^>]+(src|href)=""", text.partition("<script>")[0])
    assert "@import" not in text.partition("</style>")[0] and "MIT License" in text
    assert len(text) < 2_500_000


def test_of_many_motions_the_first_are_shown(body):
    shown = [Shown(str(m), swinging(2), {"beside": swinging(2)}) for m in range(scene.MOST_BODIES + 2)]
    data = scene.scene_of(body, shown)
    assert (len(data["motions"]), data["left_out"]) == (scene.MOST_BODIES, 2)
    assert [len(each["clips"]) for each in data["motions"]] == [1] * scene.MOST_BODIES


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser(page, width, scheme):
    """It loads from the disk, plays, draws a body, fits the width, and has nothing to complain of."""
    api = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
        )
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        told, asked = [], []
        tab.on("console", lambda line: told.append(line.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_function("window.player !== undefined", timeout=120_000)
        before = tab.evaluate("player.seconds")
        tab.wait_for_function(f"player.seconds !== {before}", timeout=120_000)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        assert tab.evaluate("player.renderer.info.render.triangles") > 10_000
        image = tab.locator("#canvas").screenshot()
        browser.close()
    assert not told and [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"), float)
    assert pixels.std(axis=(0, 1)).max() > 8, "the picture is not blank"
