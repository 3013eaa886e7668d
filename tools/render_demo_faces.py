"""Render the two synthetic demo face sets that ship with the package.

`demo` (in the wild, like FER2013): 300 subjects x 7 classes = 2,100 images, loose framing, varied pose and
light, subjects disjoint over Training, PublicTest and PrivateTest. `demo-ck` (in the lab, like CK+): 60
subjects x 5 sequences x 3 nearly identical frames = 900 images, tight framing, no subject with two sequences
of one class.

Faces are MakeHuman meshes (CC0) posed by action units through the `anny` package, shaded by procedural skin,
brows, hair and eyes, and ray cast with embree. Nothing here is needed to use the sets: their files are in the
repository.

Install (best into a virtual environment of its own; the first run takes some minutes to fill a cache of about
1.5 GB in ANNY_CACHE_DIR), look at a few subjects, then render everything::

    pip install torch==2.11.0 anny==0.6.2 embreex scipy pillow tqdm
    export ANNY_CACHE_DIR=/some/scratch/folder
    python tools/render_demo_faces.py --out build/look --limit 8
    python tools/render_demo_faces.py --out fercompanion/demo --processes 2

Every subject and every image has its own random generator, seeded by (seed, set, subject, image), so neither
the order of the work nor the number of processes changes a pixel. Another CPU, embree or torch may change the
last bits, which is why the images are in the repository and not only this script.
"""

from __future__ import annotations

import argparse
import csv
import io
import multiprocessing
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

# One image is too small to share out over threads. This must precede the import of numpy and torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

TILE = 48  # pixels, the size of FER2013 and of CK+48
COLUMNS = 60  # tiles in a row of the contact sheet
SEED = 2013
SET_STREAMS = {"demo": 1, "demo-ck": 2}  # first key of a set's random streams

DEMO_CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
DEMO_SPLITS = (("Training", 220), ("PublicTest", 40), ("PrivateTest", 40))  # subjects

# Sequences a class in demo-ck, after CK+'s 45/59/25/69/28/83/18 of 327; no class may exceed the 60 subjects.
CK_SEQUENCES = {
    "anger": 45, "disgust": 54, "fear": 30, "happiness": 58, "sadness": 31, "surprise": 59, "contempt": 23,
}  # fmt: skip
CK_SUBJECTS = 60
CK_FRAME_SCALES = (0.88, 0.94, 1.0)  # action-unit intensity of the three frames, as a part of the apex

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")  # MTCNN's order; left = image-left
COLUMN_NAMES = ["index", "label", "split", "subject", "sequence", "frame"]
COLUMN_NAMES += [f"{name}_{axis}" for name in LANDMARKS for axis in "xy"]


# ------------------------------------------------------------------------------------------ small mathematics


def smoothstep(x, low, high):
    """Rise smoothly from 0 at `low` to 1 at `high`; `low > high` gives a fall."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def gauss(x, centre, width):
    """Unit-height bell ``exp(-((x - centre) / width)^2)``."""
    return np.exp(-(((x - centre) / width) ** 2))


def wave_noise(points, seed, frequency, octaves=2):
    """Smooth noise of about unit spread: a sum of random plane waves, defined everywhere in space.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        Positions in metres.
    seed : int
        Chooses the waves, so that a subject keeps its skin from image to image.
    frequency : float
        Spread of the wave numbers, radians a metre; each octave multiplies it by 2.1.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(len(points), np.float32)
    amplitude = 0.25
    for _ in range(octaves):
        for _ in range(5):
            total += amplitude * np.sin(points @ rng.normal(0, frequency, 3) + rng.uniform(0, 2 * np.pi))
        frequency, amplitude = frequency * 2.1, amplitude * 0.6
    return total


def unit(vectors):
    """Scale vectors (last axis) to length 1."""
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)


def vertex_normals(vertices, faces):
    """Area-weighted vertex normals of a triangle mesh, shape (n, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, corner], face_normals[:, axis], len(vertices))
    return unit(normals)


def grid_faces(rows, columns):
    """Triangles of a rows x columns vertex grid."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = [np.stack([p.ravel() for p in corners], 1) for corners in ((a, b, c), (a, c, d))]
    return np.concatenate(triangles).astype(np.int32)


# ------------------------------------------------------------------------------------------------ expressions


def both_sides(**weights):
    """Spell out a left and a right face unit of equal weight for each name."""
    return {name + side: weight for name, weight in weights.items() for side in ("Left", "Right")}


# FACS action unit -> ARKit-style face units of the mesh, with the weight that reads as a full contraction.
ACTION_UNITS = {
    1: {"browInnerUp": 1.35},
    2: both_sides(browOuterUp=1.2),
    4: both_sides(browDown=1.3),
    5: both_sides(eyeWide=1.0),
    6: both_sides(cheekSquint=1.0, eyeSquint=0.25),
    7: both_sides(eyeSquint=1.0),
    9: both_sides(noseSneer=1.25, browDown=0.3),
    10: both_sides(mouthUpperUp=1.0),
    12: both_sides(mouthSmile=1.0),
    14: both_sides(mouthDimple=1.0),
    15: both_sides(mouthFrown=1.0),
    16: both_sides(mouthLowerDown=1.0),
    17: {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.4},
    20: both_sides(mouthStretch=1.0),
    23: {**both_sides(mouthPress=0.9), "mouthRollLower": 0.35, "mouthRollUpper": 0.35},
    25: both_sides(mouthLowerDown=0.5, mouthUpperUp=0.35),
    26: {"jawOpen": 0.55},
    43: both_sides(eyeBlink=1.0),
}

# EMFACS-like prototypes: (action unit, lowest weight, highest weight, probability that it takes part).
PROTOTYPES = {
    "anger": [(4, 0.8, 1, 1), (7, 0.4, 0.9, 1), (5, 0.2, 0.6, 0.6), (23, 0.6, 1, 0.75),
              (25, 0.4, 0.9, 0.25), (9, 0.1, 0.4, 0.4)],
    "disgust": [(9, 0.8, 1, 1), (10, 0.5, 1, 0.9), (15, 0.3, 0.7, 0.7), (16, 0.2, 0.6, 0.6),
                (4, 0.2, 0.6, 0.7), (7, 0.2, 0.6, 0.7), (17, 0.1, 0.6, 0.4)],
    "fear": [(1, 0.7, 1, 1), (5, 0.7, 1, 1), (20, 0.7, 1, 1), (4, 0.4, 0.7, 1), (2, 0.2, 0.6, 0.9),
             (7, 0.1, 0.3, 0.5), (26, 0.15, 0.6, 0.8), (25, 0.3, 0.8, 0.8)],
    "happiness": [(12, 0.75, 1.05, 1), (6, 0.4, 1, 1), (25, 0.6, 1.4, 0.8), (26, 0.1, 0.5, 0.6)],
    "sadness": [(1, 0.7, 1, 1), (15, 0.7, 1, 1), (4, 0.3, 0.6, 0.9), (17, 0.2, 0.8, 0.6),
                (43, 0.1, 0.35, 0.6)],
    "surprise": [(1, 0.7, 1, 1), (2, 0.7, 1, 1), (5, 0.6, 1, 1), (26, 0.6, 1.3, 1)],
    "neutral": [],
    "contempt": [(12, 0.5, 0.9, 1), (14, 0.6, 1, 1), (7, 0, 0.3, 0.4)],
}  # fmt: skip
ONE_SIDED = {("contempt", 12), ("contempt", 14)}  # contempt is the unilateral expression
IDLE_UNITS = (1, 2, 4, 5, 6, 7, 10, 12, 15, 17, 20, 23, 25, 26, 43)


