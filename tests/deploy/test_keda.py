"""The arithmetic of scaling: the chart's own formula as a table, and a fleet simulated under HPA's rules.

    replicas = busy + ceil(queue / listLength), between minReplicas and maxReplicas

`busy` is one more than the highest ordinal that runs a job (the server keeps that list, tests/it/fleet_scale.rs): a
StatefulSet removes its highest ordinal, so a fleet may be no smaller. `queue` is the number of jobs that wait.
"""

import heapq
import math
import random
import re
import unittest

import lab


class Scaler:
    """The formula of the rendered chart, and what the HPA makes of it (autoscaling/v2, External, AverageValue)."""

    SYNC = 15
    TOLERANCE = 0.1

    def __init__(self, *sets):
        spec = lab.find(lab.render(None, "keda.enabled=true", *sets), "ScaledObject")["spec"]
        modifiers = spec["advanced"]["scalingModifiers"]
        assert modifiers["metricType"] == "AverageValue"
        assert {t["name"] for t in spec["triggers"]} == {"queue", "busy"}
        # expr-lang's int() and / on floats are Python's.
        assert re.fullmatch(r"[a-z0-9 +/.()]+", modifiers["formula"])
        self.formula, self.target = modifiers["formula"], float(modifiers["target"])
        self.least, self.most = spec["minReplicaCount"], spec["maxReplicaCount"]
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        self.window = down["stabilizationWindowSeconds"]
        (policy,) = down["policies"]
        assert policy["type"] == "Pods"
        self.step, self.period = policy["value"], policy["periodSeconds"]
        self.wishes, self.removed = [], []

    def value(self, queue, busy):
        return float(eval(self.formula, {"__builtins__": {}, "int": int}, {"queue": float(queue), "busy": float(busy)}))

    def replicas(self, queue, busy):
        """Where it settles, from far away."""
        return max(self.least, min(self.most, math.ceil(self.value(queue, busy) / self.target)))

    def decide(self, now, current, queue, busy):
        usage = self.value(queue, busy)
        ratio = usage / (self.target * max(current, 1))
        wish = current if abs(ratio - 1) <= self.TOLERANCE else math.ceil(usage / self.target)
        wish = max(self.least, min(self.most, wish))
        self.wishes = [(at, one) for at, one in self.wishes if at > now - self.window] + [(now, wish)]
        if wish > current:
            return wish  # Up at once (4 pods or 100 % each 15 s are never reached here: one step is at most that).
        # Down only to the highest of all wishes within the window, and so many pods a period.
        wish = min(current, max(one for _, one in self.wishes))
        self.removed = [(at, count) for at, count in self.removed if at > now - self.period]
        room = self.step - sum(count for _, count in self.removed)
        wish = max(wish, current - max(room, 0))
        if wish < current:
            self.removed.append((now, current - wish))
        return wish


class Table(unittest.TestCase):
    def test_the_formula(self):
        scaler = Scaler("keda.maxReplicas=20")
        for queue, running, highest, replicas in [
            # waiting, running, highest busy ordinal (None: nobody), pods
            (0, 0, None, 1),
            (1, 0, None, 1),
            (5, 0, None, 1),
            (6, 0, None, 2),
            (5, 9, 2, 4),  # nine on three full pods, five wait: four
            (1, 9, 2, 4),
            (6, 9, 2, 5),
            (0, 9, 2, 3),
            (0, 1, 2, 3),  # one long job on the third pod keeps three
            (0, 1, 0, 1),
            (5, 3, 0, 2),
            (50, 30, 9, 20),
            (1000, 30, 9, 20),
        ]:
            busy = 0 if highest is None else highest + 1
            self.assertLessEqual(math.ceil(running / 3), max(busy, 1))
            self.assertEqual(scaler.replicas(queue, busy), replicas, (queue, running, highest))
        other = Scaler("keda.listLength=10", "keda.minReplicas=2", "keda.maxReplicas=20")
        self.assertEqual([other.replicas(queue, 2) for queue in (0, 1, 10, 11)], [2, 3, 3, 4])


