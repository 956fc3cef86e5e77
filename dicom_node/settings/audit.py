"""Settings of the audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from dicom_node.settings.section import Section


class AuditSettings(Section):
    """Where entries of the audit trail are sent, beside being kept."""

    syslog: str | None = Field(
        default=None,
        pattern=r"^(udp|tcp|tls)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$",
        description="receiver of DICOM audit messages (PS3.15 A.5), such as `tls://audit.example.org:6514`; also "
        "`tcp://` and `udp://`",
    )
    syslog_ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's")
    syslog_certificate: Path | None = Field(
        default=None, description="this node's own certificate, if it is asked for one"
    )
    syslog_key: Path | None = Field(default=None, description="its key, unless it is in the same file")

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        has_files = self.syslog_ca_file or self.syslog_certificate or self.syslog_key
        if has_files and not (self.syslog or "").startswith("tls://"):
            raise ValueError("syslog: certificates are for tls:// only")
        if self.syslog_key and not self.syslog_certificate:
            raise ValueError("syslog_key: there is no syslog_certificate to which it belongs")
        return self