def sample_expression(label, intensity, rng):
    """Draw the face units of one expression.

    Parameters
    ----------
    label : str
        A class of `PROTOTYPES`.
    intensity : float
        Multiplies the prototype's weights (not the idle activity).
    rng : numpy.random.Generator

    Returns
    -------
    dict of str to float
        Weight of each face unit, within 0 and 1.6.
    """
    side, other = ("Left", "Right") if rng.random() < 0.5 else ("Right", "Left")
    units = {}

    def contract(action_unit, weight, one_sided=False):
        for name, share in ACTION_UNITS[action_unit].items():
            if not (one_sided and name.endswith(other)):
                units[name] = units.get(name, 0.0) + share * weight

    for action_unit, low, high, probability in PROTOTYPES[label]:
        if rng.random() < probability:
            contract(action_unit, rng.uniform(low, high) * intensity, (label, action_unit) in ONE_SIDED)
    for action_unit in IDLE_UNITS:  # a living face is never still, so no class is free of stray activity
        if rng.random() < 0.25:
            contract(action_unit, abs(rng.normal(0, 0.10)))
    units = {name: float(np.clip(weight * rng.normal(1, 0.1), 0, 1.6)) for name, weight in units.items()}
    for eye in ("eyeBlinkLeft", "eyeBlinkRight"):
        units[eye] = min(units.get(eye, 0.0), 0.5)  # closed eyes would hide the units 5 and 7
    return {**units, **sample_gaze(rng)}


def sample_gaze(rng):
    """Draw face units that turn both eyes together; two thirds of the faces look straight ahead."""
    if rng.random() > 0.35:
        return {}
    sideways, upward = rng.normal(0, 0.25, 2)
    left, right = ("In", "Out") if sideways > 0 else ("Out", "In")
    vertical = "Up" if upward > 0 else "Down"
    x, z = min(abs(sideways), 0.7), min(abs(upward), 0.5)
    return {f"eyeLook{left}Left": x, f"eyeLook{right}Right": x, f"eyeLook{vertical}Left": z,
            f"eyeLook{vertical}Right": z}  # fmt: skip


# --------------------------------------------------------------------------------------------------- identity


@dataclass(frozen=True)
class Identity:
    """What stays the same in all images of a subject: shape sliders and looks (albedos, metres)."""

    phenotype: dict
    local_changes: dict
    texture_seed: int
    skin: float
    hair: float
    iris: float
    lips: float
    cloth: float
    age_lines: float  # 0 young .. 1 old
    brow_width: float
    brow_density: float
    stubble: float
    bald: bool
    long_hair: bool
    hairline: float  # height of the front hairline against the mean
    fringe: float  # how far hair falls into the forehead
    parting: float
    sideburn: float
    hair_volume: float
    hair_length: float
    hair_front: float  # degrees from the back of the head at which long hair ends
    hair_flare: float
    collar: float


def sample_identity(local_labels, rng):
    """Draw a subject; `local_labels` are the mesh's local-change sliders in use."""
    male = rng.random() < 0.5
    african, asian, caucasian = (float(share) for share in rng.dirichlet([0.45] * 3))
    age = float(rng.uniform(0.58, 0.95))
    phenotype = dict(
        gender=float(np.clip(rng.normal(0.12 if male else 0.88, 0.1), 0, 1)), age=age,
        muscle=float(rng.uniform(0.3, 0.7)), weight=float(rng.uniform(0.25, 0.75)), height=0.5,
        proportions=float(rng.uniform(0.5, 1)), cupsize=0.5, firmness=0.5,
        african=african, asian=asian, caucasian=caucasian,
    )  # fmt: skip
    old = max(0.0, (age - 0.75) / 0.25)
    stubble = 0.0
    if male:
        stubble = rng.uniform(0, 0.28) if rng.random() < 0.7 else rng.uniform(0.3, 0.75)
    return Identity(
        phenotype=phenotype,
        local_changes=sample_local_changes(local_labels, rng),
        texture_seed=int(rng.integers(1 << 30)),
        skin=float((0.62 * caucasian + 0.52 * asian + 0.20 * african) * rng.uniform(0.85, 1.12)),
        hair=sample_hair_colour(caucasian, old, rng),
        iris=rng.uniform(0.06, 0.12) if caucasian < 0.6 else rng.uniform(0.08, 0.35),
        lips=rng.uniform(0.62, 0.85),
        cloth=rng.uniform(0.02, 0.7),
        age_lines=old,
        brow_width=rng.uniform(0.8, 1.25) * (1.15 if male else 0.85),
        brow_density=rng.uniform(0.55, 0.95),
        stubble=stubble,
        bald=bool(male and rng.random() < 0.12),
        long_hair=bool(not male and rng.random() < 0.75),
        hairline=rng.normal(0, 0.007) + (0.006 * old if male else 0),
        fringe=rng.uniform(0, 0.03) if rng.random() < 0.4 else 0.0,
        parting=rng.uniform(-0.03, 0.03),
        sideburn=rng.uniform(-0.010, 0.030),
        hair_volume=rng.uniform(0.003, 0.014) if male else rng.uniform(0.006, 0.018),
        hair_length=rng.uniform(0.09, 0.30),
        hair_front=rng.uniform(98, 118),
        hair_flare=rng.uniform(-0.08, 0.25),
        collar=rng.uniform(0.52, 0.585),
    )


def sample_local_changes(local_labels, rng):
    """Draw the local sliders; left and right share a draw, since faces are nearly symmetric."""
    shared, changes = {}, {}
    for label in local_labels:
        name = label[2:] if label[:2] in ("l-", "r-") else label
        spread = 0.13 if name.split("-")[0] in ("eye", "eyebrows") else 0.22
        if name not in shared:
            shared[name] = np.clip(rng.normal(0, spread), -2.2 * spread, 2.2 * spread)
        changes[label] = float(shared[name] + (rng.normal(0, 0.04) if name != label else 0))
    return changes


def sample_hair_colour(caucasian, old, rng):
    """Draw the hair's albedo: mostly dark, sometimes fair, greying with age."""
    colour = rng.uniform(0.03, 0.10) if rng.random() < 0.75 else rng.uniform(0.12, 0.45)
    if caucasian < 0.5:
        colour = min(colour, 0.09)
    if rng.random() < 0.7:
        colour += old * rng.uniform(0, 0.5)
    return float(colour)


