"""Model folders: described, checked, taken in from exports of others."""

import json
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference.add_model import add_model
from inference.errors import ModelError
from inference.load_model import verify_model
from inference.models import JudgeScope, read_model_spec, reference_model
from inference.nnunet.errors import ChecksumMismatchError, ModelArchiveError, ModelFileMissingError, ModelKeyError
from sr_writer.objects import AlgorithmIdentity
from tests.tiny_models import write_tiny_model

ROOT = Path(__file__).parents[2]
EXPORT = "Dataset101_Body/nnUNetTrainer__nnUNetPlans__3d_fullres"


def edit_description(folder: Path, **changes: Any) -> None:
    path = folder / "model.yaml"
    description = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        if value is None:
            del description[key]
        else:
            description[key] = value
    path.write_text(yaml.safe_dump(description))


def zipped(source: Path, target: Path) -> Path:
    return Path(shutil.make_archive(str(target.with_suffix("")), "zip", source))


def test_a_described_model_is_read_with_its_identity(tmp_path: Path) -> None:
    spec = verify_model(write_tiny_model(tmp_path, "anonymized", n_folds=2))
    assert (spec.identity.role, spec.identity.name, spec.identity.version) == ("anonymized", "tiny-anonymized", "0.0.1")
    assert spec.labels == {"removed": (1,), "altered": (2,)}
    assert spec.mask_labels == (
        "removed",
    )  # what may have been altered is a guess, and stays out unless it is asked for
    assert spec.mask_values == (1,)
    assert spec.folds == (0, 1)


def test_the_identity_is_what_sha256sum_makes_of_all_files(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, "foreground")
    script = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    expected = subprocess.run(script, shell=True, cwd=folder, check=True, capture_output=True, text=True).stdout.split()
    before = read_model_spec(folder).identity.sha256
    assert before == expected[0]
    edit_description(folder, mask_labels=["foreground"])
    assert read_model_spec(folder).identity.sha256 != before


def test_altered_voxels_join_the_mask_when_the_description_says_so(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, "anonymized")
    edit_description(folder, mask_labels=["removed", "altered"])
    assert read_model_spec(folder).mask_values == (1, 2)


def test_nothing_that_is_still_body_is_in_the_mask_by_default() -> None:
    spec = reference_model("anonymized")
    assert spec.labels["smoothed"] == (2,)
    assert (spec.mask_values, spec.altered_values) == ((1,), ())


def test_a_changed_file_is_refused_with_both_checksums(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, "foreground")
    with (folder / "fold_0" / "checkpoint_final.pth").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ChecksumMismatchError, match=r"checkpoint_final\.pth: SHA-256 is [0-9a-f]{64}, model.yaml says"):
        verify_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "body"}, r"model\.yaml, key role: found str 'body', expected one of foreground, anonymized"),
        ({"version": None}, "key version: found nothing"),
        ({"version": "2\\1"}, "key version: found str .*, expected 1 to 64 ASCII characters, no backslash"),
        ({"name": "Körper"}, "key name: found str 'Körper', expected 1 to 64 ASCII characters"),
        ({"name": "n" * 65}, "key name.*expected 1 to 64"),
        ({"name": ""}, "key name.*expected 1 to 64"),
        ({"labels": {"torso": 1}}, "key labels.*labels named foreground"),
        ({"labels": {"foreground": 7}}, r"labels\.foreground.*labels of the network: 1"),
        ({"channels": ["image", "smell"]}, r"channels\.1.*roughness"),
        ({"channels": ["image", "constancy"]}, "channels.*1 channels, as in"),
        ({"folds": [-1]}, r"folds\.0"),
        ({"refine": "yes please"}, "refine.*true or false"),
        ({"sha256": {"../plans.json": "0" * 64}}, "inside the model's folder"),
        ({"sha256": {"plans.json": "0" * 64}}, "every checkpoint"),
        ({"configuration": "2d"}, r"plans\.json, key configurations\.2d"),
    ],
)
def test_a_wrong_description_is_named_with_file_and_key(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, "foreground")
    edit_description(folder, **changes)
    with pytest.raises(ModelKeyError, match=message):
        verify_model(folder)


def test_a_role_without_a_reference_model_is_an_error_that_names_the_file() -> None:
    with pytest.raises(ModelFileMissingError, match=r"nose/model\.yaml"):
        reference_model("nose")


def test_a_model_under_a_name_that_results_cannot_carry_is_not_taken_in(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "Körper", "foreground", with_yaml=False)
    with pytest.raises(ModelKeyError, match="Körper, key name: found str 'Körper', expected 1 to 64 ASCII characters"):
        add_model("foreground", folder, None, tmp_path / "models" / "body")
    assert add_model("foreground", folder, None, tmp_path / "models" / "body", name="body").identity.name == "body"


@pytest.mark.parametrize("text", ["a", " ~[]", "n" * 64, "n" * 65, "", "a\\b", "é", "a\n", "\x7f"])
def test_a_model_is_readable_exactly_when_results_can_carry_its_name(text: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, "foreground")
    edit_description(folder, name=text)
    try:
        AlgorithmIdentity(text, "1", "0" * 64)
    except ValueError:
        with pytest.raises(ModelKeyError):
            read_model_spec(folder)
    else:
        assert read_model_spec(folder).identity.name == text


