"""The service's configuration."""

from relevo.chassis.objects import Folder, ObjectStore
from relevo.chassis.settings import ServiceSettings, StoreUrl


class Settings(ServiceSettings):
    """What this service is told beside what every service is."""

    attachments_url: StoreUrl = None
    """The object store of attachments, file:///folder or s3://bucket/prefix; without one the folder `attachments` below `files`."""
    public_url: str = ""
    """The address that people use, as https://relevo.example: channels fetch attachments there."""

    def attachments(self) -> ObjectStore | None:
        """The object store of attachments; None: there is nowhere to keep them."""
        if self.attachments_url is not None:
            return self.store(self.attachments_url)
        return Folder(self.files / "attachments") if self.files is not None else None