# ------------------------------------------------------------------------------------------------- head model

SKIN, EYE, TEETH, TONGUE, LONG_HAIR = range(5)
LOCAL_PARTS = ("cheek", "chin", "ear", "eyebrows", "eye", "forehead", "head", "mouth", "nose", "neck")
# Sliders that move whole parts about, or that imitate an expression at rest.
LOCAL_SKIPPED = ("head-trans", "neck-trans", "head-angle", "mouth-trans-out", "nose-trans-out", "head-age",
                 "neck-back", "mouth-angles")  # fmt: skip
MASK_SIZE = 2048  # pixels of the package's mask textures


class HeadModel:
    """The head part of the MakeHuman mesh with its masks, landmarks and template geometry.

    Axes, in metres: x to the subject's left (image-right), y to the back of the head, z up. Looks are painted
    in coordinates of the undeformed template, so that they follow every deformation.
    """

    def __init__(self):
        import anny
        import torch
        from anny.paths import get_anny_root_dir
        from anny.utils.obj_utils import load_obj_file

        torch.set_num_threads(1)
        self.torch = torch
        self.data = Path(get_anny_root_dir()) / "data" / "mpfb2"
        # topology: the -full variant keeps the helper vertices of eyes, teeth and tongue
        self.mesh = anny.Anny(rig="anny", topology="anny-full", local_changes="all", facial_actions="all",
                              phenotypes="all").to(dtype=torch.float32)  # fmt: skip
        template = self.mesh.template_vertices.numpy().astype(np.float32)
        _, texture_points, groups = load_obj_file(str(self.data / "3dobjs" / "base.obj"), dtype=torch.float32)
        vertex_of = self._keep_head(template, texture_points.numpy(), groups)
        self._load_masks()
        self._find_landmarks(groups, vertex_of)
        self._find_lips_and_ears()

    def _keep_head(self, template, texture_points, groups):
        """Select head and shoulders; returns the map from mesh vertices to kept ones (-1: dropped)."""
        body, body_uv = _triangles(groups["body"])
        near = (template[body][:, :, 2].min(1) > 0.40) & (np.abs(template[body][:, :, 0]).max(1) < 0.30)
        parts = [(SKIN, body[near], body_uv[near])]
        for kind, name in ((EYE, "helper-l-eye"), (EYE, "helper-r-eye"), (TEETH, "helper-upper-teeth"),
                           (TEETH, "helper-lower-teeth"), (TONGUE, "helper-tongue")):  # fmt: skip
            parts.append((kind, *_triangles(groups[name])))
        faces = np.concatenate([part[1] for part in parts])
        uv = np.zeros((len(template), 2), np.float32)  # one per vertex will do: the seams lie behind the head
        for _, corners, texture_corners in parts:
            uv[corners.ravel()] = texture_points[texture_corners.ravel()]
        self.kept = np.unique(faces)
        vertex_of = np.full(len(template), -1)
        vertex_of[self.kept] = np.arange(len(self.kept))
        self.faces = vertex_of[faces].astype(np.int32)
        self.kind = np.concatenate([np.full(len(part[1]), part[0]) for part in parts])
        self.template, self.uv = template[self.kept], uv[self.kept]
        self.is_skin = np.zeros(len(self.kept), bool)
        self.is_skin[self.faces[self.kind == SKIN]] = True
        self.upper_teeth = np.unique(vertex_of[_triangles(groups["helper-upper-teeth"])[0]])
        self.lower_teeth = np.unique(vertex_of[_triangles(groups["helper-lower-teeth"])[0]])
        return vertex_of

    def _load_masks(self):
        def load(name):
            picture = Image.open(self.data / "textures" / f"mpfb_{name}.jpg").convert("L")
            return np.asarray(picture, np.float32) / 255

        self.lip_mask = gaussian_filter(load("lips"), 2)
        self.lid_mask = gaussian_filter(load("eyelids"), 2)
        self.lips = self.look_up(gaussian_filter(load("lips"), 3), self.uv) * self.is_skin
        self.mouth_inside = (self.look_up(load("inside-mouth"), self.uv) * self.is_skin).astype(np.float32)

    @staticmethod
    def look_up(mask, uv):
        """Nearest value of a mask texture at texture points (n, 2)."""
        column = np.clip((uv[:, 0] * MASK_SIZE).astype(int), 0, MASK_SIZE - 1)
        row = np.clip(((1 - uv[:, 1]) * MASK_SIZE).astype(int), 0, MASK_SIZE - 1)
        return mask[row, column]

    def _find_landmarks(self, groups, vertex_of):
        template = self.template
        x, y, z = template.T
        self.left_eye = vertex_of[np.unique(_triangles(groups["helper-l-eye"])[0])]
        self.right_eye = vertex_of[np.unique(_triangles(groups["helper-r-eye"])[0])]
        self.eye_centres = np.array([template[self.left_eye].mean(0), template[self.right_eye].mean(0)])
        self.eye_x, self.eye_z = abs(self.eye_centres[0, 0]), self.eye_centres[:, 2].mean()
        midline = np.flatnonzero(self.is_skin & (np.abs(x) < 0.004) & (z > 0.66) & (z < 0.74))
        self.nose = midline[np.argmin(y[midline])]
        self.lip_vertices = np.flatnonzero((self.lips > 0.5) & (self.mouth_inside < 0.5))
        self.mouth_left = self.lip_vertices[np.argmax(x[self.lip_vertices])]
        self.mouth_right = self.lip_vertices[np.argmin(x[self.lip_vertices])]

    def _find_lips_and_ears(self):
        """Find the facing edges of the two lips by opening the jaw, and the ears by enlarging them."""
        ears = {name: 1.0 for name in ("l-ear-scale-incr", "r-ear-scale-incr")}
        rest, open_jaw = self.vertices({}, {}, [{}, {"jawOpen": 1.0}])
        middle = np.flatnonzero((self.lips > 0.3) & (np.abs(self.template[:, 0]) < 0.004))
        falls = (open_jaw - rest)[middle, 2] < -0.01
        upper, lower = middle[~falls], middle[falls]
        self.upper_lip_edge = upper[np.argmin(rest[upper, 2])]
        self.lower_lip_edge = lower[np.argmax(rest[lower, 2])]
        ear_motion = np.linalg.norm(self.vertices({}, ears, [{}])[0] - rest, axis=1)
        self.ears = smoothstep(ear_motion, 0.002, 0.005)

    @property
    def local_labels(self):
        """Names of the local-change sliders that identities draw."""
        labels = []
        for label in self.mesh.local_change_labels:
            part = label.removeprefix("l-").removeprefix("r-").split("-")[0]
            if part in LOCAL_PARTS and not any(word in label for word in LOCAL_SKIPPED):
                labels.append(label)
        return labels

    def vertices(self, phenotype, local_changes, expressions):
        """Vertices of one subject in several expressions, shape (expressions, n, 3)."""

        def table(rows, labels):
            values = [[row.get(name, 0.0) for name in labels] for row in rows]
            return self.torch.tensor(values, dtype=self.torch.float32)

        count = len(expressions)
        with self.torch.no_grad():
            posed = self.mesh(
                phenotype_kwargs=table([phenotype] * count, self.mesh.phenotype_labels),
                local_changes_kwargs=table([local_changes] * count, self.mesh.local_change_labels),
                facial_actions=table(expressions, self.mesh.facial_action_labels),
            )
        return posed["rest_vertices"].numpy()[:, self.kept]

    def landmark_points(self, vertices):
        """The five landmarks in 3D, shape (5, 3), image-left first."""
        eyes = (self.right_eye, self.left_eye)  # of the subject, who faces us: the right eye is at image-left
        points = [vertices[eye].mean(0) for eye in eyes]
        points = np.stack(points + [vertices[k] for k in (self.nose, self.mouth_right, self.mouth_left)])
        for row, eye in enumerate(eyes):
            points[row, 1] = vertices[eye, 1].min()  # the pupil is seen at the front of the eyeball
        return points

    def settle_teeth(self, vertices, neutral):
        """Move the teeth with the subject's lips, then back and narrower, or they pierce lips and chin."""
        lips, teeth = self.lip_vertices, np.concatenate([self.upper_teeth, self.lower_teeth])
        drift = neutral[lips].mean(0) - neutral[teeth].mean(0)
        drift -= self.template[lips].mean(0) - self.template[teeth].mean(0)
        moved = vertices.copy()
        for row in (self.upper_teeth, self.lower_teeth):
            centre = vertices[row].mean(0)
            moved[row] = centre + (vertices[row] - centre) * [0.85, 0.93, 1] + drift + [0, 0.004, 0]
        return moved


