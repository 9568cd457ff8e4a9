"""What a version of QuPath makes of a file."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dualproto_wsi.vector.qupath.contents import Contents, Refusal
from dualproto_wsi.vector.qupath.features import read_measurements
from dualproto_wsi.vector.qupath.gson import Refused
from dualproto_wsi.vector.qupath.objects import ReadObject, hold_objects
from dualproto_wsi.vector.qupath.remarks import find_costs, find_losses, find_surprises
from dualproto_wsi.vector.qupath.rois import read_rois
from dualproto_wsi.vector.qupath.rules import Reader


@dataclass(frozen=True, slots=True)
class Reading:
    """What a version makes of a file.

    Parameters
    ----------
    version : str
        QuPath's version.
    refusal : Refusal or None
        Why it does not read it; then there are no objects.
    objects : list of ReadObject
        Parents before those inside them.
    losses : tuple of str
        What the file holds and QuPath does not.
    warnings : tuple of str
        What is read otherwise than one may think.
    costs : tuple of str
        What makes QuPath slow.
    """

    version: str
    refusal: Refusal | None = None
    objects: list[ReadObject] = field(default_factory=list)
    losses: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()


@np.errstate(all="ignore")  # geometries that are not finite are what is told of
def read_as(contents: Contents, reader: Reader, classes: dict[str, int | None] | None = None) -> Reading:
    """Read a file as a version of QuPath does.

    Parameters
    ----------
    contents : Contents
        The file.
    reader : Reader
        The version.
    classes : dict of str to int, optional
        Colours of the classes that the session knows, which stay as they are; classes of the file are added.

    Returns
    -------
    Reading
    """
    rois = read_rois(contents.shapes, contents.geometries, contents.sound, reader)
    refusals, measurements = list(contents.refusals), []
    at_fault = {refusal.feature for refusal in refusals}
    for number, item in enumerate(contents.items):
        reason = rois.refused.get(number) or rois.refused.get(number + len(contents.items))
        try:
            measurements.append(read_measurements(item, reader))
        except Refused as refused:
            reason = str(refused)
        if reason and item.feature not in at_fault:
            at_fault.add(item.feature)
            refusals.append(Refusal(reason, item.feature, item.written_id, 1))
    if refusals:
        first = min(refusals, key=lambda refusal: -1 if refusal.feature is None else refusal.feature)
        return Reading(
            reader.version, Refusal(first.reason, first.feature, first.id, sum(r.features for r in refusals))
        )
    objects = list(hold_objects(contents, rois, measurements, reader, {} if classes is None else classes))
    remarks = (tuple(find(contents, objects)) for find in (find_losses, find_surprises, find_costs))
    return Reading(reader.version, None, objects, *remarks)
