"""Names for identifiers, so that a stage is never handed over where a program was meant."""

from typing import NamedTuple, NewType

JobId = NewType("JobId", str)
ProgramId = NewType("ProgramId", str)
StageId = NewType("StageId", str)
EngineId = NewType("EngineId", str)
ContentKey = NewType("ContentKey", str)


class NodeRef(NamedTuple):
    """One stage of one program at run time. `path` names the way through bodies: `revise[2]/fix`, `solve#3/1`.

    The empty path is the program's own result.
    """

    program: ProgramId
    path: str

    def __str__(self) -> str:
        return f"{self.program}:{self.path}"


def program_id(job: JobId, row: int) -> ProgramId:
    return ProgramId(f"{job}/{row}")


def job_of(program: ProgramId) -> JobId:
    return JobId(program.rpartition("/")[0])


def row_of(program: ProgramId) -> int:
    return int(program.rpartition("/")[2])
