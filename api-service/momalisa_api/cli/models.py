"""`momalisa models`: which models the deployment has, which one is the default, and which are retired."""

import asyncio
from collections.abc import Awaitable, Callable

from momalisa_api.app import read_card, registry_of
from momalisa_api.cli.admin import exit_code_of
from momalisa_api.cli.errors import CommandError, printable
from momalisa_api.settings import StoreSettings
from momalisa_api.store import schema
from momalisa_api.store.models import ModelRegistry, UnknownModel
from momalisa_api.walks.models import RegisteredModel


def print_models() -> int:
    """`momalisa models list`: prints a line for each registered model, the default first. Returns an exit code."""

    async def show(registry: ModelRegistry) -> None:
        models = await registry.refresh()
        if not models.registered:
            print("No model is registered yet: replicas bring theirs when they start.")
        for model in sorted(models.registered, key=lambda model: (model != models.default, model.retired)):
            print(printable("  ".join(_described(model, default=model == models.default))))
        for name in models.unseen:
            print(printable(f"{name}  in MOMALISA_MODELS, but no replica has brought it yet"))

    return _run(show)


def choose_default(name: str) -> int:
    """`momalisa models default NAME`: requests that name no model get this one. Returns an exit code."""

    async def choose(registry: ModelRegistry) -> None:
        models = await registry.refresh()
        if (found := models.get(name)) and found.retired:
            raise CommandError(f"{name} is retired. Allow new walks first: `momalisa models retire {name} --undo`.", 2)
        if found and not models.allows(name):
            raise CommandError(f"MOMALISA_MODELS does not allow {name}.", 2)
        await registry.choose_default(name)
        print(f"{printable(name)} is the default model.")

    return _run(choose)


def retire_model(name: str, *, undo: bool) -> int:
    """`momalisa models retire NAME`: new walks cannot use the model, or can again. Returns an exit code."""

    async def retire(registry: ModelRegistry) -> None:
        await registry.retire(name, retired=not undo)
        if undo:
            print(f"New walks can use {printable(name)} again.")
            return
        print(f"{printable(name)} is retired: unfinished walks end, and all walks can still be watched.")

    return _run(retire)


def _run(act: Callable[[ModelRegistry], Awaitable[None]]) -> int:
    async def run() -> None:
        settings = StoreSettings()
        async with schema.opened(settings.database_url) as engine:
            try:
                await act(registry_of(settings, engine, read_card(settings)))
            except UnknownModel as error:
                raise CommandError(str(error), 2) from error

    return exit_code_of(lambda: asyncio.run(run()))


def _described(model: RegisteredModel, *, default: bool) -> list[str]:
    notes = ["default"] if default else []
    notes += ["not for commercial use"] if model.card.about.commercial is False else []
    notes += ["retired"] if model.retired else []
    card = model.card
    title = card.about.title or "no title"
    return [card.model, card.revision[:12], card.about.license or "licence not known", title, *notes]
