"""Any picture network of timm with one input channel, pooled and scored our way.

Imports torch and timm: imported by `network` alone. Unpickling a network imports this module
first, so the gap of torchvision is closed in every process.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from birdstack.embeddings.hub import no_weights
from birdstack.embeddings.pooling import GemPool, SedPool
from birdstack.embeddings.torchvision_gap import import_timm
from birdstack.store.errors import ConfigError

timm: Any = import_timm()

Pooling = Literal["avg", "stages", "gem", "sed"]
_MAP = 4  # dimensions of [b, channel, height, width]
_STAGES = 2


class TimmNetwork(nn.Module):
    """A trunk of timm, a pooling and a linear head.

    The embedding is the pooled features; the logits are linear in it (with `sed` they are
    attended over frames). With `avg` a convolutional trunk pools as its authors made it, so
    that what some families do behind the pooling (MobileNet, EfficientViT) is kept; the
    tokens of a ViT are averaged, without class tokens. With `stages` the embedding is the mean
    of each of the last two stages' maps, one behind the other, and what follows them is left
    out: what a trunk has made for its own classes alone.

    Args:
        model: timm's name.
        size: height and width of the picture.
        n_classes: length of the logits; 0: embeddings only.
        pooling: `avg`, `stages`, `gem` or `sed`.
        pretrained: start from timm's weights (from its hub; three input channels are summed
            into one, so a picture counts as the same picture in each of three channels).

    Attributes:
        dim: length of an embedding.
        n_classes: length of the logits.
        input_shape: `(1, height, width)`.

    Raises:
        ConfigError: the trunk cannot take a picture of that size, or cannot be pooled so.
    """

    def __init__(
        self,
        model: str,
        size: tuple[int, int],
        *,
        n_classes: int = 0,
        pooling: Pooling = "avg",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.input_shape = (1, *size)
        self.n_classes = n_classes
        self.pooling = pooling
        self.trunk = _trunk(model, size, pretrained=pretrained)
        self.pool: nn.Module | None = None
        self._channels = int(self.trunk.num_features)
        features = _probe(self.trunk, model, size)
        # The layout is settled here, so that a traced forward has no branches left.
        self._prefix = int(getattr(self.trunk, "num_prefix_tokens", 0))  # tokens of no patch
        self._tokens = features.ndim != _MAP
        self._last = features.shape[1] != self._channels == features.shape[-1]
        self._grid = _token_grid(self.trunk, features.shape[1] - self._prefix)
        if pooling == "sed":
            if n_classes == 0:
                message = f"model {model!r}: pooling sed scores classes, got n_classes=0"
                raise ConfigError(message, remedy="Give the classes, or use pooling avg.")
            if self._tokens and self._grid is None:
                message = f"model {model!r}: its tokens have no order in time, as sed needs"
                raise ConfigError(message, remedy="Use pooling avg, or another model.")
        if pooling == "sed":
            self.pool = SedPool(self._channels, n_classes)
        elif pooling == "gem":
            self.pool = GemPool()
        if pooling == "stages":
            self.dim = _stages(self.trunk, torch.zeros(1, 1, *size)).shape[1]
        else:
            self.dim = self._channels if self.pool is not None else self._pooled(features).shape[1]
        linear = n_classes > 0 and pooling != "sed"
        self.head = nn.Linear(self.dim, n_classes) if linear else None

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pictures `[b, 1, height, width]` to `(embedding,)` or `(embedding, logits)`.

        Embeddings are `[b, dim]`, logits `[b, class]`.
        """
        if self.pooling == "stages":
            staged = _stages(self.trunk, pictures)
            return (staged,) if self.head is None else (staged, self.head(staged))
        features = self.trunk.forward_features(pictures)
        if isinstance(self.pool, SedPool):
            both: tuple[torch.Tensor, ...] = self.pool(self._map(features))
            return both
        pooled = self._pooled(features) if self.pool is None else self.pool(self._map(features))
        return (pooled,) if self.head is None else (pooled, self.head(pooled))

    def frames(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits of every frame of the trunk's map, `[b, frame, class]`; for `sed` only.

        Raises:
            ConfigError: the network has another pooling.
        """
        if not isinstance(self.pool, SedPool):
            message = f"logits of frames need pooling sed, this network has {self.pooling}"
            raise ConfigError(message, remedy="Train a network with pooling sed.")
        return self.pool.frames(self._map(self.trunk.forward_features(pictures)))

    def _pooled(self, features: torch.Tensor) -> torch.Tensor:
        """The trunk's own average, `[b, dim]`."""
        if self._tokens:
            return features[:, self._prefix :].mean(dim=1)
        pooled: torch.Tensor = self.trunk.forward_head(features, pre_logits=True)
        return pooled

    def _map(self, features: torch.Tensor) -> torch.Tensor:
        """Features as `[b, channel, height, width]`, whatever the family's layout."""
        if not self._tokens:
            return features.permute(0, 3, 1, 2) if self._last else features
        height, width = self._grid or (-1, 1)
        tokens = features[:, self._prefix :].transpose(1, 2)
        return tokens.reshape(tokens.shape[0], self._channels, height, width)


def _trunk(model: str, size: tuple[int, int], *, pretrained: bool) -> Any:
    """The model without its classifier."""
    fixed = bool(timm.get_pretrained_cfg(model).fixed_input_size)
    sized = {"img_size": size} if fixed else {}
    try:
        return timm.create_model(model, pretrained=pretrained, in_chans=1, num_classes=0, **sized)
    except (AssertionError, TypeError, ValueError) as error:
        message = f"model {model!r} cannot be built for a picture of {size[0]}x{size[1]}: {error}"
        raise ConfigError(
            message, remedy="Set height and width of the mel picture to what the model takes."
        ) from error
    except Exception as error:  # a download ends in any way: each transport has errors of its own
        if pretrained:
            raise no_weights(model, str(error)) from error
        raise


def _probe(trunk: Any, model: str, size: tuple[int, int]) -> torch.Tensor:
    """Features of an empty picture, for their shape."""
    trunk.eval()
    try:
        with torch.no_grad():
            features = trunk.forward_features(torch.zeros(1, 1, *size))
    except (AssertionError, RuntimeError, ValueError) as error:
        message = f"model {model!r} cannot take a picture of {size[0]}x{size[1]}: {error}"
        raise ConfigError(
            message, remedy="Set height and width of the mel picture to what the model takes."
        ) from error
    if not isinstance(features, torch.Tensor) or features.ndim not in (_MAP - 1, _MAP):
        message = f"model {model!r} does not give one map of features or one row of tokens"
        raise ConfigError(message, remedy="Use another model.")
    return features


def _stages(trunk: Any, pictures: torch.Tensor) -> torch.Tensor:
    """Means over the maps of the last two stages, `[b, dim]`."""
    maps = trunk.forward_intermediates(
        pictures, indices=_STAGES, intermediates_only=True, output_fmt="NCHW"
    )
    return torch.cat([each.mean(dim=(2, 3)) for each in maps], dim=1)


def _token_grid(trunk: Any, n_tokens: int) -> tuple[int, int] | None:
    """Rows and columns of a ViT's patches, where its tokens still are those patches."""
    grid = getattr(getattr(trunk, "patch_embed", None), "grid_size", None)
    if grid is None or int(grid[0]) * int(grid[1]) != n_tokens:
        return None
    return int(grid[0]), int(grid[1])
