"""Every walk completes, whichever process is killed and whenever."""

import random
import time
from itertools import cycle

from tests.support.processes import Service, Trap, wait_until
from tests.support.scaled import SEED, is_ready
from tests.support.takeovers import FILMS, FRAMES, Toll, check, new_request, struck

# What the api says on a walk's way, and how often at most: where processes are killed.
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


def test_no_replica_for_a_while_is_a_pause(starting, calm, walk_request):
    """GPU pools scale to zero: the walk waits, says so, and no try is counted."""
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


def test_a_walk_arrives_whoever_is_killed_and_whenever(scaled, calm, capsys):
    """SIGKILL at lines of the log, at once or some time after them. MOMALISA_SEED draws the same ones again."""
    dice = random.Random(SEED)
    with capsys.disabled():
        print(f"\nMOMALISA_SEED={SEED}")
    # Whoever says the line dies; of one more, a replica does.
    spacings = cycle(dice.sample(["even", "uniform"], 2))
    for event, spacing in zip(dice.sample([*POINTS, A_REPLICA], len(POINTS) + 1), spacings, strict=False):
        replica = dice.choice(scaled.replicas) if event == A_REPLICA else None
        event = "shard started" if replica else event
        # An even walk is planned once a round.
        most = 3 if (event, spacing) == ("walk planned", "even") else POINTS[event]
        nth, pause_s = dice.randint(1, most), dice.choice([0, dice.uniform(0, LONGEST_PAUSE_S)])
        walk_request, toll = new_request(spacing=spacing), Toll()

        def strike(service: Service, toll=toll, pause_s=pause_s, replica=replica) -> None:
            time.sleep(pause_s)
            toll.kill(scaled, replica or service)

        walk, speaker = struck(scaled, walk_request, Trap(event, nth, strike), replica)
        with capsys.disabled():
            victim = (replica or speaker).name
            print(f"  {victim} killed {pause_s:.2f} s after {event!r} {nth} of an {spacing} walk: {toll}")
        check(scaled, calm, walk, walk_request, toll)
