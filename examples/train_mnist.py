# SPDX-License-Identifier: Apache-2.0
"""Train the small digit classifier that ships as mnist_cnn.onnx (needs `pip install "midge[demo,train]"`).

    python examples/train_mnist.py                    writes examples/mnist_cnn.onnx
    python examples/train_mnist.py -o /tmp/mine.onnx

The network is small but has one of each thing that makes compiling interesting: ordinary, depthwise and pointwise
convolutions with batch normalization, a strided convolution, two residual additions, max and global average pooling,
a dense layer and softmax. The test images are used once, after the last epoch: nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import torch
from mnist_data import Split, load
from torch import Tensor, nn
from torch.nn import functional

SEED = 1
EPOCHS = 60
BATCH = 64
PEAK_RATE = 8e-3
OPSET = 17
HERE = Path(__file__).resolve().parent


def conv(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias, batch normalization, and ReLU unless told otherwise; padded to keep H and W."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    layers["bn"] = nn.BatchNorm2d(outputs)
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class Separable(nn.Module):
    """Depthwise 3x3, then pointwise; with equal channel counts the input is added before the last ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = inputs == outputs
        self.dw = conv(inputs, inputs, 3, groups=inputs)
        self.pw = conv(inputs, outputs, 1, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, H, W)."""
        y = self.pw(self.dw(x))
        return self.relu(x + y if self.residual else y)


class DigitNet(nn.Module):
    """(N, 1, 28, 28) in 0..1 to (N, 10): probabilities when called, as it ships; `logits` for the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 16, 3)
        self.pool = nn.MaxPool2d(2)
        self.block1 = Separable(16, 16)
        self.down = conv(16, 32, 3, stride=2)
        self.block2 = Separable(32, 64)
        self.block3 = Separable(64, 64)
        self.head = conv(64, 96, 1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(96, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities: softmax of the logits."""
        return functional.softmax(self.logits(image), dim=1)

    def logits(self, image: Tensor) -> Tensor:
        """Everything before the softmax."""
        x = self.block1(self.pool(self.stem(image)))
        x = self.head(self.block3(self.block2(self.down(x))))
        return self.dense(torch.flatten(self.mean(x), 1))


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image turned by up to 12 degrees, sheared by up to 0.15, scaled by 0.88..1.12, shifted by up to 2 pixels."""
    n, _, _, side = images.shape

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n, generator=rng) * 2 - 1) * limit

    angle, shear = uniform(np.pi / 15), uniform(0.15)
    scale_x, scale_y = 1 + uniform(0.12), 1 + uniform(0.12)
    row_x = torch.stack([scale_x * torch.cos(angle), shear - torch.sin(angle), uniform(4 / side)], dim=1)
    row_y = torch.stack([torch.sin(angle), scale_y * torch.cos(angle), uniform(4 / side)], dim=1)
    grid = functional.affine_grid(torch.stack([row_x, row_y], dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(split: Split, epochs: int) -> DigitNet:
    """Train from scratch on one thread with a fixed seed, and return the network of the last epoch."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    images, labels = torch.from_numpy(split.x_train), torch.from_numpy(split.y_train)
    net = DigitNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, epochs=epochs, steps_per_epoch=steps)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=rng)
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            loss = functional.cross_entropy(net.logits(augment(images[batch], rng)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:2d}/{epochs}  loss {total / steps:.4f}  {time.perf_counter() - start:.1f} s", flush=True)
    return net.eval()


def accuracy(net: DigitNet, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose highest score is at their label."""
    with torch.no_grad():
        predicted = net(torch.from_numpy(images)).argmax(dim=1).numpy()
    return float((predicted == labels).mean())


def export(net: DigitNet, path: Path) -> None:
    """Write float32 ONNX with a free batch size. Batch normalization stays in the file: folding it is midge's task."""
    torch.onnx.export(
        net.eval(),
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        dynamo=False,  # the exporter that can keep BatchNormalization nodes; deprecated, but present in torch 2.13
        training=torch.onnx.TrainingMode.PRESERVE,  # with EVAL it would fold them into the convolutions
        do_constant_folding=False,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
    )
    model = onnx.load(path)
    model.doc_string = "Handwritten digits: image (batch, 1, 28, 28) in 0..1, 1 is ink; scores (batch, 10), softmax. Written by examples/train_mnist.py."
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    """Command line: train, report, export."""
    parser = argparse.ArgumentParser(description="Train the MNIST example and export it to ONNX.")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "mnist_cnn.onnx")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    split = load()
    net = train(split, args.epochs)
    print(f"parameters {sum(p.numel() for p in net.parameters())}")
    print(f"accuracy   train {accuracy(net, split.x_train, split.y_train):.4f}  test {accuracy(net, split.x_test, split.y_test):.4f}")
    export(net, args.output)
    print(f"wrote      {args.output} ({args.output.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
