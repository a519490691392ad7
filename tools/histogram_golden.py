"""Ranges of the histogram observer in Octet's own mode (bin edges at the true extremes, constant samples counted).

    python tools/histogram_golden.py       writes src/quant/msmodelslim/testdata/histogram.json

Numpy in float64, from the steps of docs/quantization.md ("Observers"). Values that lie near the border of a bin, where float32
might count them in the next one, are refused, so the C++ code must find the same bins.
"""
import json
import math
import pathlib

import numpy

BINS, PARTS = 2048, 128


class Histogram:
    def __init__(self):
        self.low = self.high = self.bins = None
        self.constant = 0  # values seen while all were equal

    def count(self, x):
        at = (x - self.low) / (self.high - self.low) * BINS
        inner = at[(at > 1e-4) & (at < BINS - 1e-4)]
        assert numpy.abs(inner - numpy.round(inner)).min() > 5e-4, "a value near a border: take another seed"
        return numpy.bincount(numpy.minimum(at.astype(int), BINS - 1), minlength=BINS).astype(float)

    def observe(self, x):
        low, high = float(x.min()), float(x.max())
        if self.low is not None:
            low, high = min(low, self.low), max(high, self.high)
        if low == high:
            self.low, self.high, self.constant = low, high, self.constant + len(x)
            return
        if self.bins is None:
            before = self.low
            self.low, self.high = low, high
            self.bins = self.count(x)
            if self.constant:
                self.bins[min(int((before - low) / (high - low) * BINS), BINS - 1)] += self.constant
            return
        part = (self.high - self.low) / (BINS * PARTS)
        step = math.ceil((high - low) / (part * BINS) - 1e-9)  # a whole number must stay one
        high = low + part * BINS * step
        start = round((self.low - low) / part)
        old = self.bins
        same = low == self.low and step == 1
        self.low, self.high = low, high
        self.bins = self.count(x)
        if same:
            self.bins += old
            return
        for i, mass in enumerate(old):
            for p in range(PARTS):
                self.bins[(start + i * PARTS + p) // step] += mass / PARTS

    def error(self, a, b):
        width = (self.high - self.low) / BINS
        level = width * (b - a + 1) / 256
        edges = (numpy.arange(BINS + 1) - a) * width
        nearest = numpy.clip(numpy.floor(edges / level), 0, 255)
        first, last = nearest[:-1], nearest[1:]
        cube = lambda u, v: (v**3 - u**3) / 3
        half = level / 2
        parts = (cube(edges[:-1] - (first + .5) * level, half) + (last - first - 1) * cube(-half, half)
                 + cube(-half, edges[1:] - (last + .5) * level))
        return float((self.bins / width * parts).sum())

    def range(self):
        if self.bins is None:
            return self.low, self.high
        mass, total = numpy.cumsum(self.bins), self.bins.sum()
        alpha, beta, a, b, best = 0.0, 1.0, 0, BINS - 1, math.inf
        while alpha < beta:
            left, right = a, b
            while left < b and mass[left] < (alpha + 1e-5) * total:
                left += 1
            while right > a and mass[right] > (beta - 1e-5) * total:
                right -= 1
            if left - a > b - right:
                candidate, alpha = (left, b), alpha + 1e-5
            else:
                candidate, beta = (a, right), beta - 1e-5
            if candidate == (a, b):
                continue
            error = self.error(*candidate)
            if error > best:
                break
            best, (a, b) = error, candidate
        width = (self.high - self.low) / BINS
        return self.low + width * a, self.low + width * (b + 1)


def main():
    rng = numpy.random.default_rng(5)

    def bell(count, spread, low, high):  # (value, how often), a few values in the tails
        values = numpy.sort(numpy.concatenate([rng.uniform(-3, 3, 40) * spread, rng.uniform(low, high, 12), [low, high]]))
        weights = numpy.maximum(1, count * numpy.exp(-(values / spread)**2 / 2) / 40)
        return [(float(numpy.float32(v)), int(n)) for v, n in zip(values, weights)]
    cases = {
        "fractions": [bell(30000, .17, -.7, .93), bell(30000, .2, -.6, .93), bell(30000, .3, -.9, 1.9)],
        "between_integers": [bell(30000, .8, -2.6, 3.7), bell(30000, 1.1, -4.4, 5.2), bell(30000, .5, -2.2, 2.5)],
        "constant_first": [[(1.55, 30000)], [(1.55, 1000)], bell(30000, .3, -1.1, 1.6), bell(30000, .4, -2.4, 2.3)],
    }
    out = {}
    for name, samples in cases.items():
        histogram, rows = Histogram(), []
        for sample in samples:
            histogram.observe(numpy.repeat([float(numpy.float32(v)) for v, _ in sample], [n for _, n in sample]))
            rows.append({"values": sample, "range": list(histogram.range())})
        out[name] = rows
    path = pathlib.Path(__file__).resolve().parents[1] / "src/quant/msmodelslim/testdata/histogram.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
