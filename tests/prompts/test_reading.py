"""The reader of prompts against readings written down by hand."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from md_jax.prompts import reading as module
from md_jax.prompts.reading import Reading, read_prompt
from md_jax.prompts.tokens import ENGLISH
from md_jax.prompts.vocabulary import shipped

# sentence: the actions in order
ACTIONS = {
    "a person is walking": "walking",
    "a man walks": "walking",
    "A MAN WALKED.": "walking",
    "Someone walk": "walking",
    "she is strolling through a park": "walking",
    "the woman strode ahead": "walking",
    "he marches on the spot": "walking",
    "a soldier is marching": "walking",
    "somebody takes a walk on the beach": "walking",
    "a guy wandering around": "walking",
    "an old man hikes up a hill": "walking",
    "a robot is walking": "walking",
    "a tall man who is walking slowly": "walking",
    "a person is running": "running",
    "a man ran": "running",
    "a woman jogs in the street": "running",
    "she's jogging": "running",
    "a boy sprinted": "running",
    "an athlete races forward": "running",
    "a runner": "running",
    "a man goes for a run": "running",
    "a man in running shoes": "running",
    "a girl jumps": "jumping",
    "a man is jumping up": "jumping",
    "he leapt": "jumping",
    "people leaping": "jumping",
    "jump!": "jumping",
    "a man jumped over a fence": "jumping",
    "a man is punching": "punching",
    "a man throws a punch": "punching",
    "he threw punches": "punching",
    "a boxer": "punching",
    "a man boxes": "punching",
    "he is quickly boxing": "punching",
    "a person is shadow-boxing": "punching",
    "a person jabs with the left hand": "punching",
    "a man with boxing gloves punches": "punching",
    "she hits a punching bag": "punching",
    "a person is swinging a sword": "swordplay",
    "the knight swings his long sword": "swordplay",
    "the man swung his heavy, old sword": "swordplay",
    "a samurai with a katana": "swordplay",
    "a woman is fencing": "swordplay",
    "sword-fighting": "swordplay",
    "they fight with swords": "swordplay",
    "a person is holding a sword": "swordplay",
    "a person is washing a window": "washwindow",
    "a man is cleaning a big window": "washwindow",
    "washing a big dirty window": "washwindow",
    "he cleaned the windows": "washwindow",
    "she wipes the very dirty, old window": "washwindow",
    "a window cleaner": "washwindow",
    "a man polishes the glass": "washwindow",
    "window-washing": "washwindow",
    "someone scrubbed a window": "washwindow",
    "a person is directing traffic": "directing_traffic",
    "a police officer directs the heavy traffic": "directing_traffic",
    "a policeman is regulating traffic": "directing_traffic",
    "the officer controlled traffic": "directing_traffic",
    "traffic police": "directing_traffic",
    "a cop signals traffic to stop": "directing_traffic",
    "directing_traffic": "directing_traffic",
    "a person is doing a cartwheel": "cartwheel",
    "a gymnast does cartwheels": "cartwheel",
    "she did a perfect cartwheel": "cartwheel",
    "a girl turns a cart-wheel": "cartwheel",
    "a kid cartwheeled": "cartwheel",
    "cartwheeling on grass": "cartwheel",
    "a person is doing a cartwheel, turning over": "cartwheel",
    "a person is playing basketball": "basketball",
    "he dribbles": "basketball",
    "a boy bounces a ball": "basketball",
    "a basketball player": "basketball",
    "shooting hoops": "basketball",
    "a referee gives basketball signals": "basketball_signal",
    "a basketball referee": "basketball_signal",
    "signalling": "basketball_signal",
    "a person is dancing": "dancing",
    "a dancer": "dancing",
    "she danced all night": "dancing",
    "a ballet dancer": "dancing",
    "a couple waltzes": "dancing",
    "dancing in the shower": "dancing",
    "a person is playing soccer": "soccer",
    "a man kicks the ball": "soccer",
    "he kicked a small red ball": "soccer",
    "playing football": "soccer",
    "a person is washing himself": "washing",
    "a man washes his hands": "washing",
    "a woman takes a shower": "washing",
    "he washes himself near a window": "washing",
    "bathing": "washing",
    "a person is scooping something up": "scooping",
    "she picks up a heavy box": "scooping",
    "he picked something small up": "scooping",
    "a worker shovels": "scooping",
    "a man bends down": "scooping",
    "a man is bending over": "scooping",
    "a person is hopping on one leg": "hopping",
    "he hopped": "hopping",
    "jumping on one foot": "hopping",
    "a girl jumps on one leg": "hopping",
    "a person is doing a backflip": "backflip",
    "back-flip": "backflip",
    "he flips backwards": "backflip",
    "a person is doing a side flip": "sideflip",
    "she spins": "spinning",
    "the skater spun": "spinning",
    "a thief sneaks": "sneaking",
    "he crept along the wall": "sneaking",
    "tip: tiptoeing": "sneaking",
    "a person is getting up from the floor": "getting_up",
    "she stood up": "getting_up",
    "a baby crawls": "crawling",
    "walking on all fours": "crawling",
    "a man rolls over": "rolling",
    "a person is walking like a zombie": "zombie_walking",
    "a zombie is walking": "zombie_walking",
    "a karate kick": "kicking",
    "he kicked": "kicking",
    # one thing is not another
    "a boxer is running": "running",
    "a man in running shoes is punching": "punching",
    "a dancer jumps": "jumping",
    "running with a sword": "running",
    "a basketball player is jumping": "jumping",
    "walking through traffic": "walking",
    "a zombie is dancing": "dancing",
    "cleaning a car by the window": "",
    "a man washes a car and looks at a window": "",
    "a man is walking on his hands": "",
    # several, in order
    "walks forward and then punches": "walking punching",
    "a man runs, then jumps, then dances": "running jumping dancing",
    "punching and running": "punching running",
    "a man walks and walks": "walking",
    "she walks, jumps and walks on": "walking jumping walking",
    "jogging before washing a window": "running washwindow",
    "a person sits down after walking": "walking sitting_down",
    "before sitting down, a person walks": "walking sitting_down",
    "she sits down after having walked": "walking sitting_down",
    "he walks and after a while jumps": "walking jumping",
    "after running, a person punches": "running punching",
    "a person sits down, drinks and walks": "sitting_down drinking walking",
    # what is done there says more
    "walking on rough ground": "walking_on_uneven_terrain",
    "hiking quickly over uneven terrain": "walking_on_uneven_terrain",
    "a man walks and then goes over rough ground": "walking walking_on_uneven_terrain",
    # one word of several meanings
    "lifting a box": "scooping",
    "a man opens a box": "",
    "he boxes": "punching",
    "box!": "punching",
    "a person is running a company": "",
    "a person is washing the dishes": "",
    "a man in a hurry walks": "walking",
    "she stands up from her seat": "rising_from_seat",
    "a person gets out of a chair": "rising_from_seat",
    "she sits down on a chair": "sitting_down",
    "she sits on a chair": "sitting",
    # said in other words
    "a kid is shooting baskets": "basketball",
    "a person is ascending the staircase": "climbing_stairs",
    "an old man makes his way up the stairs": "climbing_stairs",
    "a person comes down the stairs": "descending_stairs",
    "a fireman ascends a ladder": "climbing_ladder",
    "she touches her left knee with her right elbow": "elbow_to_knee",
    "someone is gulping down a beer": "drinking",
    "a man takes a sip of water": "drinking",
    "he jumps up to catch a ball": "jump_and_reach",
    "a person leaps to reach something high": "jump_and_reach",
    "running on a treadmill": "jogging_in_place",
    "he cracks up": "laughing",
    "a person is moving backward": "walking_backward",
    "she backs away": "walking_backward",
    "a cop waves cars through": "directing_traffic",
    "skipping rope": "jumping",
    "he is rushing": "running",
    # none
    "": "",
    "   \n\t ": "",
    "the of and a": "",
    "a cat is sleeping": "",
    "a man plays chess": "",
    "on the sidewalk": "",
    "he hoped for rain": "",
    "a brand new boxcar": "",
    "🕺💃🤸": "",
    "12345 !!! ???": "",
    "{view}": "",
    "a profile of courage": "",
    "a" * 10000: "",
    # odd ways to write
    "🕺 a man is dancing 💃": "dancing",
    "“walking”": "walking",
    "a man—walking—alone": "walking",
    "a\u00a0person\u2009is\nrunning": "running",
    "ｗａｌｋｉｎｇ": "walking",
    "\u202ea man is jumping\u202c": "jumping",
    "a man (running)": "running",
    "<b>running</b>": "running",
    "a person is walking " * 400: "walking",
    "a shot of {view} view of a man walking": "walking",
}


@pytest.mark.parametrize(("sentence", "actions"), ACTIONS.items(), ids=lambda text: text[:40])
def test_actions(sentence, actions):
    reading = read_prompt(sentence)
    assert " ".join(heard.action for heard in reading.actions) == actions
    for heard in reading.actions:
        assert heard.words and not reading.negated


VIEWS = {
    "a man is running, side view": "left right",
    "a man is running from the side": "left right",
    "a man in profile": "left right",
    "a man, side-view": "left right",
    "a side-on view of a man": "left right",
    "a profile shot of a runner": "left right",
    "seen sideways? a sideways view": "left right",
    "left side view of a man": "left",
    "a man, left-side view": "left",
    "left view": "left",
    "left profile": "left",
    "a man punching from the left": "left",
    "seen from his left side": "left",
    "from the left-hand side": "left",
    "a man, Right-Side  View": "right",
    "right profile view": "right",
    "she walks, seen from the right": "right",
    "front view, a woman jumping": "front",
    "frontal shot": "front",
    "a man facing the camera": "front",
    "he faces the camera": "front",
    "viewed from the front": "front",
    "from in front": "front",
    "a woman seen from behind": "back",
    "back view": "back",
    "rear-view": "back",
    "from the rear": "back",
    "facing away from the camera": "back",
    "with his back to the camera": "back",
    "front view or back view": "front back",
    "left side view and back view": "left back",
    "a person steps to the left side": "",
    "he walks from the left to the right": "",
    "a profile of courage": "",
    "somebody stands in front of a view": "",
    "a person is walking": "",
    "turning right": "",
    "he looks back": "",
    "the {view} view": "",
}
CENTRES = {"front": 0, "left": 90, "back": 180, "right": 270}


@pytest.mark.parametrize(("sentence", "views"), VIEWS.items())
def test_views(sentence, views):
    arcs = read_prompt(sentence).arcs
    expected = [(math.radians(CENTRES[view] - 45), math.radians(CENTRES[view] + 45)) for view in views.split()]
    assert (arcs or []) == [pytest.approx(arc) for arc in expected]


NEGATED = (
    "a man does not walk", "a man isn't walking", "a man isn’t walking", "he never runs", "without walking",
    "a person who is not quickly walking", "she doesn't really like to dance", "no walking", "nobody jumps",
    "no one is dancing", "running instead of walking", "walking rather than running", "he cannot jump",
    "a man is walking, not running", "the man is not moving", "don't move", "he wasn't washing the window",
    "a man stops walking", "he dont walk", "neither walking nor running",
    "no man walks", "not a single person is dancing", "none of the men walks", "nobody in the room is walking",
    "a person no longer walks", "a person is anything but walking", "a person quits running", "he fails to jump",
    "she stops walking and starts running", "he is not able to walk", "he is not going to walk", "he doesn't ever walk",
    "a man who isn't walking is running", "he does not really want to be walking", "he has not been walking",
    "a man tired of walking", "he is bored of dancing",
)  # fmt: skip
AFFIRMED = (
    "a man without a hat is walking", "not only walking", "a man is walking, no hat", "do not use cartoon style; a man"
    " is walking", "a man who is not old but walking", "a note about walking", "a knot, dancing", "a cat without tail",
    "a man is walking. He does it without a stick.", "he notices a man walking",
    "a person who is not tired is running", "a person who isn't tired runs", "a man who does not wear shoes is walking",
    "a not very tall man is walking", "a person not in a hurry is walking", "a man who cannot swim walks",
    "a man who never smiles is walking", "a woman who is not my sister is dancing", "he can't stop dancing",
    "she never stops laughing", "she never gets tired of running", "he never tires of running",
    "he cannot help laughing", "not a man but a woman is walking",
)  # fmt: skip


@pytest.mark.parametrize("sentence", NEGATED)
def test_negations_are_noticed(sentence):
    assert read_prompt(sentence).negated


@pytest.mark.parametrize("sentence", AFFIRMED)
def test_other_words_deny_nothing(sentence):
    assert not read_prompt(sentence).negated


FOREIGN = (
    "un hombre está caminando", "ein Mann geht", "eine Frau läuft auf der Straße", "un homme marche dans la rue",
    "une femme danse", "un uomo che cammina", "uma pessoa correndo", "een man is aan het lopen", "en man som springer",
    "人が歩いている", "一个人在走路", "человек идёт", "رجل يمشي", "איש הולך", "사람이 걷고 있다", "ένας άνδρας περπατά",
    "एक आदमी चल रहा है", "mężczyzna idzie ulicą", "bir adam yürüyor", "seseorang sedang berjalan", "der Mann springt",
    "en man hoppar", "een man loopt", "de man rent", "en person løber", "alguien camina", "muž běží", "hon dansar",
    "correr", "el niño está saltando", "un robot camina", "Eine Person geht die Treppe hinauf", "pessoa andando",
)  # fmt: skip
ENGLISH_SENTENCES = (
    "a cat is sleeping", "juggling", "a man plays chess in a café", "the Pope waves", "somebody dies on the stage",
    "he is sitting", "someone rides a bicycle", "", "🕺", "person", "two dogs are playing", "asdf", "a man is dansing",
    "an old lady knits", "a man with die in his hands", "a walk", "le walking",
    "a toddler waddles", "hoping on one leg", "make him hustle", "a robot in a café", "the cop waves cars through",
)  # fmt: skip


@pytest.mark.parametrize("sentence", FOREIGN)
def test_other_languages_are_noticed(sentence):
    reading = read_prompt(sentence)
    assert reading.foreign and not reading.actions


@pytest.mark.parametrize("sentence", ENGLISH_SENTENCES)
def test_english_is_not_taken_for_another_language(sentence):
    assert not read_prompt(sentence).foreign


@pytest.mark.parametrize(
    ("sentence", "manner", "ignored"),
    [
        ("washing a big dirty window", "", "big dirty"),
        ("a man walks slowly, side view", "slowly", ""),
        ("a tall man in a red shirt runs quickly to the left", "quickly left", "tall red shirt"),
        ("a video of a person doing a cartwheel, turning over", "turning over", ""),
        ("a boxer is running backwards", "backwards", "boxer"),
        ("walks forward and then punches", "forward", ""),
        ("a person who isn't tired is hiking over rough ground", "", "tired"),
        ("a woman is dancing up and down", "up down", ""),
    ],
)
def test_the_rest_of_a_sentence(sentence, manner, ignored):
    reading = read_prompt(sentence)
    assert (" ".join(reading.manner), " ".join(reading.ignored)) == (manner, ignored)


def test_every_phrase_leads_back_to_its_action():
    for name, entry in shipped().entries.items():
        for phrase in (name, entry.phrase, *entry.synonyms, *entry.heard):
            heard = read_prompt(f"a person {phrase} outside").action
            assert heard is not None and heard.action == name, phrase


def test_a_part_of_the_vocabulary_hears_its_own_actions_alone():
    only = shipped().only(("walking", "waving_hello"))
    assert read_prompt("a man walks like a zombie", only).action.action == "walking"
    assert read_prompt("he waves hello", only).action.action == "waving_hello"
    assert read_prompt("a man is running", only).action is None


SMALL = "not without walking washing window big , . then from the left side view sword isn't {view} étage 人"
WORDS = st.sampled_from([*sorted(ENGLISH), *SMALL.split(" ")])


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(WORDS, max_size=40).map(" ".join))
def test_every_text_has_a_reading(text):
    reading = read_prompt(text)
    assert isinstance(reading, Reading)
    assert reading.quarters == tuple(sorted(set(reading.quarters))) and not (reading.foreign and reading.actions)
    same = text.isascii() and "{view}" not in text  # that place is written small
    plain = read_prompt(f"  {text.upper()} ") if same else reading
    assert (plain.actions, plain.quarters, plain.negated) == (reading.actions, reading.quarters, reading.negated)


@pytest.mark.parametrize("unit", ["wash the ", "walking ", "not ", "from ", "left side ", "x", "🕺", "washing a, "])
def test_time_grows_with_the_length_alone(unit):
    def seconds(repeats):
        text, best = unit * repeats, math.inf
        for _ in range(3):
            module._read.cache_clear()
            start = time.process_time()
            read_prompt(text)
            best = min(best, time.process_time() - start)
        return best

    seconds(100)  # the vocabulary is read once
    short, long = seconds(500), seconds(4000)
    assert long < 24 * short + 0.05  # eight times the text; 64 times the time if it grew with the square
