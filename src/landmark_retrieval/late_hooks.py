"""Hooks that come with the first run: a command that runs nothing loads neither MLflow nor PyTorch."""

from __future__ import annotations

from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl


class LateHooks:
    """Registers the hooks of `landmark_retrieval.hooks` once a run has its context."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Load and register the hooks, and let them see the context, which they came too late for."""
        from landmark_retrieval.chain_hooks import ChainHooks
        from landmark_retrieval.hooks import ArtifactHooks, ExperimentHooks
        from landmark_retrieval.store_hooks import StoreHooks, TurnHooks

        manager = context._hook_manager
        # Kedro calls the last one first: a run waits for its turn before it is tracked.
        late: list[Any] = [ChainHooks(), ArtifactHooks(), StoreHooks(), ExperimentHooks(), TurnHooks()]
        for hooks in late:
            if not any(type(known) is type(hooks) for known in manager.get_plugins()):
                manager.register(hooks)
                if hasattr(hooks, "after_context_created"):
                    hooks.after_context_created(context)
