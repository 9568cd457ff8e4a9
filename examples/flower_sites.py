"""Federated rounds with Flower (https://flower.ai): heads travel, images stay at their sites.

Tried with flwr 1.41. A Flower app needs its own pyproject.toml beside this file:

    [project]
    name = "dualproto-sites"
    version = "1.0.0"
    dependencies = ["flwr>=1.41", "dualproto-wsi"]
    [tool.flwr.app]
    publisher = "you"
    [tool.flwr.app.components]
    serverapp = "flower_sites:server"
    clientapp = "flower_sites:client"
    [tool.flwr.app.config]
    start = "/shared/start.safetensors"    # the bundle that all sites begin with; every machine has a copy
    rounds = 5

Each site is a node with ``--node-config 'data="/site/tiles" layout="table"'``. What this adds to Flower's federated
averaging: prototypes of a class are weighted by the positive images of that class (`dualproto-wsi fed aggregate` does
the same with files). Flower moves arrays in the clear unless its own TLS and privacy modules are set up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from dualproto_wsi.model.checkpoint import read_bundle, write_bundle
from dualproto_wsi.workflow.training.card import POSITIVES
from dualproto_wsi.workflow.training.continuing import continued_settings
from dualproto_wsi.workflow.training.federate import average
from dualproto_wsi.workflow.training.train import train_model

client, server = ClientApp(), ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Go on from the head that came, on this site's images; send the new head and how many images were positive."""
    card, _ = read_bundle(Path(str(context.run_config["start"])))
    node = context.node_config
    with tempfile.TemporaryDirectory() as folder:
        start, out = Path(folder) / "start.safetensors", Path(folder) / "local.safetensors"
        write_bundle(start, card, message.content["arrays"].to_torch_state_dict())
        settings = continued_settings(
            {
                "continuing": {"model": str(start)},
                "data": {"layout": str(node["layout"]), "test_split": ""},
                "optimiser": {"epochs": int(context.run_config.get("epochs", 2))},
            }
        )
        train_model(Path(str(node["data"])), out, settings)
        card, head = read_bundle(out)
    counts = {f"{POSITIVES} {name}": count for name, count in card.training[POSITIVES].items()}
    metrics = MetricRecord({"num-examples": card.training["images"], **counts})
    return Message(RecordDict({"arrays": ArrayRecord(head), "metrics": metrics}), reply_to=message)


class ByClass(FedAvg):
    """Federated averaging in which a site counts for a class as much as it has positive images of it."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(fraction_evaluate=0.0)
        self._classes = classes

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the heads that came back; sites that failed are left out of the round."""
        good = [reply.content for reply in replies if not reply.has_error()]
        if not good:
            return None, None
        heads = [content["arrays"].to_torch_state_dict() for content in good]
        positives = [[content["metrics"][f"{POSITIVES} {name}"] for name in self._classes] for content in good]
        return ArrayRecord(average(heads, np.array(positives, np.float64))), MetricRecord({"sites": len(good)})


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds and write the last average beside the bundle that they began with."""
    start = Path(str(context.run_config["start"]))
    card, head = read_bundle(start)
    result = ByClass(card.classes.names).start(
        grid=grid, initial_arrays=ArrayRecord(head), num_rounds=int(context.run_config.get("rounds", 3))
    )
    write_bundle(start.with_name(f"{start.stem}-federated.safetensors"), card, result.arrays.to_torch_state_dict())