def _triangles(group):
    """Split a group's quads; returns vertex and texture-point indices, each (n, 3)."""
    return tuple(
        np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        for quads in (group["face_vertex_indices"].numpy(), group["face_texture_coordinate_indices"].numpy())
    )


# ------------------------------------------------------------------------------------------------------- hair

SHEET_ROWS, SHEET_COLUMNS = 24, 49


def short_hair_cover(head, identity, points):
    """How much hair covers template points (0 bare .. 1 covered), and their height over the hair's border.

    The border is the front hairline over the forehead, the sideburns at the temples and a line below the ears
    at the back.
    """
    x, y, z = points.T
    fringe = identity.fringe * (1 - 0.45 * gauss(x, identity.parting, 0.035))
    front = head.eye_z + 0.072 + identity.hairline - 0.25 * np.abs(x) - 4 * x**2 - fringe
    side = head.eye_z + 0.004 - identity.sideburn
    back = head.eye_z - 0.05
    to_side, to_back = smoothstep(y, -0.085, -0.050), smoothstep(y, -0.03, 0.02)
    border = front * (1 - to_side) + (side * (1 - to_back) + back * to_back) * to_side
    ragged = 0.0025 * wave_noise(points, identity.texture_seed + 8, 350)
    height = z - border - ragged
    return smoothstep(height, -0.003, 0.006), height


def grow_short_hair(head, identity, vertices):
    """Lift the scalp by the hair's thickness, mostly on the crown; returns vertices and cover (n,)."""
    template = head.template
    if identity.bald:
        return vertices, np.zeros(len(vertices))
    cover, height = short_hair_cover(head, identity, template)
    cover = cover * head.is_skin * (1 - head.ears)
    lumps = 1 + 0.25 * wave_noise(template, identity.texture_seed + 5, 60)
    crown = 0.4 + 0.6 * smoothstep(template[:, 2], head.eye_z, head.eye_z + 0.08)
    taper = 0.15 + 0.85 * smoothstep(height, 0, 0.035)  # or the hair would sit on the head like a cap
    normals = vertex_normals(vertices, head.faces)
    return vertices + normals * (cover * identity.hair_volume * lumps * crown * taper)[:, None], cover


def long_hair_sheet(head, identity, neutral):
    """A sheet that follows the skull from the crown to eye height and then hangs down; vertices (n, 3).

    Azimuth is measured from the back of the head; the sheet leaves the face open.
    """
    rng = np.random.default_rng(identity.texture_seed + 9)
    azimuth, fall = np.meshgrid(np.linspace(-1, 1, SHEET_COLUMNS), np.linspace(0, 1, SHEET_ROWS))
    azimuth, fall = azimuth.ravel() * np.deg2rad(identity.hair_front), fall.ravel()
    eye_z = 0.5 * (neutral[head.left_eye, 2].mean() + neutral[head.right_eye, 2].mean())
    skull = neutral[head.is_skin & (head.ears < 0.1)]
    skull = skull[skull[:, 2] > eye_z + 0.01]
    half_width = np.abs(skull[:, 0]).max()
    back, front, top = skull[:, 1].max(), skull[:, 1].min(), skull[:, 2].max()
    middle_y, half_depth, middle_z = 0.5 * (back + front), 0.5 * (back - front), eye_z + 0.03

    dome = np.clip(fall / 0.45, 0, 1) * np.pi / 2  # 0 at the crown, pi/2 where the hair begins to hang
    hang = np.clip((fall - 0.45) / 0.55, 0, 1)
    waves = 0.004 * np.sin(azimuth * rng.integers(6, 14) + hang * rng.uniform(0, 9) + rng.uniform(0, 6))
    waves += 0.002 * np.sin(azimuth * 31 + hang * 3)
    thickness = 0.004 + 0.6 * identity.hair_volume
    radius = np.sin(dome) * (1 + identity.hair_flare * hang**1.5)
    ragged_end = 1 + 0.06 * np.sin(azimuth * rng.integers(9, 23) + rng.uniform(0, 6))
    x = (half_width + thickness + 0.004 + waves) * radius * np.sin(azimuth)
    y = middle_y + (half_depth + thickness + waves) * radius * np.cos(azimuth)
    z = middle_z + (top - middle_z + thickness) * np.cos(dome)
    z -= hang * (0.03 + identity.hair_length) * ragged_end
    return np.stack([x, y, z], 1).astype(np.float32)


# ------------------------------------------------------------------------------------------------------ looks


@dataclass
class Paint:
    """Albedo and specular strength of the visible points; layers are painted one over another."""

    albedo: np.ndarray
    specular: np.ndarray

    def cover(self, mask, albedo, specular=0.0):
        """Paint a layer of opacity `mask`."""
        self.albedo = self.albedo * (1 - mask) + mask * albedo
        self.specular = self.specular * (1 - mask) + mask * specular


@dataclass(frozen=True)
class Surface:
    """The visible points of one image, one row a ray that hit something."""

    template: np.ndarray  # (n, 3) position on the undeformed template
    position: np.ndarray  # (n, 3) position in the camera's frame
    normal: np.ndarray  # (n, 3)
    view: np.ndarray  # (n, 3) ray direction
    kind: np.ndarray  # (n,) SKIN, EYE, ...
    lip: np.ndarray  # (n,) mask values
    lid: np.ndarray
    mouth_inside: np.ndarray
    hair: np.ndarray


