"""Turns requests of all kinds but walks between stops into specs: completed from the model card, canonical."""

from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

from momalisa_api.problems import ClipNotFound
from momalisa_api.settings import Settings
from momalisa_api.store.clips import ClipStore, StoredClip
from momalisa_api.store.pictures import PictureStore
from momalisa_api.walks.apart import ApartSpec
from momalisa_api.walks.clip import ClipSpec
from momalisa_api.walks.into import IntoSpec
from momalisa_api.walks.model_card import ModelCard, Style
from momalisa_api.walks.restyle import RestyleSpec
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.stops import CroppedPicture
from momalisa_api.web.field_errors import Errors, refuse
from momalisa_api.web.frame_size import frame_size
from momalisa_api.web.kind_request import (
    ApartRequest,
    ClipRequest,
    IntoRequest,
    KindRequest,
    RestyleRequest,
    StyleOptions,
)
from momalisa_api.web.stop_request import PartOfPicture, Sizes, canonical_prompt, part_of

NO_SUCH_CLIP: Final = "is not one of your clips: it may have expired; upload it with POST /api/v1/clips first"
ONE_FRAME: Final = "has one frame only; upload that as a picture, and restyle the picture"
DEFAULT_RESTYLE_STRENGTH: Final = 0.6
SHORTEST_FRAME_MS: Final = 20
LONGEST_FRAME_MS: Final = 2000
OF_DIFFUSION: Final = ("strength", "seed", "negative_prompt", "steps", "guidance_scale")


@dataclass(frozen=True, slots=True)
class Uploads:
    """What the caller has of the files that a request names. sizes: of pictures, by id; clip: None if it has none."""

    sizes: Sizes
    clip: StoredClip | None = None


async def uploads_of(request: KindRequest, owner: str, pictures: PictureStore, clips: ClipStore) -> Uploads:
    """What an owner has of the files that a request names. Raises CatalogueUnavailable."""
    used = [getattr(request, name, None) for name in ("picture", "style_picture")]
    sizes = await pictures.sizes(owner, {part.picture for part in used if part})
    clip = None
    if isinstance(request, ClipRequest):
        with suppress(ClipNotFound):
            clip = await clips.get(owner, request.clip)
    return Uploads(sizes, clip)


def complete_kind(request: KindRequest, card: ModelCard, settings: Settings, uploads: Uploads) -> WalkSpec:
    """The canonical spec of a request, for the model of a card. Raises Invalid, which names every invalid field."""
    completion = _Completion(card, settings, uploads)
    match request:
        case IntoRequest():
            spec: WalkSpec = completion.into(request)
        case RestyleRequest():
            spec = completion.restyle(request)
        case ClipRequest():
            spec = completion.clip(request)
        case ApartRequest():
            spec = completion.apart(request)
    refuse(completion.errors)
    return spec


