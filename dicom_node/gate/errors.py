"""Error for decisions that are refused."""

from __future__ import annotations

from dicom_node.errors import Refused


class DecisionRefusedError(Refused):
    """A person's decision on a study is refused; nothing was changed."""

    code = "decision-refused"

    def __init__(self, study_instance_uid: str, finding: str) -> None:
        super().__init__(study_instance_uid, finding)

    def __str__(self) -> str:
        uid, finding = self.args
        return f"study {uid}: {finding}; nothing was decided"
