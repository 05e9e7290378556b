"""mp4, GIF and WebP, decoded again by the libraries that wrote them."""

from fractions import Fraction

import av
import numpy as np
import pytest

from md_jax.errors import UserError
from md_jax.output import video


def _frames(count=9, height=64, width=96):
    """Flat frames whose red level tells which frame it is; a blue stripe at the top tells up from down."""
    frames = np.full((count, height, width, 3), 128, np.uint8)
    frames[..., 0] = (20 + 200 * np.arange(count) / count).astype(np.uint8)[:, None, None]
    frames[:, : height // 4] = (0, 0, 255)
    return frames


def _decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream, np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)])


def test_mp4_repeats_whole_loops_forwards(tmp_path):
    frames = _frames()
    video.write_mp4(tmp_path / "a.mp4", frames, 30.0, min_seconds=1.0)
    stream, decoded = _decode(tmp_path / "a.mp4")
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert stream.average_rate == 30
    assert decoded.shape == (4 * 9, 64, 96, 3)  # 36 frames: the first whole number of loops beyond 30
    wanted = np.concatenate([frames] * 4).astype(int)
    assert np.abs(decoded.astype(int) - wanted).mean() < 4
    reds = decoded[:, 40, 48, 0].astype(int).reshape(4, 9)
    assert (np.diff(reds, axis=1) > 0).all(), "a loop plays forwards"


@pytest.mark.parametrize("count", [1, 2, 9])
def test_every_round_of_an_mp4_is_the_first_again_at_even_times(tmp_path, count):
    """Pictures are encoded once, and the rounds after are copies: no player may stumble where they begin."""
    video.write_mp4(tmp_path / "a.mp4", _frames(count), 29.97, min_seconds=2.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = [(f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
        container.seek(0)
        sent = [packet.dts for packet in container.demux(video=0) if packet.size]
    times, pictures = [time for time, _ in shown], np.stack([picture for _, picture in shown])
    assert np.unique(np.diff(times)).tolist() == [Fraction(100, 2997)] and times[0] == 0
    assert (np.diff(sent) > 0).all()
    assert len(pictures) == -(-60 // count) * count  # 59.94 frames, whole rounds
    rounds = pictures.reshape(-1, max(count, 2), *pictures.shape[1:])
    assert (rounds == rounds[:1]).all()


def test_mp4_of_a_long_motion_is_not_repeated(tmp_path):
    video.write_mp4(tmp_path / "a.mp4", _frames(40), 30.0, min_seconds=1.0)
    assert len(_decode(tmp_path / "a.mp4")[1]) == 40


def test_mp4_has_even_sizes_any_rate_and_its_index_in_front(tmp_path):
    video.write_mp4(tmp_path / "a.mp4", _frames(8, 65, 97), 32.0, min_seconds=0.0)
    stream, decoded = _decode(tmp_path / "a.mp4")
    assert decoded.shape == (8, 64, 96, 3) and stream.average_rate == 32
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_mp4_without_libx264_is_mpeg4(tmp_path, monkeypatch):
    real = av.Codec

    def codec(name, mode):
        if name == "libx264":
            raise ValueError(name)
        return real(name, mode)

    monkeypatch.setattr(av, "Codec", codec)
    video.write_mp4(tmp_path / "a.mp4", _frames(), 30.0, min_seconds=0.0)
    stream, decoded = _decode(tmp_path / "a.mp4")
    assert stream.codec_context.name == "mpeg4"
    assert np.abs(decoded.astype(int) - _frames()).mean() < 6


def test_wrong_frames_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(F, H, W, 3\) uint8, got \(4, 8, 8\)"):
        video.write_mp4(tmp_path / "a.mp4", np.zeros((4, 8, 8), np.uint8), 30.0)
    with pytest.raises(UserError, match=r"a\.mp4 cannot be written"):
        video.write_mp4(tmp_path / "nowhere" / "a.mp4", _frames(), 30.0)
    assert not list(tmp_path.iterdir())
