"""motion.html: what it holds, skinned here as the page skins it; that it asks no network; and in a browser (slow)."""

import base64
import dataclasses
import json
import re

import numpy as np
import pytest

from md_jax.body.model import load_body
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import vertices_of
from md_jax.page import scene
from md_jax.page.page import PREVIEWS, Made, curves_of, previews_in, write_page
from md_jax.page.scene import Shown
from tests.chromium import opened

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
    metrics = [
        {"step": s, "loss": [1.5 * s, 1.0], "guidance_rms": [0.123 / s, 0.1], "loss_reg": [None, 1.0]}
        for s in (1, 2, 4)
    ]
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
    assert list(data["curves"]) == ["loss", "pull of the sentence"], "a metric without a value has no curve"
    assert data["curves"]["pull of the sentence"][0] == [1, pytest.approx((0.123 + 0.1) / 2)]


def test_nothing_is_fetched(page):
    """No element names an address; three.js's licence is there."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""<(script|link|img|iframe)[^>]+(src|href)=""", text.partition("<script>")[0])
    assert "@import" not in text.partition("</style>")[0] and "MIT License" in text
    assert len(text) < 2_500_000


def test_of_many_motions_the_first_are_shown(body):
    shown = [Shown(str(m), swinging(2), {"beside": swinging(2)}) for m in range(scene.MOST_MOTIONS + 2)]
    data = scene.scene_of(body, shown)
    assert (len(data["motions"]), data["left_out"]) == (scene.MOST_MOTIONS, 2)
    assert [len(each["clips"]) for each in data["motions"]] == [1] * scene.MOST_MOTIONS
    few = scene.scene_of(body, shown[:3])
    assert [len(each["clips"]) for each in few["motions"]] == [2] * 3, "a few keep their controls"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser(page, width, scheme):
    """It loads from the disk, plays, draws a body, fits the width, and has nothing to complain of."""
    with opened(page.as_uri(), width, scheme) as tab:
        tab.plays()
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.page.evaluate("document.documentElement.dataset.theme") == scheme
        assert tab.page.evaluate("player.renderer.info.render.triangles") > 10_000
        assert tab.picture().std(axis=(0, 1)).max() > 8, "the picture is not blank"
        foot = tab.page.evaluate(
            "[...document.querySelectorAll('.curves svg')].map((e) => e.getBoundingClientRect().bottom)"
        )
        assert len(foot) == 2 and foot[0] == foot[1], "curves beside each other stand on one line"
        # the player's own switches
        tab.page.locator("#ghosts").check()
        tab.page.evaluate("player.setPlaying(false); player.seconds = 0.2")
        tab.page.wait_for_function("player.figures[0].ghosts[0]?.mesh.visible", timeout=120_000)
        tab.page.locator("#views button").nth(1).click()
        tab.page.locator("#grid").uncheck()
        assert not tab.page.evaluate("player.grid.visible")
        turned = tab.page.evaluate("[player.camera.position.x, player.camera.position.z]")
        assert turned[0] > 5 * abs(turned[1] - tab.page.evaluate("player.box.middle.z")), "seen from the body's left"
        tab.page.locator("#loop").uncheck()
        tab.page.evaluate("player.setPlaying(true)")
        tab.page.wait_for_function("!player.playing && player.seconds === player.length", timeout=120_000)
        assert not tab.told
        assert [url for url in tab.asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.slow
def test_the_camera_goes_along_with_a_walk_and_no_label_covers_another(body, tmp_path):
    motion, control = swinging(31), swinging(31)
    far = dataclasses.replace(motion, transl=motion.transl * (8, 1, 1))
    near = dataclasses.replace(control, transl=control.transl * (7, 1, 1))
    controls = {"fitted to a sample, not refined": near, "another one of them, with a long name": far}
    write_page(tmp_path / "motion.html", "a walk", body, [Shown("a walk", far, controls)])
    with opened((tmp_path / "motion.html").as_uri()) as tab:
        tab.plays()
        seen = """(() => {
            const at = player.figures[0].figure.bones[0].position.clone();
            return [at.x, at.add(player.figures[0].figure.mesh.position).project(player.camera).x];
        })()"""
        places = []
        for seconds in (0, 0.5, 1):
            tab.page.evaluate(f"player.setPlaying(false); player.seconds = {seconds}")
            away = f"path[3 * {30 * seconds:.0f}] + figure.pelvis[0] - figure.bones[0].position.x"
            tab.page.wait_for_function(
                f"(({{ figure, clip: {{ path }} }}) => Math.abs({away}) < 1e-3)(player.figures[0])"
            )
            tab.page.wait_for_timeout(500)
            places.append(tab.page.evaluate(seen))
            boxes = tab.page.evaluate(
                "[...document.querySelectorAll('#labels span')].map((e) => e.getBoundingClientRect().toJSON())"
            )
            assert len(boxes) == 3
            for i, a in enumerate(boxes):
                for b in boxes[i + 1 :]:
                    apart = a["right"] <= b["left"] or b["right"] <= a["left"]
                    assert apart or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]
        (start, shown), _, (end, later) = places
        assert end - start > 7 and abs(later - shown) < 0.02, "it walks, and stays where it is in the picture"
        assert not tab.told


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_gallery_in_a_browser(body, tmp_path, width, scheme):
    """All bodies play at once; a click enlarges one beside its controls; in the grid each stays in its place."""
    shown = [Shown(f"sentence {m}", swinging(7 + m), {"beside": swinging()}, page="a b.html") for m in range(11)]
    write_page(tmp_path / "gallery.html", "a gallery", body, shown)
    with opened((tmp_path / "gallery.html").as_uri(), width, scheme) as tab:
        tab.plays()
        count = 11 if width > 640 else 9
        assert tab.page.evaluate("player.figures.length") == count
        assert tab.page.locator("#labels button").all_text_contents()[0] == "1  sentence 0"
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.picture().std(axis=(0, 1)).max() > 8, "the picture is not blank"
        assert tab.page.evaluate("player.figures[3].clip.path[3 * 6] === player.figures[3].clip.path[0]"), (
            "in its place"
        )
        if width < 640:
            tab.page.locator("#later").click()
            assert tab.page.evaluate("player.figures.map((each) => each.motion).join()") == "9,10"
            tab.page.locator("#earlier").click()
        # a click on the body itself, which has to be drawn where it stands first
        tab.plays()
        x, y = tab.page.evaluate("""(() => {
            const { figure } = player.figures[1], stage = document.getElementById("stage");
            const at = figure.bones[0].position.clone().add(figure.mesh.position).project(player.camera);
            return [(at.x + 1) / 2 * stage.clientWidth, (1 - at.y) / 2 * stage.clientHeight];
        })()""")
        tab.page.locator("#canvas").click(position={"x": x, "y": y})
        assert tab.page.evaluate("player.alone") == 1
        assert "sentence 1" in tab.page.inner_text("#where")
        assert tab.page.locator("#open").get_attribute("href") == "a%20b.html"
        assert tab.page.evaluate("player.figures.length") == (2 if width > 640 else 1)
        assert tab.page.evaluate("player.follows === player.figures[0].figure"), "one that travels is followed"
        tab.page.locator("#all").click()
        assert tab.page.evaluate("player.figures.length") == count
        assert not tab.told