def paint_face(head, identity, surface, lip_gap):
    """Paint all layers; `lip_gap` is the height of the open mouth in metres."""
    paint = paint_skin(head, identity, surface)
    paint_beard(head, identity, surface, paint)
    collar = smoothstep(surface.template[:, 2], identity.collar + 0.004, identity.collar - 0.004)
    weave = 1 + 0.15 * wave_noise(surface.template, identity.texture_seed + 7, 90)
    paint.cover(collar * (surface.kind == SKIN), identity.cloth * weave)
    paint.cover(surface.lip, identity.skin * identity.lips, 0.05 + paint.specular)
    lashes = np.clip(surface.lid, 0, 1) * (np.abs(surface.template[:, 2] - head.eye_z) < 0.02)
    paint.albedo *= 1 - 0.72 * lashes
    paint_brows(head, identity, surface, paint)
    strands = 1 + 0.25 * wave_noise(surface.template * [1, 0.15, 0.15], identity.texture_seed + 4, 420)
    paint.cover(surface.hair, identity.hair * strands, 0.05 * strands)
    inside = (surface.mouth_inside > 0.5) & (surface.lip < 0.3)
    paint.albedo = np.where(inside, 0.035 * (0.5 + identity.skin), paint.albedo)
    paint_eyes(head, identity, surface, paint)
    paint_teeth_and_tongue(surface, paint, lip_gap)
    locks = 1 + 0.45 * wave_noise(surface.template * [1.2, 0.8, 0.05], identity.texture_seed + 4, 420)
    paint.cover(surface.kind == LONG_HAIR, identity.hair * locks, 0.05)
    paint.albedo = np.clip(paint.albedo, 0.004, 1)
    return paint


def paint_skin(head, identity, surface):
    """Mottled skin with darker cheeks, eye sockets and bags under the eyes."""
    x, y, z = surface.template.T
    seed, across, up = identity.texture_seed, np.abs(x), z - head.eye_z
    front = y < -0.08
    mottling = 1 + 0.06 * wave_noise(surface.template, seed, 60, 3)
    mottling += 0.04 * wave_noise(surface.template, seed + 1, 500)
    cheeks = 0.12 * gauss(across, 0.045, 0.018) * gauss(up, -0.04, 0.02)
    bags = (0.16 + 0.1 * identity.age_lines) * gauss(across, head.eye_x, 0.022) * gauss(up, -0.012, 0.010)
    sockets = 0.14 * gauss(across, head.eye_x, 0.02) * gauss(up, 0.006, 0.009)
    albedo = identity.skin * mottling * (1 - cheeks * front) * (1 - bags * front) * (1 - sockets * front)
    return Paint(albedo, np.full(len(x), 0.10 * (0.5 + identity.skin)))


def paint_beard(head, identity, surface, paint):
    """Stubble or beard below a line from the ear to the upper lip."""
    if identity.stubble == 0:
        return
    x, y, z = surface.template.T
    nose_z = head.template[head.nose, 2]
    cheek_line = head.eye_z - 0.072 + 14 * np.clip(np.abs(x) - 0.03, 0, 1) ** 2
    area = smoothstep(z, nose_z - 0.004, nose_z - 0.02) * smoothstep(y, -0.02, -0.07)
    area *= smoothstep(z, head.eye_z - 0.165, head.eye_z - 0.125)
    area *= smoothstep(z, cheek_line + 0.008, cheek_line - 0.016)
    grain = 0.85 + 0.3 * wave_noise(surface.template, identity.texture_seed + 2, 900, 1)
    density = np.clip(area * (1 - surface.lip) * grain, 0, 1) * identity.stubble
    paint.cover(density, np.minimum(identity.hair + 0.02, paint.albedo), 0.2 * paint.specular)


def paint_brows(head, identity, surface, paint):
    """Brows: a tapering band along an arc over each eye."""
    x, y, z = surface.template.T
    along = (np.abs(x) - 0.010) / 0.043  # 0 at the inner end, 1 at the outer end
    inner = np.clip(along, 0, 1)
    arc = head.eye_z + 0.0175 + 0.0085 * np.sin(inner * np.pi * 0.72) - 0.012 * np.clip(inner - 0.75, 0, 1)
    half_width = identity.brow_width * 0.0042 * (1.05 - 0.6 * inner)
    density = np.exp(-(np.clip(np.abs(z - arc) / half_width, 0, 9) ** 2.5))
    density *= smoothstep(along, -0.05, 0.12) * smoothstep(along, 1.08, 0.9) * (y < -0.08)
    hairs = 0.85 + 0.35 * wave_noise(surface.template * [1.5, 1, 0.6], identity.texture_seed + 3, 700, 1)
    density = density * np.clip(hairs, 0, 1) * identity.brow_density
    paint.cover(density, np.minimum(identity.hair * 0.45 + 0.015, 0.55 * paint.albedo))


def paint_eyes(head, identity, surface, paint):
    """White, iris (7 mm radius), dark limbal ring and pupil (2.8 mm) about each template eye axis."""
    x, y, z = surface.template.T
    centre = np.where((x > 0)[:, None], head.eye_centres[0], head.eye_centres[1])
    radius, front = np.hypot(x - centre[:, 0], z - centre[:, 2]), y < centre[:, 1]
    iris = smoothstep(radius, 0.0074, 0.0066) * front
    pupil = smoothstep(radius, 0.0031, 0.0025) * front
    limbus = gauss(radius, 0.0068, 0.0008) * front
    fibres = 1 + 0.3 * wave_noise(surface.template, identity.texture_seed + 6, 1500, 1)
    albedo = (0.62 * (1 - iris) + iris * identity.iris * fibres) * (1 - 0.5 * limbus) * (1 - 0.93 * pupil)
    paint.cover(surface.kind == EYE, albedo, 0.15 + iris)


def paint_teeth_and_tongue(surface, paint, lip_gap):
    """Teeth are lit only through an open mouth and fade towards the cheeks; the lower ones stay darker."""
    x, y, z = surface.template.T
    upper = z > 0.662 - 0.12 * (y + 0.15)
    shade = np.where(upper, 1, 0.5) * (1 - 0.85 * smoothstep(np.abs(x), 0.013, 0.022))
    teeth = (0.03 + 0.72 * smoothstep(lip_gap, 0.0012, 0.005)) * shade
    paint.cover(surface.kind == TEETH, teeth, 0.12)
    paint.cover(surface.kind == TONGUE, 0.08, 0.12)


# ------------------------------------------------------------------------------------------- camera and light