def test_a_plain_export_is_taken_in_from_a_zip(tmp_path: Path) -> None:
    export = write_tiny_model(tmp_path / "export" / EXPORT, "foreground", n_folds=2, with_yaml=False)
    (export / "postprocessing.pkl").write_bytes(b"not needed")
    archive = zipped(tmp_path / "export", tmp_path / "body.zip")
    spec = add_model("foreground", archive, None, tmp_path / "models" / "body", licence="CC0")
    assert (spec.identity.name, spec.labels, spec.folds) == ("body", {"foreground": (1,)}, (0, 1))
    assert spec.licence == "CC0"
    assert verify_model(tmp_path / "models" / "body").identity == spec.identity
    assert not (tmp_path / "models" / "body" / "postprocessing.pkl").exists()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["body"]


def test_labels_of_others_are_named_by_the_user(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "theirs", "foreground", labels={"trunk": 1, "limbs": 2}, with_yaml=False)
    with pytest.raises(ModelKeyError, match="trunk=1, limbs=2"):
        add_model("foreground", folder, None, tmp_path / "models" / "body")
    assert not list((tmp_path / "models").iterdir())
    spec = add_model("foreground", folder, {"foreground": (1, 2)}, tmp_path / "models" / "body")
    assert spec.mask_values == (1, 2)


def test_the_full_resolution_of_several_trainings_is_taken(tmp_path: Path) -> None:
    for configuration in ("3d_lowres", "3d_fullres"):
        folder = tmp_path / "export" / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        write_tiny_model(folder, "foreground", seed=len(configuration), with_yaml=False)
    assert add_model("foreground", tmp_path / "export", None, tmp_path / "body").configuration == "3d_fullres"


def test_several_trainings_without_a_preference_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tiny_model(tmp_path / "export" / name, "foreground", with_yaml=False)
    with pytest.raises(ModelArchiveError, match=r"several trained models \(a, b\)"):
        add_model("foreground", tmp_path / "export", None, tmp_path / "body")


def test_a_model_for_the_other_role_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "theirs", "anonymized")
    with pytest.raises(ModelKeyError, match="role: found anonymized"):
        add_model("foreground", folder, None, tmp_path / "body")
    assert not (tmp_path / "body").exists()


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "theirs", "foreground")
    (tmp_path / "body").mkdir()
    with pytest.raises(ModelArchiveError, match="exists already"):
        add_model("foreground", folder, None, tmp_path / "body")


@pytest.mark.parametrize("name", ["../evil/plans.json", "/evil/plans.json", "a/../../plans.json", "C:/plans.json"])
def test_a_zip_that_leads_outside_is_refused(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr(name, "{}")
    with pytest.raises(ModelArchiveError, match="leads outside"):
        add_model("foreground", archive, None, tmp_path / "models" / "body")
    assert not (tmp_path / "evil").exists()


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    member = zipfile.ZipInfo("model/plans.json")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr(member, "/etc/passwd")
    with pytest.raises(ModelArchiveError, match="is a link"):
        add_model("foreground", archive, None, tmp_path / "models" / "body")


def test_a_zip_that_grows_beyond_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.add_model.MAX_ARCHIVE_BYTES", 10_000)
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("model/plans.json", b"0" * 1_000_000)
    with pytest.raises(ModelArchiveError, match="more than"):
        add_model("foreground", archive, None, tmp_path / "models" / "body")
    assert not list((tmp_path / "models").iterdir())


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no folder here has"):
        add_model("foreground", tmp_path / "empty", None, tmp_path / "body")


def test_an_unsafe_export_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "theirs", "foreground", with_yaml=False)
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "os.system"
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ModelError, match="not supported"):
        add_model("foreground", folder, None, tmp_path / "models" / "body")
    assert not list((tmp_path / "models").iterdir())


def with_judge(folder: Path) -> dict[str, str]:
    """Copy the reference model, which has a judge, to a folder, and return the digests of its description."""
    shutil.copytree(reference_model("anonymized").folder, folder)
    digests: dict[str, str] = yaml.safe_load((folder / "model.yaml").read_text())["sha256"]
    assert {"judge/judge.json", "judge/weights.pth"} < set(digests)
    return digests


def test_a_judge_belongs_to_the_model_and_its_identity(tmp_path: Path) -> None:
    digests = with_judge(tmp_path / "model")
    edit_description(tmp_path / "model", judge="altered", sha256=digests)
    spec = verify_model(tmp_path / "model")
    assert spec.judge is JudgeScope.ALTERED
    with (tmp_path / "model" / "judge" / "weights.pth").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(ChecksumMismatchError, match=r"judge/weights\.pth"):
        verify_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refine": False}, "judge.*field_of_view and refine"),
        ({"labels": {"removed": 1, "smoothed": 2}}, "judge.*removed: 1, smoothed: 2, replaced: 3"),
        ({"judge": True}, "judge.*none, altered, outline"),
        ({"sha256": "without"}, "a digest of judge/judge.json and judge/weights.pth"),
    ],
)
def test_a_judge_that_does_not_fit_its_model_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    digests = with_judge(tmp_path / "model")
    plain = {name: digest for name, digest in digests.items() if not name.startswith("judge/")}
    edit_description(tmp_path / "model", judge="altered", sha256=digests)
    edit_description(tmp_path / "model", **{k: plain if v == "without" else v for k, v in changes.items()})
    with pytest.raises(ModelKeyError, match=message):
        read_model_spec(tmp_path / "model")
