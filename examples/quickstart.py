"""A float CNN made binary, trained on MNIST, packed, and run without torch.

python quickstart.py          # 2 epochs of 60,000 images
python quickstart.py 1000     # the first 1,000 only: seconds, to see that it runs
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import coarsegrad as cg
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity


def network() -> nn.Module:
    """Plain torch, nothing of coarsegrad: four convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 3 * 3, 10),
    )  # fmt: skip


def binary_network() -> nn.Module:
    """Return the same with binary layers; the command line builds it by this name."""
    signs = Sign(ste=ClippedIdentity())
    return cg.nn.convert(network(), input_quantizer=signs, weight_quantizer=Sign()).model


def train(net: nn.Module, images: cg.data.Images, test: cg.data.Images, epochs: int = 2) -> None:
    """Train by two rules in one optimizer: BAMSProd for latent weights, Adam for the rest."""
    x_test = torch.from_numpy(cg.data.pixels(test.x))
    batches = cg.data.Batches(images.x, images.y, 64, seed=0, shuffle=True)
    optimizer = cg.optim.Split(
        net, binary=(cg.optim.BAMSProd, {"lr": 1e-2}), real=(torch.optim.Adam, {"lr": 1e-2})
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    print(cg.inspect.check(net, batch=x_test[:256], optimizer=optimizer))  # before, not after
    for epoch in range(epochs):
        net.train()
        batches.set_epoch(epoch)
        for x, y in batches:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            guesses = torch.cat([net(x).argmax(1) for x in x_test.split(500)]).numpy()
        print(f"epoch {epoch + 1}: {(guesses == test.y).mean():.2%} of {len(test)} test images")


if __name__ == "__main__":
    torch.manual_seed(0)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else None
    images, test = (cg.data.mnist(split).take(slice(count)) for split in ("train", "test"))
    net = binary_network()
    train(net, images, test)
    torch.save(net.state_dict(), "my_model.pt")  # latent weights, to go on training from
    x = cg.data.pixels(test.x)
    np.save("images.npy", x[:1000])
    print(cg.inspect.summary(net, torch.from_numpy(x[:1])))
    cg.deploy.pack(net, torch.from_numpy(x[:1]), "my_model.cgrad")
    print(f"my_model.cgrad: {Path('my_model.cgrad').stat().st_size:,} bytes")
    print(cg.deploy.verify(net, "my_model.cgrad", torch.from_numpy(x[:1000])))
    model = cg.runtime.load("my_model.cgrad")  # from here on without torch
    print(f"packed: {(model(x).argmax(1) == test.y).mean():.2%} on {model.target}")
