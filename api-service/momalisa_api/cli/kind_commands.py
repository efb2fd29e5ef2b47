"""`momalisa into`, `restyle`, `clip` and `apart`: the arguments of the kinds of walks beside those between stops."""

import argparse
from typing import TYPE_CHECKING, Final

from momalisa_api.cli import argument_types, uploads
from momalisa_api.cli.server_arguments import EPILOG, FILM_OF_SUFFIX, STILL_OF_SUFFIX, add_server_arguments, made
from momalisa_api.cli.walk_options import OF_KIND

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

# As in walks/into, which is slow to import.
MOTION_CHOICES: Final = ("sway", "circle", "dolly", "zoom")
PICTURE_HELP = (
    "FILE, a URL, or WALK#FRAME for a frame of a finished walk; @X,Y,WIDTH,HEIGHT after it for a part of the picture"
)


def add_kind_commands(commands: "Commands") -> None:
    """Add the four commands to those of the command line."""
    _add_into(commands)
    _add_restyle(commands)
    _add_clip(commands)
    _add_apart(commands)


def _add_into(commands: "Commands") -> None:
    into = _with_picture(commands, "into", "move a camera into a picture")
    into.add_argument("--motion", choices=MOTION_CHOICES, help="how the camera moves (default: sway)")
    into.add_argument("--amplitude", type=argument_types.number, help="how far it moves, 0.1 to 1 (default: 0.5)")
    _add_frames(into, "49", "40")
    _add_size(into)
    _add_extras(into, "the depth map and the cut-out foreground")
    add_server_arguments(into, "into.mp4")
    _makes(into)


def _add_restyle(commands: "Commands") -> None:
    restyle = _with_picture(commands, "restyle", "walk from a picture to the same picture in another style")
    _add_style(restyle)
    _add_frames(restyle, "9", "120")
    _add_size(restyle)
    add_server_arguments(restyle, "restyle.png", {**FILM_OF_SUFFIX, **STILL_OF_SUFFIX})
    _makes(restyle)


def _add_clip(commands: "Commands") -> None:
    clip = commands.add_parser("clip", help="put a clip into another style, with its sound", epilog=EPILOG)
    clip.add_argument("clip", type=uploads.clip_argument, metavar="FILM", help="an MP4, MOV or WebM, or its URL")
    _add_style(clip)
    _add_size(clip)
    add_server_arguments(clip, "clip.mp4")
    _makes(clip)


def _add_apart(commands: "Commands") -> None:
    apart = _with_picture(commands, "apart", "take a picture apart into the objects that it shows")
    apart.add_argument("--most", type=argument_types.whole_number, help="how many objects, 1 to 50 (default: 20)")
    apart.add_argument(
        "--threshold",
        type=argument_types.number,
        help="the least score of an object, 0.05 to 0.95: how sure the model is (default: 0.5)",
    )
    _add_frames(apart, "13", "200")
    _add_size(apart)
    _add_extras(apart, "the cut-out objects, and their masks as JSON")
    add_server_arguments(apart, "apart.gif", {**FILM_OF_SUFFIX, **STILL_OF_SUFFIX})
    _makes(apart)


def _with_picture(commands: "Commands", kind: str, does: str) -> argparse.ArgumentParser:
    command = commands.add_parser(kind, help=does, epilog=EPILOG)
    command.add_argument("picture", type=uploads.picture_argument, metavar="PICTURE", help=PICTURE_HELP)
    return command


def _add_style(command: argparse.ArgumentParser) -> None:
    style = command.add_mutually_exclusive_group(required=True)
    style.add_argument("--style", type=argument_types.text, metavar="NAME", help="one of the styles of the models")
    style.add_argument("--prompt", type=argument_types.text, help="what a diffusion model paints over it")
    style.add_argument(
        "--style-picture", type=uploads.picture_argument, metavar="PICTURE", help="a picture in the style to take"
    )
    command.add_argument(
        "--strength", type=argument_types.number, help="of a diffusion model: how much is painted again, 0.1 to 1"
    )
    command.add_argument("--negative-prompt", type=argument_types.text, help="of a diffusion model: what not to show")
    command.add_argument("--seed", type=argument_types.whole_number, help="of a diffusion model: the seed of the noise")
    command.add_argument(
        "--steps", type=argument_types.whole_number, help="of a diffusion model: denoising steps per frame"
    )
    command.add_argument(
        "--guidance-scale",
        type=argument_types.number,
        help="of a diffusion model: how closely frames follow the prompt",
    )


def _add_frames(command: argparse.ArgumentParser, frames: str, frame_ms: str) -> None:
    command.add_argument("--frames", type=argument_types.whole_number, help=f"number of frames (default: {frames})")
    command.add_argument(
        "--frame-ms",
        type=argument_types.whole_number,
        help=f"duration of a frame in milliseconds (default: {frame_ms})",
    )


def _add_size(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--size",
        type=argument_types.whole_number,
        help="the longer side in pixels (default: the model's, and no larger than the upload)",
    )
    command.add_argument("--model", type=argument_types.text, help="name of the model (default: the first that can)")


def _add_extras(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--extras", type=argument_types.folder, metavar="FOLDER", help=f"folder to save, too: {what}")


def _makes(command: argparse.ArgumentParser) -> None:
    """Have a command make walks of the kind that it is named after."""
    command.set_defaults(run=_run, kind=command.prog.rpartition(" ")[2], extras=None)


def _run(options: argparse.Namespace) -> int:
    names = (*OF_KIND[options.kind], "size", "model")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return made(options, {"kind": options.kind, **given}, options.extras)