@dataclass(frozen=True, slots=True)
class _Completion:
    """One request while its spec is made. errors: what is wrong so far."""

    card: ModelCard
    settings: Settings
    uploads: Uploads
    errors: Errors = field(default_factory=list)

    def into(self, request: IntoRequest) -> IntoSpec:
        return IntoSpec(
            kind="into", motion=request.motion, amplitude=request.amplitude, **self._moving(request, request.picture)
        )

    def apart(self, request: ApartRequest) -> ApartSpec:
        return ApartSpec(
            kind="apart", threshold=request.threshold, most=request.most, **self._moving(request, request.picture)
        )

    def restyle(self, request: RestyleRequest) -> RestyleSpec:
        return RestyleSpec(kind="restyle", **self._restyling(request), **self._moving(request, request.picture))

    def clip(self, request: ClipRequest) -> ClipSpec:
        """Its frames are every n-th of the clip, so that there are not too many."""
        found = self.uploads.clip
        if found is None:
            self.errors.append(("clip", NO_SUCH_CLIP))
        elif found.frames < 2:
            self.errors.append(("clip", ONE_FRAME))
        shape = (found.width, found.height) if found else (self.card.width, self.card.height)
        count, seconds = (found.frames, found.seconds) if found else (2, 1.0)
        every = ceil(count / self.settings.max_clip_frames)
        frames = ceil(count / every)
        frame_ms = min(LONGEST_FRAME_MS, max(SHORTEST_FRAME_MS, round(1000 * seconds / frames)))
        return ClipSpec(
            kind="clip",
            clip=request.clip,
            every=every,
            frames=frames,
            frame_ms=frame_ms,
            gif_there_and_back=False,
            mp4_there_and_back=False,
            **self._restyling(request),
            **self._size(shape, request.size),
        )

    def _moving(self, request: IntoRequest | RestyleRequest | ApartRequest, used: PartOfPicture) -> dict[str, Any]:
        """The fields of walks that show a picture: the frames have the shape of its part."""
        part = part_of(used, "picture", self.uploads.sizes, (self.card.width, self.card.height), self.errors)
        size = self._size((part.width, part.height), request.size)
        crop = part.cut_to(size["width"], size["height"])
        picture = CroppedPicture(picture=used.picture, crop=crop)
        chosen = ("frame_ms", "gif_there_and_back", "mp4_there_and_back")
        return {
            "picture": picture,
            "frames": self._frames(request),
            **size,
            **{name: getattr(request, name) for name in chosen},
        }

    def _frames(self, request: IntoRequest | RestyleRequest | ApartRequest) -> int:
        most = self.settings.max_frames
        if "frames" not in request.model_fields_set:
            return min(request.frames, most)
        if request.frames > most:
            self.errors.append(("frames", f"must be 2 to {most}, not {request.frames}"))
        return request.frames

    def _size(self, shape: tuple[int, int], longer: int | None) -> dict[str, Any]:
        width, height = frame_size(shape, longer, self.card, self.errors)
        return {"width": width, "height": height, "model": self.card.model, "revision": self.card.revision}

    def _restyling(self, request: StyleOptions) -> dict[str, Any]:
        """How the pictures are restyled. A style of a diffusion model is its prompt: the spec has no name then."""
        named = next((style for style in self.card.styles if style.name == request.style), None)
        prompt = named.prompt if named and named.prompt is not None else request.prompt
        if prompt is not None:
            return self._diffusion(request, prompt, named)
        instead = "must be omitted, because no diffusion model is used"
        self.errors.extend((name, instead) for name in OF_DIFFUSION if getattr(request, name) is not None)
        if request.style_picture is None:
            return {"style": request.style}
        part = part_of(request.style_picture, "style_picture", self.uploads.sizes, (1, 1), self.errors)
        return {"style_picture": CroppedPicture(picture=request.style_picture.picture, crop=part)}

    def _diffusion(self, request: StyleOptions, prompt: str, named: Style | None) -> dict[str, Any]:
        strength = request.strength or (named and named.strength) or DEFAULT_RESTYLE_STRENGTH
        negative = self.card.negative_prompt if request.negative_prompt is None else request.negative_prompt
        texts = {"prompt": canonical_prompt(prompt), "negative_prompt": canonical_prompt(negative)}
        most, steps = self.settings.max_prompt_chars, request.steps or self.card.num_inference_steps
        for name, text in texts.items():
            least = int(name == "prompt")
            if not least <= len(text) <= most:
                self.errors.append((name, f"must have {least} to {most} characters, not {len(text)}"))
        if steps > self.card.max_steps:
            self.errors.append(("steps", f"must be 1 to {self.card.max_steps} with {self.card.model}, not {steps}"))
        guidance = self.card.guidance_scale if request.guidance_scale is None else request.guidance_scale
        return {
            **texts,
            "strength": strength,
            "seed": request.seed or 0,
            "steps": steps,
            "guidance_scale": guidance,
            "scheduler": self.card.scheduler,
        }
