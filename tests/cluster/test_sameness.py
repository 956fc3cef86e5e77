"""What must be the same on a worker: each difference is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dicom_node.cluster.sameness import Wanted, as_here, differences, wanted_model
from tests.tiny_models import write_tiny_model


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Wanted:
    folder = tmp_path_factory.mktemp("models")
    models = [
        wanted_model(role, write_tiny_model(folder / role, role, above=0.0)) for role in ("foreground", "anonymized")
    ]
    return as_here(models, visible=[folder])


def test_this_process_is_what_it_wants(wanted: Wanted) -> None:
    assert list(differences(wanted)) == []


def test_another_release_is_named(wanted: Wanted) -> None:
    other = tuple((name, "0.0.9" if name in ("dicom-node", "torch") else version) for name, version in wanted.versions)

    found = list(differences(replace(wanted, versions=other)))

    assert [line.partition(" ")[0] for line in found] == ["dicom-node", "torch"]
    assert all(line.endswith("instead of 0.0.9") for line in found)


def test_other_code_of_the_same_release_is_named(wanted: Wanted) -> None:
    (found,) = differences(replace(wanted, code_sha256="0" * 64))

    assert found.startswith("other code of dicom-node")


def test_another_model_under_the_same_path_is_named(wanted: Wanted, tmp_path: Path) -> None:
    foreground, anonymized = wanted.models
    write_tiny_model(tmp_path / "foreground", "foreground", above=1.0)

    (found,) = differences(replace(wanted, models=(replace(foreground, folder=tmp_path / "foreground"), anonymized)))

    assert found.startswith("foreground model tiny-foreground 0.0.1 (")
    assert found.endswith(f"instead of tiny-foreground 0.0.1 ({foreground.identity.sha256[:12]})")


def test_a_model_that_is_not_there_is_named(wanted: Wanted, tmp_path: Path) -> None:
    foreground, anonymized = wanted.models

    (found,) = differences(replace(wanted, models=(replace(foreground, folder=tmp_path / "nowhere"), anonymized)))

    assert found.startswith("foreground model: model file")


def test_a_folder_that_the_worker_does_not_see_is_named(wanted: Wanted) -> None:
    (found,) = differences(replace(wanted, visible=(Path("/nowhere/heads"),)))

    assert "does not see /nowhere/heads" in found


@dataclass(frozen=True)
class _Bucket:
    """In the place of a bucket that this worker does not reach."""

    name: str

    def lack(self) -> str | None:
        return f"does not reach {self.name}"


def test_what_else_a_worker_lacks_is_named(wanted: Wanted) -> None:
    assert list(differences(replace(wanted, needs=(_Bucket("s3://archive"),)))) == ["does not reach s3://archive"]
