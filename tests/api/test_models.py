"""Several models in one deployment: which are registered, which is the default, and who renders which."""

from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import text

from momalisa_api.cli import main
from momalisa_api.problems import Invalid, Starting
from momalisa_api.settings import Settings
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.fair_queue import AheadInQueue, FairQueue
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.models import ModelRegistry, UnknownModel
from momalisa_api.store.schema import opened
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.models import Models, RegisteredModel
from tests.support.factories import CARD, ended, running, spec
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
LARGE: dict[str, Any] = {**CARD, "model": "large", "micro_batch": 2, "max_size": 1024, "num_inference_steps": 8}
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform"}


def card_of(name: str, **changes: Any) -> ModelCard:
    return ModelCard.model_validate({**CARD, "model": name, **changes})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Without a card file: replicas bring their cards."""
    return settings.model_copy(update={"model_card": None})


async def names(client: httpx.AsyncClient) -> list[str]:
    return [model["name"] for model in (await client.get("/api/v1/models")).json()["models"]]


async def until_awake(client: httpx.AsyncClient, *models: str) -> None:
    """Wait until these models are registered and have replicas awake."""

    async def awake() -> bool:
        found = (await client.get("/api/v1/models")).json()["models"]
        return {*models} <= {model["name"] for model in found if model["replicas"]["awake"]}

    await until(awake)


async def make(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    """Request a walk, and wait for its end."""
    answer = await client.post("/api/v1/walks", json={**REQUEST, **changes})
    assert answer.is_success, answer.text
    return await ended(client, answer.json())


async def test_each_model_is_rendered_by_its_own_replicas_only(settings, fleet):
    """One of them holds both. The same prompts on two models are two walks."""
    small, large, both = fleet.add(), fleet.add(card=LARGE), fleet.add(others=(LARGE,))
    async with running(settings, fleet) as client:
        await until_awake(client, "test-model", "large")
        async with anyio.create_task_group() as tasks:
            for seed in range(4):
                for model in ("test-model", "large"):
                    tasks.start_soon(lambda model=model, seed=seed: make(client, model=model, seed=seed))
        made = (await client.get("/api/v1/walks?model=large")).json()["walks"]
        everything = (await client.get("/api/v1/walks")).json()["walks"]
    assert [walk["spec"]["model"] for walk in made] == ["large"] * 4
    assert {walk["state"] for walk in everything} == {"done"}
    assert len(everything) == 8
    assert {recipe["model"] for recipe, _ in small.render_calls} == {"test-model"}
    assert {recipe["model"] for recipe, _ in large.render_calls} == {"large"}
    assert small.refusals + large.refusals + both.refusals == 0
    assert max(len(fractions) for recipe, fractions in large.render_calls) == LARGE["micro_batch"]


async def test_a_request_is_completed_and_limited_by_the_card_of_its_model(settings, fleet):
    """Otherwise a model would get the size and the steps of another one."""
    fleet.add(others=(LARGE,))
    async with running(settings, fleet) as client:
        await until_awake(client, "test-model", "large")
        walk = (await client.post("/api/v1/walks", json={**REQUEST, "model": "large", "width": 1024})).json()
        assert (walk["spec"]["model"], walk["spec"]["steps"], walk["spec"]["width"]) == ("large", 8, 1024)
        refused = await client.post("/api/v1/walks", json={**REQUEST, "width": 1024})
        assert refused.json()["detail"] == "width must be 16 to 512 in steps of 8 pixels with test-model, not 1024."
        unknown = await client.get("/api/v1/walk", params={**REQUEST, "model": "huge"})
    assert unknown.status_code == 422
    assert unknown.json()["errors"] == [{"field": "model", "detail": 'must be one of test-model, large, not "huge"'}]


async def test_before_the_first_replica_requests_get_503_and_pages_work(settings, fleet):
    """A new deployment on machines that scale from zero."""
    replica = fleet.add(ready=False)
    async with running(settings, fleet) as client:
        refused = await client.post("/api/v1/walks", json=REQUEST)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
        assert refused.json()["type"] == "urn:momalisa:problem:starting"
        assert (await client.get("/api/v1/model")).status_code == 503
        assert (await client.get("/api/v1/models")).json()["models"] == []
        assert (await client.get("/api/v1/walks")).json()["walks"] == []
        assert (await client.get("/readyz")).status_code == 200
        replica.ready = True
        await until_awake(client, "test-model")
        assert (await make(client))["state"] == "done"


async def test_a_model_is_known_after_a_restart_while_none_of_its_replicas_is_awake(settings, fleet):
    """Replicas scale to zero, and somebody must be able to request the walk that wakes one."""
    replica = fleet.add()
    async with running(settings, fleet) as client:
        await until_awake(client, "test-model")
        await make(client)

        async def measured() -> bool:
            return (await client.get("/api/v1/models")).json()["models"][0]["frame_seconds"] is not None

        await until(measured)
    replica.reachable = False
    async with running(settings, fleet) as client:
        [model] = (await client.get("/api/v1/models")).json()["models"]
        assert (model["card"]["model"], model["replicas"]["awake"], model["default"]) == ("test-model", 0, True)
        assert model["frame_seconds"] is not None
        walk = (await client.post("/api/v1/walks", json={**REQUEST, "seed": 1})).json()
        assert walk["message"].startswith("No replica is running")
        replica.reachable = True
        assert (await ended(client, walk))["state"] == "done"


async def test_a_replica_of_the_last_release_brings_its_one_model(settings, fleet):
    """During an upgrade replicas of both releases run."""
    fleet.add(of_last_release=True)
    async with running(settings, fleet) as client:
        await until_awake(client, "test-model")
        assert (await make(client))["state"] == "done"


async def test_of_two_cards_of_a_model_the_first_stays_while_its_replica_is_awake(settings, fleet):
    """An upgrade and a rollback work, and two replicas with different cards do not replace each other's."""
    old, new = fleet.add(), fleet.add(card={**CARD, "revision": "2"}, ready=False)
    async with running(settings, fleet) as client:

        async def revision() -> str:
            return str((await client.get("/api/v1/model")).json()["card"]["revision"])

        await until_awake(client, "test-model")
        new.ready = True
        checks = new.readiness_checks
        while new.readiness_checks < checks + 8:
            await anyio.sleep(0.01)
            assert await revision() == "1"
        assert (await make(client))["state"] == "done"
        assert not new.render_calls
        old.reachable = False

        async def upgraded() -> bool:
            return await revision() == "2"

        await until(upgraded)
        old.reachable = True
        assert (await make(client))["spec"]["revision"] == "2"
        assert new.render_calls
        assert await revision() == "2"


