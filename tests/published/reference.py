"""Published CNNs as functions of their tensors, by the published names: independent of the package, plain and slow."""

import torch
import torch.nn.functional as F

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LUPERSON = ((0.3525, 0.3106, 0.3140), (0.2660, 0.2522, 0.2505))
MGN_PARTS = ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33")


def normalised(images, mean, std):
    """Map uint8 (B, H, W, 3) to float32 (B, 3, H, W)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(mean).reshape(1, 3, 1, 1)) / torch.tensor(std).reshape(1, 3, 1, 1)


def batch_norm(x, state, name):
    parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *parts)


def norm(x, state, name):
    """Apply a batch norm, or IBN-a's pair where the state has it."""
    if f"{name}.IN.weight" not in state:
        return batch_norm(x, state, name)
    half = len(state[f"{name}.IN.weight"])
    first = F.instance_norm(x[:, :half], weight=state[f"{name}.IN.weight"], bias=state[f"{name}.IN.bias"])
    return torch.cat([first, batch_norm(x[:, half:], state, f"{name}.BN")], dim=1)


def bottleneck(x, state, name, stride):
    out = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"]), state, f"{name}.bn1"))
    out = F.conv2d(out, state[f"{name}.conv2.weight"], stride=stride, padding=1)
    out = F.relu(norm(out, state, f"{name}.bn2"))
    out = norm(F.conv2d(out, state[f"{name}.conv3.weight"]), state, f"{name}.bn3")
    if f"{name}.downsample.0.weight" in state:
        shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = norm(shortcut, state, f"{name}.downsample.1")
    return F.relu(out + x)


def stage(x, state, name, stride=1):
    number = 0
    while f"{name}.{number}.conv1.weight" in state:
        x = bottleneck(x, state, f"{name}.{number}", stride if number == 0 else 1)
        number += 1
    assert number
    return x


def stem(x, state, convolution, name, *, ceil):
    x = F.relu(norm(F.conv2d(x, state[f"{convolution}.weight"], stride=2, padding=3), state, name))
    return F.max_pool2d(x, 3, 2, padding=0 if ceil else 1, ceil_mode=ceil)


def resnet(x, state, prefix="", *, last_stride, ceil=False):
    """Return the last map of a bottleneck ResNet."""
    x = stem(x, state, f"{prefix}conv1", f"{prefix}bn1", ceil=ceil)
    for number, stride in enumerate((1, 2, 2, last_stride), start=1):
        x = stage(x, state, f"{prefix}layer{number}", stride)
    return x


def gem(x, power):
    return F.adaptive_avg_pool2d(x.clamp(min=1e-6) ** power, 1) ** (1 / power)


def mgn(x, state, *, ceil):
    """Return the eight parts of fast-reid's MGN, one after the other, each behind its norm."""
    x = stem(x, state, "backbone.0", "backbone.1", ceil=ceil)
    x = stage(stage(x, state, "backbone.4"), state, "backbone.5", 2)
    x = bottleneck(x, state, "backbone.6", 2)
    maps = {}
    for branch, count in (("b1", 1), ("b2", 2), ("b3", 3)):
        whole = stage(stage(x, state, f"{branch}.0"), state, f"{branch}.1")
        if f"heads_extra_bn_{branch}.weight" in state:
            whole = batch_norm(whole, state, f"heads_extra_bn_{branch}")
        maps[branch] = whole
        rows = whole.shape[2] // count
        cut = whole.split(rows, dim=2) if count > 1 else ()
        maps |= {f"{branch}{number}": piece for number, piece in enumerate(cut, start=1)}
    parts = []
    for part in MGN_PARTS:
        pooled = gem(maps[part], state[f"{part}_head.pool_layer.p"])
        reduced = F.conv2d(pooled, state[f"{part}_head.bottleneck.0.weight"])
        parts.append(batch_norm(reduced, state, f"{part}_head.bottleneck.1").flatten(1))
    return torch.cat(parts, dim=1)


# ---- random tensors by the published names


class Drawn(dict):
    """Tensors that are drawn one after the other from a generator."""

    def __init__(self, seed=0):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, name, *shape):
        fan = shape[0] if len(shape) == 1 else torch.Size(shape[1:]).numel()
        self[name] = torch.randn(*shape, generator=self.generator) * (2 / fan) ** 0.5

    def positive(self, name, *shape):
        self[name] = torch.rand(*shape, generator=self.generator) + 0.5

    def batch_norm(self, name, channels):
        self.positive(f"{name}.weight", channels)
        self.normal(f"{name}.bias", channels)
        self.normal(f"{name}.running_mean", channels)
        self.positive(f"{name}.running_var", channels)

    def norm(self, name, channels, *, ibn=False):
        if not ibn:
            return self.batch_norm(name, channels)
        self.positive(f"{name}.IN.weight", channels // 2)
        self.normal(f"{name}.IN.bias", channels // 2)
        return self.batch_norm(f"{name}.BN", channels - channels // 2)

    def block(self, name, before, hidden, *, shortcut, ibn=False):
        self.normal(f"{name}.conv1.weight", hidden, before, 1, 1)
        self.norm(f"{name}.bn1", hidden, ibn=ibn)
        self.normal(f"{name}.conv2.weight", hidden, hidden, 3, 3)
        self.norm(f"{name}.bn2", hidden)
        self.normal(f"{name}.conv3.weight", 4 * hidden, hidden, 1, 1)
        self.norm(f"{name}.bn3", 4 * hidden)
        if shortcut:
            self.normal(f"{name}.downsample.0.weight", 4 * hidden, before, 1, 1)
            self.norm(f"{name}.downsample.1", 4 * hidden)

    def stage(self, name, before, hidden, count, *, ibn=False):
        for number in range(count):
            self.block(f"{name}.{number}", before if number == 0 else 4 * hidden, hidden, shortcut=number == 0, ibn=ibn)

    def resnet(self, prefix="", *, width=4, ibn=False):
        self.normal(f"{prefix}conv1.weight", width, 3, 7, 7)
        self.norm(f"{prefix}bn1", width)
        before = width
        for number, count in enumerate((3, 4, 6, 3)):
            hidden = width * 2**number
            self.stage(f"{prefix}layer{number + 1}", before, hidden, count, ibn=ibn and number < 3)
            before = 4 * hidden

    def mgn(self, *, width=4, part=6, map_norms=False):
        self.normal("backbone.0.weight", width, 3, 7, 7)
        self.norm("backbone.1", width)
        self.stage("backbone.4", width, width, 3)
        self.stage("backbone.5", 4 * width, 2 * width, 4)
        self.block("backbone.6", 8 * width, 4 * width, shortcut=True)
        for branch in ("b1", "b2", "b3"):
            for number in range(5):
                self.block(f"{branch}.0.{number}", 16 * width, 4 * width, shortcut=False)
            self.stage(f"{branch}.1", 16 * width, 8 * width, 3)
            if map_norms:
                self.batch_norm(f"heads_extra_bn_{branch}", 32 * width)
        for head in (f"{name}_head" for name in MGN_PARTS):
            self[f"{head}.pool_layer.p"] = 2.5 + torch.rand(1, generator=self.generator)
            self.normal(f"{head}.bottleneck.0.weight", part, 32 * width, 1, 1)
            self.batch_norm(f"{head}.bottleneck.1", part)
