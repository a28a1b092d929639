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
    cls, copies = layer_class.get(), dict[int, nn.Module]()

    def copy(layer: nn.Module) -> nn.Module:
        if id(layer) not in copies:  # a layer may be in the network twice
            copies[id(layer)] = twin = object.__new__(cls(layer))
            parts: dict[str, Any] = {kind: vars(layer)[kind] for kind in ("_parameters", "_buffers", "_modules")}
            for kind in ("_parameters", "_buffers"):
                parts[kind] = {name: own.get(id(tensor), tensor) for name, tensor in parts[kind].items()}
            parts["_modules"] = {name: part if part is None else copy(part) for name, part in layer._modules.items()}
            vars(twin).update(vars(layer) | parts)
        return copies[id(layer)]

    return copy(module)  # type: ignore[return-value]