@dataclass(frozen=True)
class Camera:
    """Head pose (radians), distance and half-width of the picture (metres), shift (half-widths)."""

    yaw: float
    pitch: float
    roll: float
    distance: float
    half_width: float
    shift_x: float
    shift_z: float

    def rotation(self):
        """Matrix that turns the head, shape (3, 3)."""
        angles = [self.yaw, self.pitch, self.roll]
        (cy, cp, cr), (sy, sp, sr) = np.cos(angles), np.sin(angles)
        about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
        return about_y @ about_x @ about_z


@dataclass(frozen=True)
class Light:
    """A key light (direction, strength, softness), fill light, ambient light, exposure and a background."""

    direction: np.ndarray
    key: float
    softness: float
    fill_direction: np.ndarray
    fill: float
    ambient: float
    exposure: float
    background: np.ndarray = field(repr=False)  # level, slopes, amplitude, wave numbers, phase

    def backdrop(self, size):
        """A blurred, unfocused background without objects, shape (size, size)."""
        level, slope_x, slope_y, amplitude, wave_x, wave_y, phase = self.background
        y, x = np.mgrid[0:size, 0:size] / size
        picture = level + slope_x * (x - 0.5) + slope_y * (y - 0.5)
        return np.clip(picture + amplitude * np.sin(wave_x * x + wave_y * y + phase), 0.01, 1)


@dataclass(frozen=True)
class Studio:
    """How a set is photographed: spreads of pose, light and framing, and of the sensor's faults."""

    half_width: tuple
    pose: float  # factor on the pose spreads
    light: float  # factor on the light's angles; 1 goes from side light to side light
    distance: tuple
    blur: float
    noise: float


IN_THE_WILD = Studio((0.092, 0.128), pose=1.0, light=1.0, distance=(0.6, 1.4), blur=0.6, noise=0.012)
IN_THE_LAB = Studio((0.078, 0.090), pose=0.35, light=0.6, distance=(1.0, 1.4), blur=0.4, noise=0.008)


def sample_camera(studio, rng):
    """Draw a camera."""
    spread = studio.pose
    return Camera(
        yaw=float(np.clip(rng.normal(0, 0.17), -0.5, 0.5) * spread),
        pitch=float(np.clip(rng.normal(0, 0.10), -0.3, 0.3) * spread),
        roll=float(rng.normal(0, 0.06) * spread),
        distance=float(rng.uniform(*studio.distance)),
        half_width=float(rng.uniform(*studio.half_width)),
        shift_x=float(rng.normal(0, 0.04) * spread),
        shift_z=float(rng.normal(0.04, 0.04 * spread)),
    )


def sample_light(studio, rng):
    """Draw the light and the background."""
    azimuth = rng.uniform(-1.1, 1.1) * studio.light
    elevation = rng.uniform(-0.1, 1.0) * studio.light
    across = np.cos(elevation)
    direction = np.array([np.sin(azimuth) * across, -np.cos(azimuth) * across, np.sin(elevation)])
    return Light(
        direction=direction,
        key=rng.uniform(0.5, 1.1),
        softness=rng.uniform(0.05, 0.2),
        fill_direction=unit(np.array([-np.sin(azimuth), -0.6, 0.1])),
        fill=rng.uniform(0, 0.35),
        ambient=rng.uniform(0.25, 0.6),
        exposure=rng.uniform(0.75, 1.25),
        background=np.array([rng.beta(1, 1.6) * 0.8, *rng.normal(0, 0.14, 2), abs(rng.normal(0, 0.08)),
                             *rng.normal(0, 6, 2), rng.uniform(0, 6)]),
    )  # fmt: skip


class View:
    """A camera aimed at one subject: head frame to camera frame, camera frame to image.

    It is aimed at the subject's neutral face. Aimed at the posed face, an open mouth would zoom out and the
    framing would give the label away.
    """

    def __init__(self, head, neutral, camera):
        right_eye, left_eye, _, mouth_right, mouth_left = head.landmark_points(neutral)
        eyes, mouth = 0.5 * (right_eye + left_eye), 0.5 * (mouth_right + mouth_left)
        eyes[1] = 0.5 * (neutral[head.left_eye, 1].mean() + neutral[head.right_eye, 1].mean())
        self.centre = 0.5 * (eyes + mouth) + [0, 0.05, 0]  # turn about a point inside the head
        self.rotation = camera.rotation()
        self.distance = camera.distance
        # 65 mm from eyes to mouth is the mean face; a larger face gets a larger picture
        self.half_width = camera.half_width * np.linalg.norm(eyes - mouth) / 0.065
        self.offset = np.array([camera.shift_x, camera.shift_z]) * self.half_width
        self.eye = np.array([0, -self.distance, 0], np.float32)

    def to_camera(self, points):
        """Turn head-frame points into the camera's frame."""
        return ((points - self.centre) @ self.rotation.T).astype(np.float32)

    def project(self, points):
        """Image positions of head-frame points, (n, 2): (0, 0) is the top-left corner, (1, 1) the other."""
        x, y, z = self.to_camera(points).T
        magnify = self.distance / (y + self.distance)
        u = (x * magnify - self.offset[0]) / self.half_width
        v = -(z * magnify - self.offset[1]) / self.half_width
        return (np.stack([u, v], 1) + 1) / 2

    def rays(self, size):
        """Unit directions through the pixel centres, row by row, shape (size * size, 3)."""
        grid = ((np.arange(size) + 0.5) / size * 2 - 1) * self.half_width
        x, z = np.meshgrid(grid + self.offset[0], -grid + self.offset[1])
        targets = np.stack([x.ravel(), np.zeros(size * size), z.ravel()], 1)
        return unit(targets - self.eye).astype(np.float32)


# -------------------------------------------------------------------------------------------------- rendering


class Scene:
    """The triangles of one image in an embree scene."""

    def __init__(self, vertices, faces):
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.scene = EmbreeScene()
        TriangleMesh(self.scene, vertices, faces)

    def hits(self, origins, directions):
        """Nearest hits: embree's dictionary with primID, u, v and tfar."""
        return self.scene.run(origins.astype(np.float32), directions.astype(np.float32), output=1)

    def blocked(self, origins, directions, reach=np.inf):
        """Whether something lies within `reach` metres along each ray."""
        found = self.hits(origins, directions)
        return (found["primID"] >= 0) & (found["tfar"] < reach)


def render(head, identity, vertices, neutral, camera, light, size, rng):
    """Render one face.

    Parameters
    ----------
    head : HeadModel
    identity : Identity
    vertices, neutral : ndarray, shape (n, 3)
        The posed mesh, and the same subject's neutral one (for the camera and the long hair).
    camera : Camera
    light : Light
    size : int
        Pixels a side.
    rng : numpy.random.Generator
        For shadow and occlusion rays.

    Returns
    -------
    picture : ndarray, shape (size, size)
        Grey values within 0 and 1, gamma encoded.
    landmarks : ndarray, shape (5, 2)
        (x, y) as parts of the picture's width from its top-left corner.
    """
    view = View(head, neutral, camera)
    landmarks = view.project(head.landmark_points(vertices))
    lip_gap = vertices[head.upper_lip_edge, 2] - vertices[head.lower_lip_edge, 2]
    scene, surface, hit = cast_view(head, identity, vertices, neutral, view, size)
    paint = paint_face(head, identity, surface, lip_gap)
    shadow, openness = cast_light(scene, surface, light, hit, size, rng)
    picture = light.backdrop(size).ravel()
    picture[hit] = shade(surface, paint, light, shadow, openness)
    picture = np.clip(picture.reshape(size, size) * light.exposure, 0, 1) ** (1 / 2.2)
    return picture, landmarks


