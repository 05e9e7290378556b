"""The flag files of the priors: they parse, their clips are the models' own, and docs/priors.md says the same."""

import re
from pathlib import Path

import pytest

from bridge.priors import LOADERS
from bridge.recipes import BORROWED
from md_jax.options.flags import from_flagfile

ROOT = Path(__file__).parents[1]
# frames, height, width, frames a second, guidance; a second of each transformer's clip, whose whole is in its header
CLIPS = {
    "modelscope": (16, 256, 256, 8, 100),
    "zeroscope": (24, 320, 576, 8, 100),
    "videocrafter1": (16, None, None, 8, 100),  # two models of two sizes
    "videocrafter2": (16, 320, 512, 8, 100),
    "animatediff": (16, 512, 512, 8, 7.5),
    "wan21": (17, 480, 832, 16, 6),
    "wan22": (25, 704, 1280, 24, 5),
    "skyreels2": (25, 544, 960, 24, 6),
    "cogvideox15": (17, 768, 1360, 16, 6),
    "cogvideox": (9, 480, 720, 8, 6),
    "ltx": (25, 512, 704, 25, 3),
}
WHOLE = {"wan21": 81, "wan22": 121, "skyreels2": 97, "cogvideox15": 81, "cogvideox": 49, "ltx": 161}


@pytest.mark.parametrize("name", CLIPS)
def test_flag_file(name):
    path = ROOT / "configs" / f"{name}.flags"
    config = from_flagfile(path)
    clip = config.frames, config.height, config.width, config.fps, config.guidance_scale
    assert config.prior == name and clip == CLIPS[name]
    assert not config.prior_path  # nothing is fetched unless somebody names it
    if name in WHOLE:
        assert f"--frames={WHOLE[name]} --frequencies=7" in " ".join(path.read_text().split("\n# "))


def test_every_prior_has_a_flag_file_and_a_row():
    priors = set(LOADERS) - set(BORROWED)  # a benchmark that ran before adds its own
    videos = priors - {"embedded", "sd15", "sd21"}
    assert videos == set(CLIPS)
    page = (ROOT / "docs" / "priors.md").read_text()
    tables = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    for name in priors:
        assert any(row[1].strip() == f"`{name}`" for row in tables), name
    for name in videos:
        rows = [row for row in tables if row[1].strip() == f"`{name}`" and re.fullmatch(r" *[\d.]+ *", row[-2])]
        published = rows[0]
        assert float(published[-2]) == CLIPS[name][-1]
