"""Whether the service grows while it answers a million requests."""

import numpy as np
from bench.serve_vs_peers.context import Context
from bench.serve_vs_peers.report import Check, Part, slope, told
from bench.serve_vs_peers.roster import OURS
from bench.serve_vs_peers.servers import running

_SLICES = 100
_WARM_SLICES = 30
_CLIENTS = 4


def part(context: Context) -> Part:
    """In slices, the memory after each; before them so many more to warm up: each of the allocator's areas has then
    been as full as it will be."""
    count = 20_000 if context.quick else context.soak
    request = OURS.form.request(context.small.facts, context.small.sample)
    answered, rss, wrong, seconds = [0], list[int](), 0, 0.0
    with running(OURS, context.small, context.environments, context.log("soak")) as server:
        rss.append(server.memory().rss)
        for _ in range(_WARM_SLICES + _SLICES):
            found = context.load.run(server.port, request, clients=_CLIENTS, seconds=600, requests=count // _SLICES)
            answered.append(answered[-1] + len(found.ms))
            wrong, seconds = wrong + found.wrong, seconds + found.seconds
            rss.append(server.memory().rss)
    warm = rss[_WARM_SLICES:]
    x, y = np.array(answered[_WARM_SLICES:], float), np.array(warm, float)
    gain = slope(x / 1e6, y / 1e6)
    words = (
        f"{answered[-1]:,} requests over HTTP from {_CLIENTS} clients in {seconds:.0f} s, {wrong} of them without "
        f"status 200. RSS {rss[0] / 1e6:.2f} MB before, {warm[0] / 1e6:.2f} MB when warm, "
        f"{rss[-1] / 1e6:.2f} MB at the end (least {min(rss) / 1e6:.2f}, most {max(rss) / 1e6:.2f})."
    )
    words += " After every ten of the slices: " + ", ".join(f"{one / 1e6:.2f}" for one in rss[10::10]) + " MB."
    figures = f"{told(gain, '.3f')} MB a million requests, when warm"
    promise = f"flat over {answered[-1] - answered[_WARM_SLICES]:,} inferences"
    return Part("Soak", words, [Check(promise, gain[1][0] <= 0 and not wrong, figures)])
