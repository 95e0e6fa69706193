"""The shop of `rates.py`, with a page to look at it while it runs."""

from rates import PARTS

from trioworker import Engine, EngineConfig, self_manifold
from trioworker.workers.agent.introspection import Config, manifold

engine = Engine(EngineConfig(name="shop"))
page = manifold(Config(port=8321, token="change-this-token"))
engine.install_all({**PARTS, "engine": self_manifold(engine), "introspection": page})
