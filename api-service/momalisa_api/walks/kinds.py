"""The kinds of walks, and what a replica must be able to render for each. Pure."""

from typing import Final, Literal, get_args

WalkKind = Literal["between", "into", "restyle", "clip", "apart"]
KINDS: Final[tuple[WalkKind, ...]] = get_args(WalkKind)
BETWEEN: Final = "between"
# The feature of replicas that render recipes with the early blend.
EARLY_BLEND: Final = "early_blend"
# The feature of replicas whose walks between stops can have pictures as stops. Kinds are features by their names.
PICTURES: Final = "pictures"

# Names of engines, as cards have them. Replicas with the first render walks between stops without any feature.
DIFFUSION: Final = "diffusion"
STYLE_NET: Final = "style"