async def test_a_walk_of_a_revision_that_is_gone_fails_with_a_sentence(settings, fleet):
    """Nothing can render its frames, and it must not wait for ever."""
    replica = fleet.add(stalled=True)
    async with running(settings, fleet) as client:
        await until_awake(client, "test-model")
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
    replica.card, replica.stalled = {**CARD, "revision": "2"}, False
    async with running(settings, fleet) as client:
        failed = await ended(client, walk)
    assert failed["error"] == (
        "This walk needs the model test-model (1), which is not served any more. Request the walk again to make it "
        "with test-model (2)."
    )


async def test_a_machine_that_gets_another_model_offers_it_first_and_nobody_waits_for_the_former(settings, fleet):
    """`MODEL_ID=… make up` on the catalogue of another model: its replicas are all that there will be."""
    replica = fleet.add()
    async with running(settings, fleet) as client:
        await until_awake(client, "test-model")
    replica.card = LARGE
    async with running(settings, fleet) as client:
        await until_awake(client, "large")
        assert (await names(client))[0] == "large"
        failed = await make(client, model="test-model")
        assert failed["error"] == (
            "This walk needs the model test-model (1), which is not served any more. Request the walk again with "
            "another model, such as large."
        )
    async with running(settings.model_copy(update={"models": "test-model large"}), fleet) as client:
        await until_awake(client, "large")
        await client.post("/api/v1/walks", json={**REQUEST, "model": "test-model", "seed": 1})
        named = (await client.post("/api/v1/walks", json={**REQUEST, "model": "test-model", "seed": 1})).json()
        checks = replica.readiness_checks
        while replica.readiness_checks < checks + 8:
            await anyio.sleep(0.01)
        assert (await client.get(named["url"])).json()["state"] == "waiting", "somebody may start a replica of it"