def cast_view(head, identity, vertices, neutral, view, size):
    """Cast the camera's rays; returns the scene, the visible `Surface` and the rays that hit (indices)."""
    vertices, cover = grow_short_hair(head, identity, head.settle_teeth(vertices, neutral))
    parts = [(vertices, vertex_normals(vertices, head.faces), head.template, head.faces, head.kind)]
    if identity.long_hair:
        parts.append(long_hair_part(head, identity, neutral))
    posed, normals, template, faces, kind = join_parts(parts)
    scene = Scene(view.to_camera(posed), faces)
    rays = view.rays(size)
    found = scene.hits(np.repeat(view.eye[None], len(rays), 0), rays)
    hit = np.flatnonzero(found["primID"] >= 0)
    triangle = found["primID"][hit]
    u, v = found["u"][hit], found["v"][hit]
    weights = np.stack([1 - u - v, u, v], 1)  # barycentric

    def at_hits(values):  # values of the head alone are continued by zeros over the long hair
        missing = np.zeros((len(posed) - len(values), *values.shape[1:]), values.dtype)
        values = np.concatenate([values, missing])
        return np.einsum("nk,nk...->n...", weights, values[faces[triangle]])

    normal = unit(at_hits(normals) @ view.rotation.T)
    away = (np.einsum("nk,nk->n", normal, rays[hit]) > 0) & (kind[triangle] == LONG_HAIR)
    normal[away] *= -1  # the sheet is seen from both sides
    uv = at_hits(head.uv)
    surface = Surface(
        template=at_hits(template), position=at_hits(view.to_camera(posed)), normal=normal, view=rays[hit],
        kind=kind[triangle], lip=head.look_up(head.lip_mask, uv), lid=head.look_up(head.lid_mask, uv),
        mouth_inside=at_hits(head.mouth_inside), hair=at_hits(cover),
    )  # fmt: skip
    return scene, surface, hit


def long_hair_part(head, identity, neutral):
    """The long-hair sheet as a part for `join_parts`; its template coordinates are its own."""
    sheet = long_hair_sheet(head, identity, neutral)
    faces = grid_faces(SHEET_ROWS, SHEET_COLUMNS)
    return sheet, vertex_normals(sheet, faces), sheet, faces, np.full(len(faces), LONG_HAIR)


def join_parts(parts):
    """Join (vertices, normals, template, faces, kind) parts into one mesh."""
    offsets = np.cumsum([0] + [len(part[0]) for part in parts[:-1]])
    vertices, normals, template = (np.concatenate([part[k] for part in parts]) for k in range(3))
    faces = np.concatenate([part[3] + offset for part, offset in zip(parts, offsets, strict=True)]).astype(
        np.int32
    )
    return vertices, normals, template, faces, np.concatenate([part[4] for part in parts])


def cast_light(scene, surface, light, hit, size, rng, occlusion_rays=4):
    """Shadow (1: the key light is blocked) and openness to the surroundings (1: nothing within 6 cm)."""
    count = len(hit)
    origins = surface.position + surface.normal * 8e-4  # off the surface, or it would shade itself
    to_light = unit(light.direction + rng.normal(0, light.softness, (count, 3)))
    shadow = scene.blocked(origins, to_light).astype(np.float32)
    openness = np.zeros(count)
    for _ in range(occlusion_rays):
        around = unit(surface.normal + unit(rng.normal(0, 1, (count, 3))))  # cosine-weighted
        openness += ~scene.blocked(origins, around, 0.06)
    openness /= occlusion_rays
    shadow, openness = (smooth_over_hits(values, hit, size) for values in (shadow, openness))
    teeth = surface.kind == TEETH  # rays among the teeth are too few to trust: use the usual values
    return np.where(teeth, 0.3, shadow), np.where(teeth, 0.5 + 0.5 * openness, openness)


def smooth_over_hits(values, hit, size):
    """Blur noisy per-ray values over the face only, so that few rays will do."""
    sigma = size / 110
    total, share = np.zeros((2, size * size))
    total[hit], share[hit] = values, 1
    planes = (plane.reshape(size, size) for plane in (total, share))
    total, share = (gaussian_filter(plane, sigma, truncate=2.5).ravel()[hit] for plane in planes)
    return total / share


def shade(surface, paint, light, shadow, openness):
    """Linear brightness of the visible points: wrapped Lambert key light, fill, ambient and highlights."""
    facing = surface.normal @ light.direction
    key = light.key * np.clip(0.85 * facing + 0.15, 0, None) * (1 - 0.9 * shadow)
    fill = light.fill * np.clip(surface.normal @ light.fill_direction, 0, None) * (0.4 + 0.6 * openness)
    ambient = light.ambient * (0.75 + 0.25 * surface.normal[:, 2]) * (0.15 + 0.85 * openness)
    halfway = np.clip(np.einsum("nk,nk->n", surface.normal, unit(light.direction - surface.view)), 0, 1)
    gloss = paint.specular * halfway ** np.where(surface.kind == EYE, 120, 18)
    return paint.albedo * (key + fill + ambient) + gloss * light.key * (1 - 0.8 * shadow)


def photograph(picture, studio, blur, rng):
    """Reduce a picture to a tile, blur it and add the sensor's noise; returns uint8 (48, 48)."""
    factor = len(picture) // TILE
    tile = picture.reshape(TILE, factor, TILE, factor).mean((1, 3))
    tile = gaussian_filter(tile, blur) if blur > 0.15 else tile
    tile = tile + rng.normal(0, rng.uniform(0, studio.noise), tile.shape)
    return (np.clip(tile, 0, 1) * 255).round().astype(np.uint8)


# ------------------------------------------------------------------------------------------------------- sets


@dataclass(frozen=True)
class Subject:
    """One subject's part of a set: which pictures to take."""

    set_name: str
    number: int  # from 0
    name: str
    split: str
    labels: tuple  # one a picture (demo) or a sequence (demo-ck)


def plan_demo():
    """The subjects of `demo`, each with every class once."""
    splits = [split for split, count in DEMO_SPLITS for _ in range(count)]
    return [Subject("demo", k, f"D{k + 1:03d}", split, DEMO_CLASSES) for k, split in enumerate(splits)]


