"""A module with other tensors in it, while the module itself is not touched."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
# Which class a layer has in the copy: its own, unless an engine of this thread has a faster one; see `training.fused`.
layer_class: ContextVar[Callable[[nn.Module], type[nn.Module]]] = ContextVar("layer_class", default=type)


def with_tensors(module: Module, tensors: Mapping[str, Tensor]) -> Module:
    """A copy of the module that has these parameters and buffers, by name, in place of its own and shares the rest.

    `torch.func.functional_call` would put the tensors on the module itself while it runs, where a second thread that
    uses the network meets them. What ``forward`` assigns to ``self`` stays on the copy, which is forgotten.

    Raises:
        KeyError: if the module has no tensor of that name.
    """
    own: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        layer = module.get_submodule(path)
        own[id(layer._parameters[leaf] if leaf in layer._parameters else layer._buffers[leaf])] = tensor
    return copied(module, own, {})  # type: ignore[return-value]


def copied(layer: nn.Module, own: dict[int, Tensor], copies: dict[int, nn.Module]) -> nn.Module:
    """The layer with ``own`` tensors, by the identity of those they replace; a layer that is there twice stays one."""
    if id(layer) not in copies:
        copies[id(layer)] = twin = object.__new__(layer_class.get()(layer))
        parts: dict[str, Any] = dict(vars(layer))
        for kind in ("_parameters", "_buffers"):
            parts[kind] = {name: own.get(id(tensor), tensor) for name, tensor in parts[kind].items()}
        parts.pop("_compiled_call_impl", None)  # of net.compile(), which calls the module itself
        parts["_forward_hooks"] = parts["_forward_hooks"].copy()  # a hook on the copy is no hook on the module
        parts["_modules"] = {name: part and copied(part, own, copies) for name, part in layer._modules.items()}
        vars(twin).update(parts)
    return copies[id(layer)]
