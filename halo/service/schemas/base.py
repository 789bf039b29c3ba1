"""What every model of the API keeps to: nothing unknown is taken in, nothing changes on its way out."""

from typing import Any

from pydantic import BaseModel, ConfigDict

Row = dict[str, Any]


class Given(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Told(BaseModel):
    model_config = ConfigDict(frozen=True)