def plan_demo_ck(seed):
    """The subjects of `demo-ck`, five classes each.

    The sequences, sorted by class, are dealt out like cards. As no class has more cards than there are
    subjects, nobody gets two of a class, and everybody gets the same number.
    """
    rng = np.random.default_rng([seed, SET_STREAMS["demo-ck"], 0, 0])
    cards = [label for label, count in CK_SEQUENCES.items() for _ in range(count)]
    subjects = []
    for number, place in enumerate(rng.permutation(CK_SUBJECTS)):
        labels = tuple(str(label) for label in rng.permutation(cards[place::CK_SUBJECTS]))
        subjects.append(Subject("demo-ck", number, f"K{number + 1:02d}", "", labels))
    return subjects


def stream(seed, subject, picture=0):
    """The random generator of a subject (`picture` 0) or of one of its pictures (from 1)."""
    return np.random.default_rng([seed, SET_STREAMS[subject.set_name], subject.number + 1, picture])


def take_demo(head, subject, seed, size):
    """Take a subject's pictures for `demo`.

    Returns
    -------
    tiles : ndarray of uint8, shape (n, 48, 48)
    points : ndarray, shape (n, 5, 2)
        Landmarks in pixels; the centre of the top-left pixel is (0, 0).
    rows : list of list
        Label, split, subject, sequence and frame of each picture.
    """
    identity = sample_identity(head.local_labels, stream(seed, subject))
    streams = [stream(seed, subject, k + 1) for k in range(len(subject.labels))]
    pictures = list(zip(subject.labels, streams, strict=True))
    units = [sample_expression(label, rng.uniform(0.45, 1), rng) for label, rng in pictures]
    neutral, *faces = head.vertices(identity.phenotype, identity.local_changes, [{}, *units])
    tiles, points, rows = [], [], []
    for (label, rng), face in zip(pictures, faces, strict=True):
        camera, light = sample_camera(IN_THE_WILD, rng), sample_light(IN_THE_WILD, rng)
        picture, landmarks = render(head, identity, face, neutral, camera, light, size, rng)
        tiles.append(photograph(picture, IN_THE_WILD, rng.uniform(0, IN_THE_WILD.blur), rng))
        points.append(landmarks * TILE - 0.5)
        rows.append([label, subject.split, subject.name, "", ""])
    return np.stack(tiles), np.stack(points), rows


def take_demo_ck(head, subject, seed, size):
    """Take a subject's sequences for `demo-ck`; returns as `take_demo` does."""
    identity = sample_identity(head.local_labels, stream(seed, subject))
    tiles, points, rows = [], [], []
    for number, label in enumerate(subject.labels, 1):
        rng = stream(seed, subject, number)
        apex = sample_expression(label, rng.uniform(0.6, 1), rng)
        units = [{name: weight * scale for name, weight in apex.items()} for scale in CK_FRAME_SCALES]
        neutral, *faces = head.vertices(identity.phenotype, identity.local_changes, [{}, *units])
        camera, light = sample_camera(IN_THE_LAB, rng), sample_light(IN_THE_LAB, rng)
        blur = rng.uniform(0, IN_THE_LAB.blur)
        for frame, face in enumerate(faces, 1):
            picture, landmarks = render(head, identity, face, neutral, jitter(camera, rng), light, size, rng)
            tiles.append(photograph(picture, IN_THE_LAB, blur, rng))
            points.append(landmarks * TILE - 0.5)
            rows.append([label, "", subject.name, f"{subject.name}_{number:03d}", frame])
    return np.stack(tiles), np.stack(points), rows


def jitter(camera, rng):
    """The same camera a moment later: a head is never quite still."""
    spreads = {"yaw": 0.006, "pitch": 0.006, "roll": 0.004, "shift_x": 0.003, "shift_z": 0.003}
    moved = {name: getattr(camera, name) + rng.normal(0, spread) for name, spread in spreads.items()}
    return replace(camera, **moved)


# -------------------------------------------------------------------------------------------- work and output

_head = None  # one a process: building it takes seconds


def _take(job):
    """Take one subject's pictures in a worker."""
    global _head
    if _head is None:
        _head = HeadModel()
    subject, seed, size = job
    return (take_demo if subject.set_name == "demo" else take_demo_ck)(_head, subject, seed, size)


def render_set(name, seed, size, processes, limit=None):
    """Render a set in the order of its plan; returns as `take_demo` does."""
    subjects = (plan_demo() if name == "demo" else plan_demo_ck(seed))[:limit]
    jobs = [(subject, seed, size) for subject in subjects]
    if processes == 1:
        results = list(tqdm(map(_take, jobs), name, len(jobs), unit="subject"))
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            results = list(tqdm(pool.imap(_take, jobs), name, len(jobs), unit="subject"))
    tiles, points, rows = zip(*results, strict=True)
    return np.concatenate(tiles), np.concatenate(points), sum(rows, [])


def contact_sheet(tiles):
    """Lay tiles out in rows of 60, the last row filled up with black; returns uint8."""
    count = -(-len(tiles) // COLUMNS)
    padded = np.zeros((count * COLUMNS, TILE, TILE), np.uint8)
    padded[: len(tiles)] = tiles
    return padded.reshape(count, COLUMNS, TILE, TILE).swapaxes(1, 2).reshape(count * TILE, COLUMNS * TILE)


def write_atomically(path, content):
    """Write bytes to a temporary file beside `path` and rename it, so that no reader sees half a file."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_set(folder, name, tiles, points, rows):
    """Write `name`.png and `name`.csv."""
    image = io.BytesIO()
    Image.fromarray(contact_sheet(tiles)).save(image, "png", optimize=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMN_NAMES)
    for index, (row, landmarks) in enumerate(zip(rows, points, strict=True)):
        writer.writerow([index, *row, *(f"{value:.2f}" for value in landmarks.ravel())])
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.png", image.getvalue())
    write_atomically(folder / f"{name}.csv", table.getvalue().encode())


def parse_arguments():
    """Read the command line."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for demo.png, demo.csv, demo-ck.png and demo-ck.csv")
    add("--set", choices=sorted(SET_STREAMS), action="append", help="render this set only (default: both)")
    add("--seed", type=int, default=SEED, help="seed of the whole data set (default: %(default)s)")
    size_help = "pixels a side before the reduction to 48, a multiple of 48 (default: %(default)s)"
    add("--size", type=int, default=144, help=size_help)
    add("--processes", type=int, default=1, help="workers; they change the time, not the pixels (default: 1)")
    add("--limit", type=int, help="render only the first LIMIT subjects of a set, for a quick look")
    arguments = parser.parse_args()
    if arguments.size % TILE:  # the landmarks would shift against the picture
        parser.error(f"--size must be a multiple of {TILE}")
    return arguments


def main():
    """Render and write the sets asked for."""
    arguments = parse_arguments()
    if arguments.processes > 1:
        HeadModel()  # fills the mesh cache once, before the workers would all try to
    for name in arguments.set or SET_STREAMS:
        pictures = render_set(name, arguments.seed, arguments.size, arguments.processes, arguments.limit)
        write_set(arguments.out, name, *pictures)
        tiles = pictures[0]
        print(f"{name}: {len(tiles)} images in {arguments.out}")


if __name__ == "__main__":
    main()
