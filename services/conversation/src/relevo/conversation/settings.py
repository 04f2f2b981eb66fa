"""The service's configuration."""

from typing import Annotated

from pydantic import AfterValidator

from relevo.chassis.objects import Folder, ObjectStore, open_store
from relevo.chassis.settings import ServiceSettings


def _store(url: str | None) -> str | None:
    if url is not None:
        open_store(url)
    return url


class Settings(ServiceSettings):
    """What this service is told beside what every service is."""

    attachments_url: Annotated[str | None, AfterValidator(_store)] = None
    """The object store of attachments, file:///folder; without one the folder `attachments` below `files`."""
    public_url: str = ""
    """The address that people use, as https://relevo.example: channels fetch attachments there."""

    def attachments(self) -> ObjectStore | None:
        """The object store of attachments; None: there is nowhere to keep them."""
        if self.attachments_url is not None:
            return open_store(self.attachments_url)
        return Folder(self.files / "attachments") if self.files is not None else None
