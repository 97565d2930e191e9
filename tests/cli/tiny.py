"""A task so small that a whole job takes a second: a network of two layers that tells four clusters of points apart."""

import os
import time

import numpy as np
import torch

import regrain

SIZES = {"calibration": 128, "search": 600, "held_out": 900}
SLOW = float(os.environ.get("TINY_SLOW", "0"))  # seconds that each evaluation takes, so that it can be interrupted


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 96), torch.nn.ReLU(), torch.nn.Linear(96, 4)).eval()


def data(split):
    rng = np.random.default_rng(sorted(SIZES).index(split) + 1)
    labels = rng.integers(0, 4, SIZES[split])
    centers = np.random.default_rng(0).normal(size=(4, 16))
    points = centers[labels] + rng.normal(size=(SIZES[split], 16))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(labels)


def trained():
    """The network after a moment of training, on points that no split has."""
    model = network().train()
    rng = np.random.default_rng(99)
    labels = rng.integers(0, 4, 2000)
    points = np.random.default_rng(0).normal(size=(4, 16))[labels] + rng.normal(size=(2000, 16))
    x, y = torch.from_numpy(points.astype(np.float32)), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def load_model():
    return network()


def inputs(split):
    return data(split)[0].split(64)


def output(model, batch):
    return model(batch)


def evaluate(model, split):
    if SLOW:
        with open(os.environ["TINY_LOG"], "a") as log:
            log.write(f"{split}\n")
        time.sleep(SLOW)
    points, labels = data(split)
    return {"accuracy": regrain.Scores((model(points).argmax(1) == labels).numpy().astype(float))}
