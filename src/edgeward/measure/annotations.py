"""What stands in images, as people keep it: boxes in an .npz or a COCO file, masks in an .npz or a folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput

AnnotationKind = Literal["boxes", "masks"]


class Annotations(NamedTuple):
    """One label per sample.

    Boxes are samples × most × 5 (x1, y1, x2, y2 in pixels of the raw image, class number; rows of class -1 are
    empty). Masks are an array of objects, each a file's path or height × width class numbers.
    """

    kind: AnnotationKind
    labels: NDArray[Any]
    class_names: tuple[str, ...] = ()


def annotations_of_arrays(path: Path, arrays: dict[str, NDArray[Any]], count: int) -> Annotations | None:
    """The arrays `boxes` and `classes`, or `masks`, of an .npz; None where there are none."""
    if "masks" in arrays:
        return Annotations("masks", _masks(path, arrays["masks"], count))
    if "boxes" not in arrays:
        return None
    if "classes" not in arrays:
        raise WrongInput(
            f"{path}: has boxes but no classes", hint=f"np.savez({path.name!r}, ..., boxes=boxes, classes=classes)"
        )
    return Annotations("boxes", _boxes(path, arrays["boxes"], arrays["classes"], count))


def _boxes(path: Path, boxes: NDArray[Any], classes: NDArray[Any], count: int) -> NDArray[np.float32]:
    if boxes.ndim != 3 or boxes.shape[0] != count or boxes.shape[2] != 4 or boxes.dtype.kind not in "fiu":
        raise WrongInput(f"{path}: boxes are {_told(boxes)}, wanted {count} x most x 4 numbers (x1, y1, x2, y2)")
    if classes.shape != boxes.shape[:2] or classes.dtype.kind not in "iu":
        wanted = "x".join(map(str, boxes.shape[:2]))
        raise WrongInput(f"{path}: classes are {_told(classes)}, wanted {wanted} whole numbers, -1 for none")
    real = classes >= 0
    if not np.isfinite(boxes[real]).all():
        raise WrongInput(f"{path}: a box holds a value that is not finite (NaN or infinity)")
    turned = (real & (boxes[..., 2:] < boxes[..., :2]).any(axis=2)).any(axis=1)
    if turned.any():
        raise WrongInput(
            f"{path}: sample {int(turned.argmax())} has a box that ends before it begins",
            hint="boxes are x1, y1, x2, y2 in pixels; for x, y, width, height: boxes[..., 2:] += boxes[..., :2]",
        )
    labels = np.concatenate([boxes, classes[..., None]], axis=2, dtype=np.float32)
    labels[~real] = -1
    return labels


def _masks(path: Path, masks: NDArray[Any], count: int) -> NDArray[Any]:
    if masks.ndim != 3 or len(masks) != count or masks.dtype.kind not in "iub":
        raise WrongInput(f"{path}: masks are {_told(masks)}, wanted {count} x height x width class numbers")
    if masks.size and (int(masks.min()) < 0 or int(masks.max()) > 255):
        raise WrongInput(f"{path}: a mask holds {int(masks.min())}..{int(masks.max())}, wanted 0..255")
    return _objects(list(masks.astype(np.uint8)))


def _objects(items: Sequence[Any]) -> NDArray[Any]:
    labels = np.empty(len(items), object)
    for place, item in enumerate(items):
        labels[place] = item
    return labels


def _told(array: NDArray[Any]) -> str:
    return f"{'x'.join(map(str, array.shape)) or 'one number'} {array.dtype}"


def annotations_of_folder(root: Path, files: Sequence[Path]) -> Annotations | None:
    """The boxes of `annotations.json` (COCO) or the masks of `masks/`; None where there is neither.

    Raises WrongInput, in one sentence, for a file that cannot be read and for an image that is not annotated.
    """
    if (root / "annotations.json").is_file():
        return _of_coco(root, root / "annotations.json", files)
    if not ((root / "masks").is_dir() and (root / "images").is_dir()):
        return None
    masks = [root / "masks" / f"{file.stem}.png" for file in files]
    missing = [mask for mask in masks if not mask.is_file()]
    if missing:
        raise WrongInput(f"{root}: {len(missing)} of {len(masks)} images have no mask, the first is {missing[0]}")
    return Annotations("masks", _objects(masks))


def _of_coco(root: Path, listed: Path, files: Sequence[Path]) -> Annotations:
    try:
        text = json.loads(listed.read_text(encoding="utf-8"))
        ids = {str(image["file_name"]): image["id"] for image in text["images"]}
        names = {one["id"]: str(one["name"]) for one in text["categories"]}
        rows = [
            (one["image_id"], *map(float, one["bbox"]), one["category_id"])
            for one in text["annotations"] if not one.get("iscrowd", 0)
        ]  # fmt: skip
        numbers = {category: number for number, category in enumerate(sorted(names))}
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WrongInput(f"{listed}: this is no readable JSON ({error})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WrongInput(f"{listed}: this is no COCO file (images, annotations, categories): {error!r}") from error
    places = _places(root, listed, files, ids)
    found: list[list[tuple[float, ...]]] = [[] for _ in files]
    for row in rows:
        if len(row) != 6 or row[0] not in places or row[5] not in numbers:
            raise WrongInput(f"{listed}: an annotation wants 4 numbers, a listed image and category; got {row}")
        image, left, top, width, height, category = row
        if not np.isfinite(row[1:5]).all() or width < 0 or height < 0:
            raise WrongInput(f"{listed}: image {image} has a box of {width:g} x {height:g} pixels")
        found[places[image]].append((left, top, left + width, top + height, numbers[category]))
    return Annotations("boxes", _padded(found), tuple(names[category] for category in sorted(names)))


def _places(root: Path, listed: Path, files: Sequence[Path], ids: dict[str, Any]) -> dict[Any, int]:
    """Image id → place among `files`; images are named from the root, or from its folder images/."""
    places: dict[Any, int] = {}
    for place, file in enumerate(files):
        name = file.relative_to(root)
        inner = Path(*name.parts[1:]) if name.parts[0] == "images" and len(name.parts) > 1 else name
        image = ids.get(str(name), ids.get(str(inner)))
        if image is None:
            raise WrongInput(f"{listed}: lists no image {name}")
        places[image] = place
    absent = [name for name, image in ids.items() if image not in places]
    if absent:
        raise WrongInput(f"{listed}: lists {absent[0]}, which is not there ({len(absent)} of {len(ids)} are not)")
    return places


def _padded(found: Sequence[Sequence[tuple[float, ...]]]) -> NDArray[np.float32]:
    labels = np.full((len(found), max(1, max(map(len, found), default=0)), 5), -1, np.float32)
    for place, rows in enumerate(found):
        labels[place, : len(rows)] = np.array(rows, np.float32).reshape(-1, 5)
    return labels


def read_mask(label: Any) -> NDArray[np.uint8]:
    """Height × width class numbers of one mask. Raises WrongInput for a file that is no grey or palette image."""
    if isinstance(label, np.ndarray):
        return label
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(label) as image:
            if image.mode not in ("L", "P", "1"):
                raise WrongInput(f"{label}: is an image in {image.mode}; a mask is one byte per pixel, grey or palette")
            return np.asarray(image, np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise WrongInput(f"{label}: this mask cannot be decoded", hint=f"remove it, or replace it: {label}") from error
