"""Ready calls go to engines and ready tools to their slots, as far as there is room."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf

from executor.commands import CallMeAt, RunTool
from executor.core.binding import dispatch_by_rule
from executor.core.life import Life
from executor.core.progress import line_up
from executor.core.ready_calls import Frontier, ReadyCalls
from executor.core.sending import save_program, send
from executor.core.state import State
from executor.core.warm_order import Ready
from executor.core.work import Work
from executor.policy.fairness import Account
from executor.policy.migration import unless_it_stays
from executor.policy.routing import EngineView, Offer, choose_engine, has_room
from executor.policy.sampling import MANY, drawn
from executor.policy.urgency import PASSED_OVER_S
from executor.slo import SloClass
from planner.ir.ids import EngineId
from planner.ir.plan import Agent, Generate

#: Calls that are being prepared may be better than those that are ready: a program's next one, while its prompt is
#: warm. Preparing takes microseconds, but for answers that are looked up in a store.
HOLD_S = 0.005
#: What the calls inside an engine may take together while several tenants run programs, in KVs. What one of them had in
#: the engine's own line would be before all that another asks for later, whoever's turn it is.
INSIDE_SHARE_OF_TENANTS = 1.0


def dispatch(state: State) -> None:
    _let_in(state)
    _line_up_again(state)
    if not _holds(state):
        _dispatch_all(state)
        _line_up_again(state)
        _look_who_is_calm(state)
    for name in state.tools.queues:
        while (work := state.tools.next(name)) is not None:
            _run_tool(state, work)


def _look_who_is_calm(state: State) -> None:
    """Now and then, once engines took what they may; and again when one opens that somebody waits for."""
    opens_s = inf
    for pools in state.fleet.sharing:
        quiet = state.quiet[pools[0]]
        if quiet.due(state.now):
            serving = {pool: state.fleet.serving(pool) for pool in pools}
            quiet.look(serving, {one for pool in pools for one in _accounts(state, pool)}, state.now)
        opens_s = min(opens_s, quiet.opens_s())
    if opens_s < inf and not state.now < state.opens_at <= opens_s:
        state.opens_at = opens_s
        state.tell(CallMeAt(opens_s))


def _line_up_again(state: State) -> None:
    """Those that left an engine unanswered."""
    returned, state.sent_back = state.sent_back, []
    for work in returned:
        if work.life is Life.HELD:
            line_up(state, work)


def wanting(state: State) -> set[EngineId]:
    """The engines without a place for calls that are ready."""
    pools = [pool for pool, calls in state.calls.items() if calls.frontiers()]
    pools += [pool for pool, lines in state.lines.items() if not lines.empty]
    return state.fleet.full(view.spec.id for pool in dict.fromkeys(pools) for view in state.fleet.serving(pool))


def _let_in(state: State) -> None:
    """Turns of agents that were held go into the line as far as engines have room for their conversations."""
    for work in state.sets.admitted(state.now):
        line_up(state, work)
    for held in state.sets.newly_held():
        if held.call.life is Life.HELD and held.why is not None:
            save_program(state, held.call, f"held: {held.why.value}")
    wake_at = state.sets.wake_at_s(state.now)
    if wake_at is not None and (state.asks_again_at is None or not state.now < state.asks_again_at <= wake_at):
        state.asks_again_at = wake_at
        state.tell(CallMeAt(wake_at))
    _note_held(state)


def _dispatch_all(state: State) -> None:
    """While several tenants wait, one call at a time of whose turn it is. Of one tenant: where engines share stages as
    planned, first what keeps to the plan, of all pools; then no engine with room is left without a call that it may
    serve."""
    _by_turns(state)
    for pool in _in_order(state, state.lines, lambda pool: state.lines[pool].first_key()):
        lines = state.lines[pool]
        if lines.empty:  # as always where no job has a deadline
            continue
        if pool in state.calls and not _send_choosy(state, pool, state.calls[pool].frontiers()):
            continue
        _feed_passed_over(state, pool)
        if lines.anything_new(state.fleet.changes, state.opens_at if state.now >= state.opens_at else 0.0):
            dispatch_by_rule(state, pool, lines, lines.some(lines.accounts()))
        if not state.fleet.serves(pool) and not lines.empty:
            _note_stranded(state, pool)
    if _plans_shares(state):
        for pool, calls in state.calls.items():
            _dispatch_calls(state, pool, calls, as_planned=True)
    for pool in _in_order(state, state.calls, lambda pool: state.calls[pool].place()):
        _dispatch_calls(state, pool, state.calls[pool])


def _in_order(state: State, pools: Iterable[str], place: Callable[[str], tuple[float, ...]]) -> list[str]:
    """Where pools have engines in common, whose first job or call comes first; else as they are."""
    found = list(pools)
    if len(state.fleet.sharing) == len(state.fleet.pools.engines):
        return found
    return sorted(found, key=place)


def _feed_passed_over(state: State, pool: str) -> None:
    """One of the calls without a deadline, where those that have one got every place for too long."""
    calls, now = state.calls.get(pool), state.now
    if calls is None or not (frontiers := calls.frontiers()):
        state.fed_at.pop(pool, None)
    elif now >= state.fed_at.setdefault(pool, now) + PASSED_OVER_S and (views := state.fleet.with_room(pool)):
        _send_one(state, pool, frontiers, views, as_planned=False)


def _by_turns(state: State) -> None:
    """Until nothing can be sent; where one tenant waits, that is left to those who know of no turns.

    The queue is that of all pools that share engines, whichever of them anybody has asked for so far.
    """
    for sharing in state.fleet.sharing:
        queue, pools = sharing[0], [pool for pool in sharing if pool in state.lines or pool in state.calls]
        while len(waiting := _waiting(state, pools, queue)) > 1 and any(state.fleet.with_room(pool) for pool in pools):
            if not all(_send_choosy(state, pool, state.calls_of(pool).frontiers(waiting)) for pool in pools):
                break
            if not any(_send_of(state, pools, equals) for equals in state.turns.order(waiting, queue)):
                break


def _waiting(state: State, pools: Sequence[str], queue: str) -> list[Account]:
    """Whose calls wait, where that makes a difference."""
    waiting = list(dict.fromkeys(account for pool in pools for account in _accounts(state, pool)))
    if len({(account.tenant, account.slo is SloClass.BACKGROUND) for account in waiting}) > 1:
        return waiting
    state.turns.order(waiting, queue)
    return []


def _accounts(state: State, pool: str) -> list[Account]:
    lines, calls = state.lines.get(pool), state.calls.get(pool)
    return [*(lines.accounts() if lines else ()), *(calls.accounts() if calls else ())]


def _send_of(state: State, pools: Sequence[str], accounts: Collection[Account]) -> bool:
    """Whether a call of these could be sent."""
    ordered = _in_order(state, pools, lambda pool: state.lines_of(pool).first_key(accounts))
    return any(_send_from(state, pool, accounts) for pool in ordered)


def _send_from(state: State, pool: str, accounts: Collection[Account]) -> bool:
    """One that has a deadline, else the best by its prompt."""
    lines = state.lines_of(pool)
    line = lines.some(accounts, one=True)
    dispatch_by_rule(state, pool, lines, line)
    if line.removed:
        return True
    calls, views = state.calls_of(pool), state.fleet.with_room(pool)
    if not (views and (frontiers := calls.frontiers(accounts))):
        return False
    planned = _plans_shares(state) and _send_one(state, pool, frontiers, views, as_planned=True)
    return planned or _send_one(state, pool, frontiers, views, as_planned=False)


def _plans_shares(state: State) -> bool:
    return any(job.shares for job in state.jobs.values())


def _holds(state: State) -> bool:
    """Whether more calls will be ready at once. Whatever makes them so is an event, so nothing is held for ever."""
    preparing = state.preparing
    while preparing and preparing[0].life is not Life.PREPARING:
        preparing.popleft()
    if not preparing:
        state.held_since = None
        return False
    if state.held_since is None:
        state.held_since = state.now
    return state.now < state.held_since + HOLD_S


def _dispatch_calls(state: State, pool: str, calls: ReadyCalls, *, as_planned: bool = False) -> None:
    while views := state.fleet.with_room(pool):
        frontiers = calls.frontiers()
        if not frontiers or not _send_one(state, pool, frontiers, views, as_planned=as_planned):
            return
    if not state.fleet.serves(pool) and calls.frontiers():
        _note_stranded(state, pool)


def _note_held(state: State) -> None:
    """Those that wait for room in engines of a pool of which none takes calls any more."""
    for pool in state.sets.pools_held:
        if not state.fleet.serves(pool):
            _note_stranded(state, pool)


def _send_one(
    state: State, pool: str, frontiers: Sequence[Frontier], views: Sequence[EngineView], *, as_planned: bool
) -> bool:
    """Send the best call of the job; False where no engine can take any now."""
    for frontier in frontiers:
        choosy = frontier.choosy()
        if choosy is None:
            continue
        if _send(state, frontier, choosy, state.fleet.serving(pool)):
            return True
        if choosy.work.suspect:  # some engine must run empty for it
            return False
    wanting = {frontier: _wanting(state, pool, frontier, views, as_planned=as_planned) for frontier in frontiers}
    for view in views:
        for frontier, ready in _best(wanting, view):
            if _send(state, frontier, ready, _looked_at(state, ready, view, views)):
                return True
    return False


def _looked_at(state: State, ready: Ready, view: EngineView, views: Sequence[EngineView]) -> Sequence[EngineView]:
    """Those that may be done with the call earlier than the engine that chose it; of many, some."""
    if len(views) <= MANY:
        return views
    home, fleet = ready.work.program.engine, state.fleet
    always = [view, *([fleet.views[home]] if home is not None and fleet.takes(ready.pool, home) else [])]
    looked = [*always, *(views[place] for place in drawn(len(views), str(ready.work.ref)))]
    return list({one.spec.id: one for one in looked}.values())


def _send_choosy(state: State, pool: str, frontiers: Sequence[Frontier]) -> bool:
    """Send the calls that failed before; False where an engine must run empty for one."""
    for frontier in frontiers:
        while (choosy := frontier.choosy()) is not None:
            if not _send(state, frontier, choosy, state.fleet.serving(pool)):
                if choosy.work.suspect:
                    return False
                break
    return True


def _wanting(
    state: State, pool: str, frontier: Frontier, views: Sequence[EngineView], *, as_planned: bool
) -> Sequence[EngineView]:
    """Those that may take a call of the frontier, or should as planned."""
    shares = frontier.shares if as_planned else None
    if state.quiet[pool].anywhere:
        views = _open(state, frontier.any().work, views)
    return views if shares is None else [view for view in views if shares.wants(view.spec.id)]


def _open(state: State, work: Work, views: Sequence[EngineView]) -> Sequence[EngineView]:
    """Without those that are quiet for other tenants."""
    return state.quiet[work.pool].open_to(work.program.account, work.pool, views, state.now)


def _best(wanting: Mapping[Frontier, Sequence[EngineView]], view: EngineView) -> list[tuple[Frontier, Ready]]:
    """What the engine should take next of each frontier it may serve, the best of all first."""
    engine = view.spec.id
    asked = [(frontier, frontier.best(engine)) for frontier, views in wanting.items() if view in views]
    found = [(frontier, ready) for frontier, ready in asked if ready is not None]
    return sorted(found, key=lambda one: one[0].rank(one[1], engine)) if len(found) > 1 else found


def _send(state: State, frontier: Frontier, ready: Ready, views: Sequence[EngineView]) -> bool:
    """Send the call to the best of these engines. The one with the least load has chosen it, but another may be done
    with it earlier."""
    work, shares = ready.work, frontier.shares
    assert isinstance(work.stage, Generate | Agent)
    work.output_tokens = min(work.output_tokens, state.lengths.expected(work.stage))
    views = views if work.agent is None else [view for view in views if state.may_enter(work, view.spec.id)]
    planned = () if shares is None else [view.spec.id for view in views if shares.wants(view.spec.id)]
    views = views if work.avoid or work.suspect else _open(state, work, views)
    offers = _keep_to_quiet(state, work, _leave_lines_short(state, work, state.fleet.offers(work, views)))
    worth = offers if work.avoid else unless_it_stays(offers)
    choice = choose_engine(worth, work.avoid, suspect=work.suspect, planned=planned) if worth else None
    if choice is None:
        return False
    state.fed_at[work.pool] = state.now
    overdue = "; waited for long enough" if frontier.is_overdue(ready) else ""
    frontier.take(ready)
    send(state, work, choice, offers, overdue)
    return True


def _leave_lines_short(state: State, work: Work, offers: Sequence[Offer]) -> Sequence[Offer]:
    """While several tenants run programs, an engine is sent no more than its KV has room for; and less where it is
    quiet for others."""
    caches, quiet, account = state.fleet.caches, state.quiet[work.pool], work.program.account
    alone = len(state.running_of) < 2
    if alone and not quiet.keeps_room(account, work.pool):  # as nearly always: engines may be many
        return offers
    shares = {one.view.spec.id: quiet.kv_share(account, work.pool, one.view.spec.id) for one in offers}
    if alone and min(shares.values(), default=1.0) == 1.0:
        return offers
    fits = [caches[engine].fits(work, share * INSIDE_SHARE_OF_TENANTS) for engine, share in shares.items()]
    return [one if fit else replace(one, has_kv=False) for one, fit in zip(offers, fits, strict=True)]


def _keep_to_quiet(state: State, work: Work, offers: Sequence[Offer]) -> Sequence[Offer]:
    quiet, account = state.quiet[work.pool], work.program.account
    if not quiet.keeps(account):
        return offers
    kept = quiet.kept_to(account, [one.view.spec.id for one in offers if one.has_kv and has_room(one.view)])
    return [offer if offer.view.spec.id in kept else replace(offer, has_kv=False) for offer in offers]


def _run_tool(state: State, work: Work) -> None:
    assert work.tool is not None
    work.become(Life.RUNNING)
    state.tell(RunTool(work.ref, work.attempt, work.tool))
    save_program(state, work, f"tool {work.tool.name}")


def _note_stranded(state: State, pool: str) -> None:
    """None of its engines takes calls. One may come back."""
    if pool not in state.stranded:
        state.stranded[pool] = state.now
        state.tell(CallMeAt(state.now + state.limits.no_engine_s))