async def test_slow_shards_of_one_model_do_not_hold_up_another(settings, fleet):
    """More of them wait than a worker takes at a time."""
    fleet.add(stalled=True)
    fleet.add(card=LARGE)
    few = settings.model_copy(update={"max_shards_in_flight": 2, "backup_shards": False})
    async with running(few, fleet) as client:
        await until_awake(client, "test-model", "large")
        for seed in range(3):
            await client.post("/api/v1/walks", json={**REQUEST, "seed": seed, "model": "test-model"})
        assert (await make(client, model="large"))["state"] == "done"


async def test_metrics_are_by_model_and_an_unseen_model_has_a_frame_pending(settings, fleet):
    """The autoscaler of each model reads its own series; the first replica of a model must start to bring its card."""
    fleet.add(ready=False)
    named = settings.model_copy(update={"models": "test-model, large"})
    async with running(named, fleet) as client:

        async def value(name: str, model: str) -> float:
            lines = (await client.get("/metrics")).text.splitlines()
            [found] = [line for line in lines if line.startswith(f'momalisa_{name}{{model="{model}"}} ')]
            return float(found.split()[-1])

        assert (await value("frames_pending", "test-model"), await value("frames_pending", "large")) == (1, 1)
        starting = await client.post("/api/v1/walks", json={**REQUEST, "model": "large"})
        assert starting.json()["detail"] == "No replica of the model large has started yet. Retry in a minute."
        fleet.replicas["replica-1"].ready = True
        await until_awake(client, "test-model")
        assert (await value("frames_pending", "test-model"), await value("frames_pending", "large")) == (0, 1)
        assert (await value("replicas_awake", "test-model"), await value("replicas_awake", "large")) == (1, 0)


async def test_a_model_that_is_not_allowed_is_not_registered(settings, fleet):
    """The operator decides, not who can start a replica."""
    fleet.add(others=(LARGE,))
    async with running(settings.model_copy(update={"models": "large"}), fleet) as client:
        await until_awake(client, "large")
        assert await names(client) == ["large"]


async def test_with_a_card_file_only_its_model_is_allowed_unless_others_are_named(settings, fleet, tmp_path):
    """As in the last release: a replica of another model gets no work."""
    fleet.add(card=LARGE)
    fleet.add(card={**CARD, "micro_batch": 3})
    filed = settings.model_copy(update={"model_card": tmp_path / "card.json"})
    async with running(filed, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        checks = fleet.replicas["replica-2"].readiness_checks
        while fleet.replicas["replica-2"].readiness_checks < checks + 8:
            await anyio.sleep(0.01)
        assert (await client.get(walk["url"])).json()["replicas_awake"] == 0
        assert await names(client) == ["test-model"]
    async with running(filed.model_copy(update={"models": "*"}), fleet) as client:
        await until_awake(client, "large")
        assert await names(client) == ["test-model", "large"]


async def test_a_retired_model_gets_no_new_walks_and_its_walks_end(settings, fleet):
    """Its replicas are removed later, when nothing is pending."""
    replica = fleet.add(frame_s=0.05)
    fleet.add(card=LARGE)
    async with running(settings, fleet) as client:
        await until_awake(client, "test-model", "large")
        walk = (await client.post("/api/v1/walks", json={**REQUEST, "model": "test-model"})).json()
        await anyio.to_thread.run_sync(models_command, settings, "retire", "test-model")

        async def retired() -> bool:
            return await names(client) == ["large"]

        await until(retired)
        refused = await client.post("/api/v1/walks", json={**REQUEST, "model": "test-model", "seed": 1})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "model")
        assert "for new ones, use one of large" in refused.json()["detail"]
        again = await client.post("/api/v1/walks", json={**REQUEST, "model": "test-model"})
        assert again.json()["id"] == walk["id"], "a walk that exists can be requested"
        assert (await ended(client, walk))["state"] == "done"
        assert replica.render_calls
        assert (await make(client))["spec"]["model"] == "large", "the default is another one"
        await anyio.to_thread.run_sync(models_command, settings, "retire", "test-model", "--undo")

        async def back() -> bool:
            return "test-model" in await names(client)

        await until(back)


