"""The state of one replica: first only the reason why it is not ready, then its loaded and warmed-up models."""

from __future__ import annotations

import time
from itertools import chain, repeat
from threading import Thread

import structlog

from momalisa_model.device_errors import free_memory, is_fault_of_device
from momalisa_model.device_queue import DeviceQueue
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.metrics import Metrics
from momalisa_model.model_recipe import sources_of
from momalisa_model.pictures import base64_bytes, max_file_bytes
from momalisa_model.problems import DownloadFailed, FilesChanged, NotReady, Problem, WrongModel
from momalisa_model.recipes import Recipe
from momalisa_model.settings import ModelSource, Settings
from momalisa_model.wire import OTHER_KINDS, PICTURES

log = structlog.get_logger()
# Between attempts to download; the last one is repeated.
PAUSES_S = (1, 5, 15, 60, 300)


class Replica:
    """The device queue and the metrics of this process from the start, and its models once all of them are loaded.

    The models take turns on one device, whose memory all of them share.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises UnsuitableModel if the settings name a recipe that cannot be read."""
        self.settings = settings
        self.metrics = Metrics()
        self.queue = DeviceQueue(settings.queue_length, self.metrics, self._self_test)
        self._sources = sources_of(settings)
        self._models: tuple[LoadedModel, ...] = ()
        self._reason = "The weights are still being loaded."

    def start_loading(self) -> None:
        """Load the models in a daemon thread, so that Ctrl-C does not wait for a download of minutes."""
        Thread(target=self._load, name="weights", daemon=True).start()

    def ready(self) -> tuple[LoadedModel, ...]:
        """All models. Raises NotReady with the reason if one is not loaded, or if the device has failed."""
        if self.queue.failed:
            raise NotReady("The device of this replica has failed, and its process ends. Use another replica.")
        if not self._models:
            raise NotReady(self._reason)
        return self._models

    def model_for(self, recipe: Recipe) -> LoadedModel:
        """The model and revision that a recipe names. Raises WrongModel if they are not loaded, and NotReady."""
        models = self.ready()
        for model in models:
            if (model.card.model, model.card.revision) == (recipe.model, recipe.revision):
                return model
        loaded = ", ".join(f"{model.card.model} at {model.card.revision}" for model in models)
        nearest = next((model.card for model in models if model.card.model == recipe.model), models[0].card)
        raise WrongModel(
            f"{loaded} {'is' if len(models) == 1 else 'are'} loaded. Name one of these in the recipe, or use another "
            "replica.",
            model=nearest.model,
            revision=nearest.revision,
        )

    def max_body_bytes(self) -> int:
        """The largest body of a request: that of the settings, beside the largest pictures for one of its models."""
        return self.settings.max_body_bytes + max(map(bytes_of_pictures, self._models), default=0)

    def _self_test(self) -> None:
        for model in self.ready():
            model.self_test()

    def _load(self) -> None:
        models: list[LoadedModel] = []
        for source in self._sources:
            name = f"{source.name}: " if len(self._sources) > 1 else ""
            try:
                models.append(self._load_patiently(source))
            except Exception as error:
                if is_fault_of_device(error):
                    self.queue.give_up(error)
                    return
                known = isinstance(error, Problem)
                reason = error if known else "The weights could not be loaded; the replica's log has the details."
                self._reason = f"{name}{reason} Changes take effect when this replica is started again."
                log.error("not ready", reason=self._reason, cause=str(error.__cause__ or ""), exc_info=not known)
                error.__traceback__ = None
                free_memory()
                return
        self._models = tuple(models)
        self._report()

    def _load_patiently(self, source: ModelSource) -> LoadedModel:
        """Try again after each failed download, and while files are copied.

        Connections return, and operators accept licences and free space.
        """
        pauses_s = chain(PAUSES_S, repeat(PAUSES_S[-1]))
        while True:
            try:
                return load_model(source, self._wait_for)
            except (DownloadFailed, FilesChanged) as problem:
                pause_s, cause = next(pauses_s), str(problem.__cause__ or "")
                log.warning(problem.slug.replace("-", " "), reason=str(problem), cause=cause, pause_s=pause_s)
                self._wait_for(f"{problem} The next attempt is in {pause_s} s.")
                time.sleep(pause_s)

    def _wait_for(self, reason: str) -> None:
        self._reason = reason

    def _report(self) -> None:
        """Tell the metrics and the log about the models, after all of them are loaded."""
        for model in self._models:
            card, invariant = model.card, model.answer.batch_invariant
            self.metrics.add(card.model)
            self.metrics.batch_invariant.labels(model=card.model).set(invariant)
            if not invariant:
                log.warning(
                    "a frame's last bits depend on its place in the batch here; MOMALISA_PLACES tells more",
                    model=card.model,
                )
            log.info("ready", model=card.model, revision=card.revision[:12], **model.answer.made_of)
        self.metrics.ready.set(1)


def bytes_of_pictures(model: LoadedModel) -> int:
    """The most bytes of pictures in a request: both stops of a leg, or a micro-batch of a clip and a style picture."""
    card, features = model.card, model.answer.features
    count = 2 if {PICTURES, *OTHER_KINDS} & set(features) else 0
    if "clip" in features:
        count = max(count, card.micro_batch + 1)
    return count * base64_bytes(max_file_bytes(card.max_size, card.max_size))
