"""Jobs come in, are planned, and their programs enter while there is room; a job whose last program ended leaves."""

from collections import deque

from executor.commands import BeginProgram, FinishJob, PlanBatch, Status
from executor.core.charging import program_begins
from executor.core.entering import Entry
from executor.core.progress import begin_program, drop_key
from executor.core.resuming import in_order, resume
from executor.core.stage_shares import StageShares
from executor.core.state import Job, State
from executor.core.work import Program
from executor.events import BatchPlanned, JobSubmitted, Recovered
from executor.policy.ordering import QueueKey
from executor.policy.urgency import PATIENCE_S
from planner.ir.ids import program_id

_NOTHING = Recovered()


def submit(state: State, event: JobSubmitted) -> None:
    assert event.job not in state.jobs, f"job {event.job} was submitted twice"
    ended = frozenset(event.ended)
    left = event.rows - len(ended)
    state.jobs[event.job] = Job(
        event.job,
        state.jobs_seen,
        event.plan,
        event.priority,
        left,
        ended,
        dict(event.recovered),
        tenant=event.tenant,
        slo=event.slo,
        arrived_s=event.at,
        deadline_s=event.deadline_s,
    )
    state.jobs_seen += 1
    state.lengths.begin(event.plan, event.lengths)
    state.tell(PlanBatch(event.job))


def planned(state: State, event: BatchPlanned) -> None:
    job = state.jobs.get(event.job)
    if job is None:  # cancelled while it was planned
        return
    job.plan = event.plan
    job.group(event.groups)
    job.shares = {stage: StageShares(shares) for stage, shares in event.shares.items()}
    job.pending = deque(in_order(job, event.order))
    for key, node in event.known.items():
        state.shared.know(key, job.id, node)
    state.entering.push(job.account, Entry(job.priority, _due_s(job), job.number, job), state.now)
    if not job.left:
        state.ended_jobs.append(job)


def admit(state: State) -> None:
    """Let programs in while fewer run than may: tenants by turns, and of each in the order of its jobs."""
    entering, places = state.entering, state.limits.active_programs
    while entering:
        account = entering.first(state.running_of, places, len(state.programs))
        if account is None:
            return
        job = entering.next(account)
        if job.pending:
            entering.began(account, state.now)
            _begin(state, job, job.pending.popleft())
        else:
            entering.drop(account)


def finish_jobs(state: State) -> None:
    ended, state.ended_jobs = state.ended_jobs, []
    for job in ended:
        if job.id in state.jobs:
            leave(state, job, Status.FAILED if job.failed else Status.SUCCEEDED)


def leave(state: State, job: Job, status: Status) -> None:
    """The job is over, and nobody will ask for what it kept."""
    for key in state.shared.kept_for(job.id):
        drop_key(state, key)
    del state.jobs[job.id]
    state.tell(FinishJob(job.id, status))


def _due_s(job: Job) -> float:
    return job.arrived_s + PATIENCE_S if job.deadline_s is None else job.deadline_s


def _begin(state: State, job: Job, row: int) -> None:
    order = QueueKey(job.priority, job.number, job.begun)
    job.begun += 1
    program = Program(
        program_id(job.id, row),
        job.id,
        row,
        job.plan,
        order,
        job.recovered.get(row, _NOTHING),
        job.tenant,
        job.slo,
        job.arrived_s,
        job.deadline_s,
    )
    state.programs_begun += 1
    program.sequence = state.programs_begun
    resume(state, program)
    program_begins(state, program)
    state.programs[program.id] = program
    state.tell(BeginProgram(program.id, job.id, row, job.plan))
    begin_program(state, program)
