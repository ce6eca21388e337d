"""How a whole network is trained, in configuration: the section `[train]` of the settings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.store.errors import ConfigError

TRAIN_VERSION = 1
"""Raised when the same data and configuration give another network than before."""

_NO_MATTER = {"device", "threads", "checkpoint_every_s", "sound_cache_mb", "log_every"}


class TrainConfig(BaseModel):
    """One training of a whole network, for each fold alike.

    The augmentations that are on are those that an ablation on BirdCLEF 2024 found to help
    (a random start; a horizontal CutMix, by .014 to .031 of the score) or to do no harm
    (masks of time and frequency). Mixup, noise, gain, shift and the horizontal flip lost
    there, and are off; a gain changes nothing in pictures normalised by window anyway.

    Attributes:
        epochs: passes over the training data, each of `epoch_windows` windows.
        epoch_windows: windows drawn in an epoch; None: as many as there are recordings to
            draw from (windows, in recordings that are labelled by window).
        batch_size: windows in a step.
        lr: highest learning rate, of the head and, times `trunk_lr_scale`, of the trunk
            (AdamW, Loshchilov & Hutter 2019).
        trunk_lr_scale: see `lr`; below 1 keeps more of what a pretrained trunk knows.
        freeze_epochs: epochs at the start in which the head alone learns and the trunk stays
            as it is.
        weight_decay: of AdamW, on matrices and kernels; biases and norms have none.
        warmup_epochs: epochs in which the learning rate rises from 0; at most half of the
            training.
        final_lr: share of `lr` that the half cosine after the warm-up ends at.
        max_grad_norm: the gradient's norm is cut to it.
        ema_decay: of the moving average of the weights, which is what is validated and kept;
            reached gradually, min(ema_decay, (1 + step) / (10 + step)). 0: no average.
        loss: `softmax` (cross entropy, the target shared among the present classes), `bce`
            (binary cross entropy of each class) or `focal` (Lin et al. 2017, gamma 2, alpha
            .25). Windows without any present class teach nothing under `softmax`.
        label_smoothing: share of the target that is spread evenly.
        class_balance: exponent e of the weight (n / N)^-e of a recording of a class with n of
            the N training recordings; 0: every recording alike.
        rating_weights: draw a recording in proportion to its rating (an unrated one: to the
            mean rating).
        cutmix_p: chance that a stretch of the window is taken from another of the batch;
            labels are mixed in proportion to time.
        mixup_p: chance that another window of the batch is added, at 30 to 70 % of the sum;
            what is present in either is present.
        time_mask_p: chance of masking a stretch of time (SpecAugment, Park et al. 2019).
        time_mask_max: longest mask as a share of the picture's width.
        frequency_mask_p: chance of masking a band of frequencies.
        frequency_mask_max: highest mask as a share of the picture's height.
        gain_p: chance of another level.
        gain_db: largest change of level.
        noise_p: chance of adding noise of a colour between white and brown.
        noise_snr_db_min: loudest noise, in dB that the window's mean power stands above it.
        noise_snr_db_max: faintest noise.
        shift_p: chance of a circular shift in time.
        flip_p: chance of playing the window backwards.
        select: `last` keeps the weights after the last epoch; `best` those of the epoch with
            the best macro AUC on the held-out fold. `best` has looked at the held-out fold:
            its out-of-fold scores are slightly too good, which a stacker would learn to trust.
        patience: with `select = "best"`, epochs without a better macro AUC after which
            training ends; None: never. Refused with `last`.
        validate_every: epochs between validations; the last epoch is always validated.
        precision: `fp32`, or `bf16` (autocast to bfloat16). `auto` is bf16 on a GPU that
            computes in it and fp32 on a processor: there, networks of depthwise convolutions
            gained nothing or lost, AMX or not.
        channels_last: lay pictures out channel by channel (faster for convolutions).
        device: `cpu`, `cuda`, or `auto`: a GPU if there is one.
        threads: of the processor; None: as many as there are cores.
        seed: of every draw. On a processor, the same seed, data, configuration and number of
            threads give the same network, also where training was interrupted. On a GPU they
            give the same draws, but sums are not always taken in the same order.
        checkpoint_every_s: seconds between checkpoints; 0: after every step.
        sound_cache_mb: decoded sounds kept in memory, in MiB.
        log_every: steps between lines of the metrics log; the last step of an epoch has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=30, ge=1, le=10_000)
    epoch_windows: int | None = Field(default=None, ge=1, le=10**9)
    batch_size: int = Field(default=32, ge=2, le=4096)
    lr: float = Field(default=1e-3, gt=0, le=10)
    trunk_lr_scale: float = Field(default=1.0, ge=0, le=10)
    freeze_epochs: int = Field(default=0, ge=0, le=10_000)
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    warmup_epochs: float = Field(default=1.0, ge=0, le=10_000)
    final_lr: float = Field(default=0.01, ge=0, le=1)
    max_grad_norm: float = Field(default=10.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    loss: Literal["softmax", "bce", "focal"] = "softmax"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_balance: float = Field(default=0.5, ge=0, le=2)
    rating_weights: bool = False
    cutmix_p: float = Field(default=0.5, ge=0, le=1)
    mixup_p: float = Field(default=0.0, ge=0, le=1)
    time_mask_p: float = Field(default=0.5, ge=0, le=1)
    time_mask_max: float = Field(default=0.2, gt=0, le=1)
    frequency_mask_p: float = Field(default=0.5, ge=0, le=1)
    frequency_mask_max: float = Field(default=0.2, gt=0, le=1)
    gain_p: float = Field(default=0.0, ge=0, le=1)
    gain_db: float = Field(default=6.0, gt=0, le=60)
    noise_p: float = Field(default=0.0, ge=0, le=1)
    noise_snr_db_min: float = Field(default=3.0, ge=-60, le=120)
    noise_snr_db_max: float = Field(default=30.0, ge=-60, le=120)
    shift_p: float = Field(default=0.0, ge=0, le=1)
    flip_p: float = Field(default=0.0, ge=0, le=1)
    select: Literal["last", "best"] = "last"
    patience: int | None = Field(default=None, ge=1, le=10_000)
    validate_every: int = Field(default=1, ge=1, le=10_000)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=1024)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    checkpoint_every_s: float = Field(default=60.0, ge=0)
    sound_cache_mb: int = Field(default=1024, ge=1, le=1 << 22)
    log_every: int = Field(default=10, ge=1, le=10**9)

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.patience is not None and self.select == "last":
            message = (
                f"patience={self.patience} ends training where the held-out fold says so, which "
                "select='last' promises not to ask: set select='best' or leave patience out"
            )
            raise ValueError(message)
        if self.noise_snr_db_min > self.noise_snr_db_max:
            message = (
                f"noise_snr_db_min={self.noise_snr_db_min:g} must not be above "
                f"noise_snr_db_max={self.noise_snr_db_max:g}"
            )
            raise ValueError(message)
        return self

    @property
    def recipe(self) -> dict[str, Any]:
        """JSON-able: what determines the trained network, given data, backbone and fold.

        Not in it: `device`, `threads`, `checkpoint_every_s`, `sound_cache_mb`, `log_every`.
        """
        return {"version": TRAIN_VERSION, **self.model_dump(mode="json", exclude=_NO_MATTER)}

    def chosen_device(self) -> str:
        """`cpu` or `cuda`.

        Raises:
            ConfigError: a GPU is asked for and there is none.
        """
        import torch  # noqa: PLC0415 - importing this module stays light

        found = torch.cuda.is_available()
        if self.device == "cuda" and not found:
            message = "train.device is cuda, but torch finds no GPU here"
            raise ConfigError(message, remedy="set train.device to auto or cpu")
        return "cuda" if found and self.device != "cpu" else "cpu"

    def chosen_precision(self, device: str) -> Literal["fp32", "bf16"]:
        """Precision of the arithmetic on a device."""
        if self.precision != "auto":
            return self.precision
        if device == "cpu":
            return "fp32"
        import torch  # noqa: PLC0415 - importing this module stays light

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
