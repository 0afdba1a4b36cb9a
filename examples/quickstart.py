"""A float CNN made binary, trained on MNIST, packed and run without torch. COUNT images, or all."""

import sys
from pathlib import Path

import torch
from torch import nn

import coarsegrad as cg
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity


def network() -> nn.Module:
    """Plain torch: four convolutions and a linear layer, nothing of coarsegrad."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 3 * 3, 10),
    )  # fmt: skip


count = int(sys.argv[1]) if len(sys.argv) > 1 else None
train, test = (cg.data.mnist(split).take(slice(count)) for split in ("train", "test"))
x_test = torch.from_numpy(cg.data.pixels(test.x))
torch.manual_seed(0)

# 1. One call makes the layers binary, in place. print(plan) says what changed; plan.undo() reverts.
net = network()
plan = cg.nn.convert(net, input_quantizer=Sign(ste=ClippedIdentity()), weight_quantizer=Sign())
print(plan)

# 2. Two rules, one optimizer: BAMSProd for the latent weights, Adam for everything else.
epochs, batches = 2, cg.data.Batches(train.x, train.y, 64, seed=0, shuffle=True)
optimizer = cg.optim.Split(
    net, binary=(cg.optim.BAMSProd, {"lr": 1e-2}), real=(torch.optim.Adam, {"lr": 1e-2})
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))

# 3. Known mistakes, found before training rather than after.
print(cg.inspect.check(net, batch=x_test[:256], optimizer=optimizer))

# 4. A loop like any other.
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
        guesses = torch.cat([net(part).argmax(1) for part in x_test.split(500)])
    print(f"epoch {epoch + 1}: {(guesses.numpy() == test.y).mean():.2%} of {len(test)} test images")

# 5. What the packed file will hold, layer by layer; the file; the proof that it computes the same.
print(cg.inspect.summary(net, x_test[:1]))
cg.deploy.pack(net, x_test[:1], "my_model.cgrad")
print(f"my_model.cgrad: {Path('my_model.cgrad').stat().st_size:,} bytes")
print(cg.deploy.verify(net, "my_model.cgrad", x_test[:1000]))

# 6. The file runs on numpy arrays, without torch.
model = cg.runtime.load("my_model.cgrad")
print(f"packed: {(model(x_test.numpy()).argmax(1) == test.y).mean():.2%} on {model.target}")
