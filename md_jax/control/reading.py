"""The options and files that ask more of a motion than its sentence, read and checked before anything heavy loads."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from md_jax.body.model import JOINT_NAMES
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.files import read_json, read_text
from md_jax.mocap.motion import Motion, load_motion, resample

END = float("inf")  # the end of the motion, whenever that is
FARTHEST = 100.0  # metres from the origin
HANDS = {"left_hand": "left_wrist", "right_hand": "right_wrist"}
_PIN = re.compile(
    r"^\s*(?P<joint>\w+)\s*:\s*(?P<place>[^@]+?)\s*(?:@\s*(?P<first>[\d.]+)\s*(?:-\s*(?P<last>[\d.]+)\s*)?)?$"
)
"""A joint, its place and when."""


@dataclasses.dataclass(frozen=True)
class Pin:
    """A joint that is at a place from a time to a time."""

    joint: int  # of the 55
    place: tuple[float, float, float]  # metres, y up from the floor
    first: float = 0.0  # seconds
    last: float = END


@dataclasses.dataclass(frozen=True, eq=False)
class Key:
    """A pose at a time."""

    time: float  # seconds; END: the last frame
    body_pose: Float[np.ndarray, "21 3"]  # rotation vectors


@dataclasses.dataclass(frozen=True)
class Asked:
    """All that is asked of a motion; times in seconds."""

    pins: tuple[Pin, ...] = ()
    keys: tuple[Key, ...] = ()
    path: tuple[tuple[float, float], ...] = ()  # x and z of the pelvis, metres, evenly spread over the motion
    avoid: bool = False

    def __bool__(self) -> bool:
        return bool(self.pins or self.keys or self.path or self.avoid)


def asked_of(config: Config) -> Asked:
    """What the options ask for.

    Raises:
        UserError: an option or file cannot be understood; the message says what was expected and found.
    """
    keys: list[Key] = []
    pins = [*_pins(config.pin)]
    if config.keyframes:
        found_pins, found_keys = _keyframes(config.keyframes)
        pins, keys = pins + found_pins, keys + found_keys
    if config.start:
        keys.append(Key(0.0, load_motion(config.start).body_pose[-1]))
    if config.end:
        keys.append(Key(END, load_motion(config.end).body_pose[0]))
    path = _path(config.path) if config.path else ()
    if path and config.root != "full":
        raise UserError("--path moves the pelvis over the ground, and --root=" + config.root + " leaves it where it is:"
                        " add --root=full.")  # fmt: skip
    if (pins or path) and config.ground in ("travel", "inplace"):
        raise UserError(f"--ground={config.ground} moves the body in the files away from the places that are asked for:"
                        " add --ground=auto or --ground=none.")  # fmt: skip
    return Asked(tuple(pins), tuple(keys), path, config.avoid)


def _pins(text: str) -> Iterable[Pin]:
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _PIN.match(part)
        numbers = _numbers(match["place"].split(",")) if match else None
        times = _numbers([t for t in (match["first"], match["last"]) if t]) if match else None
        if match is None or numbers is None or len(numbers) != 3 or times is None:
            raise UserError(f"--pin={part}: expected JOINT:X,Y,Z or JOINT:X,Y,Z@FIRST-LAST, in metres and seconds, e.g."
                            " left_hand:0.2,1.1,0.4@0.5-0.8.")  # fmt: skip
        first, last = (times[0], times[-1]) if times else (0.0, END)
        if last < first:
            raise UserError(f"--pin={part}: the last second {last:g} lies before the first, {first:g}.")
        yield Pin(_joint(match["joint"], f"--pin={part}"), _place(numbers, f"--pin={part}"), first, last)


def _keyframes(file: str) -> tuple[list[Pin], list[Key]]:
    """Pins and poses of a keyframes file: a motion, or JSON."""
    if Path(file).suffix.lower() == ".npz":
        motion = load_motion(file)
        return [], [Key(n / motion.fps, pose) for n, pose in enumerate(motion.body_pose)]
    data = read_json(file)
    frames = data.get("keyframes") if isinstance(data, dict) else data
    expected = 'expected {"keyframes": [{"time": SECONDS, "joints": {NAME: [x, y, z]}, "pose": FILE, "at": SECONDS}]}'
    if not isinstance(frames, list) or not frames:
        raise UserError(f"{file}: {expected}, found {str(data)[:60]!r}.")
    pins: list[Pin] = []
    keys: list[Key] = []
    for number, frame in enumerate(frames):
        where = f"{file}, keyframe {number}"
        if (
            not isinstance(frame, dict)
            or set(frame) - {"time", "joints", "pose", "at"}
            or not set(frame) & {"joints", "pose"}
        ):
            raise UserError(f"{where}: {expected}, found {str(frame)[:60]!r}.")
        time = _time(frame.get("time"), where)
        joints = frame.get("joints", {})
        if not isinstance(joints, dict):
            raise UserError(f"{where}: joints must be places by name, found {str(joints)[:60]!r}.")
        for name, place in joints.items():
            numbers = _numbers(place) if isinstance(place, list) else None
            if numbers is None or len(numbers) != 3:
                raise UserError(f"{where}: {name} must be [x, y, z] in metres, found {str(place)[:60]!r}.")
            pins.append(Pin(_joint(name, where), _place(numbers, where), time, time))
        if "pose" in frame:
            if not isinstance(frame["pose"], str):
                raise UserError(f"{where}: pose must name a motion file, found {str(frame['pose'])[:60]!r}.")
            path = Path(file).parent / frame["pose"]
            keys.append(Key(time, _pose_at(load_motion(path), _time(frame.get("at", 0.0), where), str(path))))
    return pins, keys


def _pose_at(motion: Motion, time: float, file: str) -> Float[np.ndarray, "21 3"]:
    if time > motion.duration + 1e-6:
        raise UserError(f"{file} is {motion.duration:g} s long, and its pose at {time:g} s is asked for.")
    fine = resample(motion, max(motion.fps, 120.0))
    return fine.body_pose[min(round(time * fine.fps), len(fine.body_pose) - 1)]


def _path(file: str) -> tuple[tuple[float, float], ...]:
    """The places of a CSV file: x and z in metres, one place a line, with or without a heading."""
    try:
        rows = [row for row in csv.reader(read_text(file).splitlines()) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError(f"{file}: expected lines x,z in metres; it is no CSV file: {error}.") from error
    if rows and _numbers(rows[0]) is None:
        rows = rows[1:]
    places = [_numbers(row) for row in rows]
    bad = next((n for n, place in enumerate(places) if place is None or len(place) != 2), None)
    if bad is not None or len(places) < 2:
        found = f"{len(places)} places" if bad is None else ",".join(rows[bad])[:60]
        raise UserError(f"{file}: expected at least two lines x,z in metres; found {found!r}.")
    return tuple((float(p[0]), float(p[1])) for p in places if p is not None and _place((p[0], 0.0, p[1]), file))


def _joint(name: str, where: str) -> int:
    name = HANDS.get(name, name)
    if name not in JOINT_NAMES:
        raise UserError(
            f"{where}: there is no joint {name!r}; the joints are {', '.join((*HANDS, *JOINT_NAMES[:22]))}."
        )
    return JOINT_NAMES.index(name)


def _place(numbers: Iterable[float], where: str) -> tuple[float, float, float]:
    x, y, z = numbers
    if max(abs(x), abs(y), abs(z)) > FARTHEST:
        raise UserError(f"{where}: expected metres within {FARTHEST:g} of the origin, found {x:g},{y:g},{z:g}.")
    return x, y, z


def _time(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
        raise UserError(f"{where}: expected a time in seconds, found {str(value)[:60]!r}.")
    return float(value)


def _numbers(texts: Iterable[Any]) -> list[float] | None:
    """The finite numbers that these are; None if one is not."""
    try:
        numbers = [float(text) for text in texts]
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None
