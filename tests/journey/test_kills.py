"""Every walk completes, regardless of the process that is killed and the moment of the kill."""

import random
import time
from itertools import cycle

from tests.support.processes import Service, Trap, wait_until
from tests.support.scaled import SEED, is_ready
from tests.support.takeovers import FILMS, FRAMES, Toll, check, new_request, request_with_trap

# Log events of a walk, and how often each occurs at most. Processes are killed at these events.
POINTS = {
    "walk accepted": 1,
    "walk planned": 1,
    "shard started": 3,
    "frame stored": FRAMES,
    "walk filming": 1,
    "film stored": FILMS,
    "walk done": 1,
}
A_REPLICA = "a replica"
LONGEST_PAUSE_S = 0.3


def test_a_walk_waits_while_no_replica_runs(starting, calm, walk_request):
    """GPU pools scale to zero: the walk waits, its resource shows that, and no try is counted."""
    for replica in starting.replicas:
        replica.end()
    for service in starting.api:
        wait_until(lambda service=service: is_ready(service))
    wait_until(lambda: not starting.awake())
    walk = starting.read(starting.request_walk(**walk_request))
    assert (walk["state"], walk["replicas_awake"]) == ("waiting", 0)
    starting.wait_until_ready()
    check(starting, calm, walk, walk_request, Toll())
    assert starting.walk_column("tries", walk["id"]) == 0


def test_a_walk_completes_after_any_kill_at_any_time(scaled, calm, capsys):
    """SIGKILL at lines of the log, at once or after a pause. MOMALISA_SEED repeats a run's random choices."""
    dice = random.Random(SEED)
    with capsys.disabled():
        print(f"\nMOMALISA_SEED={SEED}")
    # The process that logs the line is killed; in one additional case, a replica.
    spacings = cycle(dice.sample(["even", "uniform"], 2))
    for event, spacing in zip(dice.sample([*POINTS, A_REPLICA], len(POINTS) + 1), spacings, strict=False):
        replica = dice.choice(scaled.replicas) if event == A_REPLICA else None
        event = "shard started" if replica else event
        # An even walk is planned once per round.
        most = 3 if (event, spacing) == ("walk planned", "even") else POINTS[event]
        nth, pause_s = dice.randint(1, most), dice.choice([0, dice.uniform(0, LONGEST_PAUSE_S)])
        walk_request, toll = new_request(spacing=spacing), Toll()

        def strike(service: Service, toll=toll, pause_s=pause_s, replica=replica) -> None:
            time.sleep(pause_s)
            toll.kill(scaled, replica or service)

        walk, trapped = request_with_trap(scaled, walk_request, Trap(event, nth, strike), replica)
        with capsys.disabled():
            victim = (replica or trapped).name
            print(f"  {victim} killed {pause_s:.2f} s after {event!r} {nth} of an {spacing} walk: {toll}")
        check(scaled, calm, walk, walk_request, toll)