class Fleet:
    """Pods of three slots; the idle ones of low ordinal claim first, as the server does it."""

    SLOTS = 3

    def __init__(self):
        self.alive, self.running, self.waiting, self.waited = 1, {}, [], []
        self.busy_removed = self.handed_over = 0
        self.ends, self.number = [], 0

    def free(self, pod):
        return self.SLOTS - sum(1 for of in self.running.values() if of == pod)

    def claim(self, now):
        while self.waiting:
            pods = [pod for pod in range(self.alive) if self.free(pod)]
            if not pods:
                return
            idle = [pod for pod in pods if self.free(pod) == self.SLOTS]
            # One that works already may be faster than an idle one; of the idle ones the lowest goes first.
            busy = [pod for pod in pods if pod not in idle]
            pod = random.choice(busy + idle[:1])
            came, length = self.waiting.pop(0)
            self.number += 1
            self.running[self.number] = pod
            self.waited.append(now - came)
            heapq.heappush(self.ends, (now + length, self.number, length))

    def end(self, now):
        while self.ends and self.ends[0][0] <= now:
            _, number, _ = heapq.heappop(self.ends)
            self.running.pop(number, None)

    def resize(self, now, wanted):
        for pod in range(wanted, self.alive):
            lost = [number for number, of in self.running.items() if of == pod]
            self.busy_removed += bool(lost)
            for number in lost:
                # The drain waits for most of them; the rest goes to the head of the line.
                length = next(length for _, one, length in self.ends if one == number)
                del self.running[number]
                self.waiting.insert(0, (now, length))
                self.handed_over += 1
        self.alive = wanted

    def busy(self):
        return max(self.running.values(), default=-1) + 1


def simulate(arrivals, scaler, seed):
    """`arrivals`: when each job comes and how long it takes. Every second; the HPA each 15 s."""
    random.seed(seed)
    fleet, now, arrivals, seconds = Fleet(), 0, sorted(arrivals), 0
    while arrivals or fleet.waiting or fleet.running or fleet.alive > scaler.least:
        while arrivals and arrivals[0][0] <= now:
            fleet.waiting.append((now, arrivals.pop(0)[1]))
        fleet.end(now)
        fleet.claim(now)
        if now % scaler.SYNC == 0:
            fleet.resize(now, scaler.decide(now, fleet.alive, len(fleet.waiting), fleet.busy()))
            fleet.claim(now)
        seconds += fleet.alive
        now += 1
        assert now < 200_000, "it never ends"
    return fleet, seconds


class Simulation(unittest.TestCase):
    """Three kinds of arrivals, drawn from a seed: bursts, an office day, a trickle with some long jobs."""

    def arrivals(self, kind, seed):
        pick = random.Random(seed)
        if kind == "bursts":
            return [(burst * 900 + pick.randrange(30), pick.choice([20, 60, 240, 600])) for burst in range(6) for _ in range(25)]
        if kind == "day":
            return [(int(pick.gauss(7200, 2400)) % 14400, int(pick.lognormvariate(5.2, 0.9))) for _ in range(250)]
        return [(at * 120, 3000 if at % 9 == 0 else 45) for at in range(60)]

    def test_no_pod_is_removed_while_it_works(self):
        for kind in ("bursts", "day", "trickle"):
            for seed in range(3):
                scaler = Scaler()
                fleet, seconds = simulate(self.arrivals(kind, seed), scaler, seed)
                longest = max(fleet.waited)
                print(
                    f"{kind}/{seed}: {len(fleet.waited)} jobs, {seconds} pod seconds, longest wait {longest} s, "
                    f"busy pods removed {fleet.busy_removed}, jobs handed over {fleet.handed_over}"
                )
                self.assertEqual(fleet.busy_removed, 0, (kind, seed))
                self.assertEqual(fleet.alive, scaler.least)

    def test_the_documented_trigger_alone_would_remove_busy_ones(self):
        """What `busy` is for: without it the same fleet loses working pods. Keeps this test honest."""
        removed = 0
        for seed in range(3):
            scaler = Scaler()
            scaler.formula = "int(queue / 5 + 0.9999)"
            fleet, _ = simulate(self.arrivals("bursts", seed), scaler, seed)
            removed += fleet.busy_removed
        self.assertGreater(removed, 0)


if __name__ == "__main__":
    unittest.main()