def models_command(settings: Settings, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOMALISA_DATABASE_URL", settings.database_url)
        patch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as end:
            main.main(["models", *arguments])
    assert end.value.code == 0


def test_operators_list_and_choose_models(tmp_path, monkeypatch, capsys):
    """Each line has what decides: the name, the revision, the licence."""
    monkeypatch.setenv("MOMALISA_DATABASE_URL", f"sqlite:///{tmp_path}/catalogue.sqlite")

    def run(*arguments: str) -> tuple[int, list[str], str]:
        with pytest.raises(SystemExit) as end:
            main.main(["models", *arguments])
        out, error = capsys.readouterr()
        return int(end.value.code or 0), out.splitlines(), error

    assert run("list")[1] == ["No model is registered yet: replicas bring theirs when they start."]

    async def register() -> None:
        async with opened(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
            for name in ("first", "second"):
                await ModelRegistry(engine).register(card_of(name, about={"title": name.title(), "license": "MIT"}))

    anyio.run(register)
    assert run("default", "second")[0] == 0
    assert run("retire", "first")[0] == 0
    assert run("list")[1] == ["second  1  MIT  Second  default", "first  1  MIT  First  retired"]
    with monkeypatch.context() as patch:
        patch.setenv("MOMALISA_MODELS", "second third")
        assert run("list")[1][-1] == "third  in MOMALISA_MODELS, but no replica has brought it yet"
    code, _, error = run("default", "first")
    assert (code, error) == (
        2,
        "momalisa: first is retired. Allow new walks first: `momalisa models retire first --undo`.\n",
    )
    code, _, error = run("default", "third")
    assert (code, error) == (2, "momalisa: There is no model named 'third'. Registered: first, second.\n")


async def test_every_process_reads_what_another_one_registers(engine):
    """A web process has no replicas, and restarts."""
    worker, web = ModelRegistry(engine), ModelRegistry(engine, kept_s=0)
    await worker.register(card_of("a"))
    await worker.register(card_of("b"))
    assert [model.name for model in (await web.current()).offered] == ["a", "b"]
    await worker.choose_default("b")
    assert (await web.current()).choose().name == "b"
    await worker.choose_default("a")
    await worker.note_awake("a", 2.0)
    [model, _] = (await web.current()).registered
    assert (model.chosen, model.seen, model.shard_s) == (True, True, 2.0)
    with pytest.raises(UnknownModel, match="Registered: a, b"):
        await worker.retire("c")


async def test_of_workers_that_register_different_cards_at_once_one_decides(engine):
    """Each has seen another replica first."""
    workers = [ModelRegistry(engine) for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for number, worker in enumerate(workers):
            tasks.start_soon(worker.register, card_of("a", revision=str(number)))
    first = {(await worker.refresh()).choose().card.revision for worker in workers}
    assert len(first) == 1
    current = workers[0].known.choose().card
    await workers[0].register(card_of("a", revision="7"), current)
    await workers[1].register(card_of("a", revision="8"), current)
    assert workers[1].known.choose().card.revision == "7", "another worker has replaced it first"


async def test_a_card_file_is_registered_at_the_start_and_stays(engine):
    """Whatever replicas or other processes registered."""
    await ModelRegistry(engine).register(card_of("a", revision="old"))
    registry = ModelRegistry(engine, ["a"], card_of("a", revision="filed"))
    await registry.start()
    assert registry.known.choose().card.revision == "filed"
    assert (await ModelRegistry(engine).refresh()).choose().card.revision == "filed"


async def test_a_card_that_this_release_cannot_read_hides_only_its_own_model(engine):
    """After a rollback, for example."""
    registry = ModelRegistry(engine)
    for name in ("a", "b"):
        await registry.register(card_of(name))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE models SET card = '{}' WHERE name = 'a'"))
    assert [model.name for model in (await registry.refresh()).registered] == ["b"]
    await registry.register(card_of("a"))
    assert [model.name for model in registry.known.registered] == ["a", "b"], "a replica brings it again"


async def test_each_model_has_its_own_queue(engine):
    """The walks of a model that waits for a machine must not count for others."""
    catalogue, fair_queue = Catalogue(engine), FairQueue(engine)
    walks = [
        (await catalogue.request(spec(frames=9, model=model, seed=seed), owner))[0]
        for seed in range(2)
        for model, owner in (("a", "one"), ("b", "other"))
    ]
    ahead = await fair_queue.positions()
    assert [ahead[walk.id] for walk in walks] == [AheadInQueue(0, 0, 9)] * 2 + [AheadInQueue(1, 9, 0)] * 2
    assert [walk.tag for walk in walks] == [0, 0, 9, 9]
    assert await fair_queue.frames_pending() == {"a": 18, "b": 18}
    assert await catalogue.count_open("a") == 2
    page = await Gallery(engine).page(model="b")
    assert {walk.spec.model for walk in page.walks} == {"b"}


async def test_a_model_that_was_idle_begins_at_the_time_of_the_others(engine):
    """Replicas that hold both take the lowest tag: they would render nothing else until its walks have caught up."""
    catalogue = Catalogue(engine)
    tags = [(await catalogue.request(spec(frames=9, model="a", seed=seed), "one"))[0].tag for seed in range(3)]
    first = (await catalogue.request(spec(frames=9, model="a", seed=9), "newcomer"))[0]
    assert (tags, first.tag) == ([0, 9, 18], 0)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE walks SET state = 'rendering' WHERE tag = 9"))
    assert (await catalogue.request(spec(frames=9, model="b"), "newcomer"))[0].tag == 9


async def test_a_walk_that_the_last_release_stored_has_its_model(engine):
    """During an upgrade its processes add walks without the column."""
    walk, _ = await Catalogue(engine).request(spec(model="older"), "somebody")
    async with engine.begin() as connection:
        assert (await connection.execute(text("SELECT model FROM walks"))).scalar_one() == "older"
    assert await Catalogue(engine).count_open("older") == 1
    assert [found.id for found in (await Gallery(engine).page(model="older")).walks] == [walk.id]


def test_the_default_is_chosen_filed_named_awake_or_the_first():
    """In this order; a retired model is none."""

    def default(*models: RegisteredModel, **options: Any) -> str:
        return Models(models, **options).choose().name

    a, b, c = (RegisteredModel(card_of(name)) for name in "abc")
    assert default(a, b) == "a"
    assert default(a, RegisteredModel(b.card, seen=True)) == "b"
    assert default(a, b, c, named=["c", "*"]) == "c"
    assert default(a, b, c, named=["a", "b", "c"], fixed=b.card) == "b"
    assert default(a, b, RegisteredModel(c.card, chosen=True), fixed=b.card) == "c"
    assert default(a, b, RegisteredModel(c.card, chosen=True, retired=True)) == "a"
    assert default(a, b, named=["missing", "b"]) == "b"


def test_a_model_that_is_retired_or_missing_is_told_with_what_there_is():
    """A visitor reads what to do."""
    models = Models([RegisteredModel(card_of("a")), RegisteredModel(card_of("b"), retired=True)], ["a", "b", "new"])
    assert models.choose("b").name == "b"
    with pytest.raises(Invalid, match=r"b is retired: .* use one of a"):
        models.check_offered("b")
    with pytest.raises(Starting, match="No replica of the model new has started"):
        models.choose("new")
    with pytest.raises(Invalid, match='must be one of a, not "x"'):
        models.choose("x")
    with pytest.raises(Starting, match="No replica has started yet"):
        Models().choose()
    with pytest.raises(Starting, match="All models are retired"):
        Models([RegisteredModel(card_of("b"), retired=True)]).choose()
