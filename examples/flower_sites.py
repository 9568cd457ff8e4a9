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
from dataclasses import replace
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
    first = read_bundle(Path(str(context.run_config["start"])))
    node = context.node_config
    with tempfile.TemporaryDirectory() as folder:
        start, out = Path(folder) / "start.safetensors", Path(folder) / "local.safetensors"
        write_bundle(start, replace(first, head=message.content["arrays"].to_torch_state_dict()))
        settings = continued_settings(
            {
                "continuing": {"model": str(start)},
                "data": {"layout": str(node["layout"]), "test_split": ""},
                "optimiser": {"epochs": int(context.run_config.get("epochs", 2))},
            }
        )
        train_model(Path(str(node["data"])), out, settings)
        trained = read_bundle(out)
    told = trained.card.training
    counts = {f"{POSITIVES} {name}": count for name, count in told[POSITIVES].items()}
    metrics = MetricRecord({"num-examples": told["images"], **counts})
    return Message(RecordDict({"arrays": ArrayRecord(dict(trained.head)), "metrics": metrics}), reply_to=message)


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
    first = read_bundle(start)
    result = ByClass(first.card.classes.names).start(
        grid=grid, initial_arrays=ArrayRecord(dict(first.head)), num_rounds=int(context.run_config.get("rounds", 3))
    )
    federated = replace(first, head=result.arrays.to_torch_state_dict())
    write_bundle(start.with_name(f"{start.stem}-federated.safetensors"), federated)
