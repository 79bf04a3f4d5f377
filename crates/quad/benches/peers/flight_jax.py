"""The quadrotor's flight and the gradient of its cost in JAX: equations written from this crate's documentation, differentiated
by JAX. `flight_jax.py record FILE` writes gradients that the crate's own are tested against; `flight_jax.py time` prints how long
one takes here and there.

    python3 -m venv VENV && VENV/bin/pip install jax
    VENV/bin/python crates/quad/benches/peers/flight_jax.py record crates/quad/tests/data/gradients/jax.json
    cargo build --release -p spikewing-quad --example flight_gradient
    VENV/bin/python crates/quad/benches/peers/flight_jax.py time
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[4]
DT = 0.01

# Crazyflie 2.1 (params/vehicles/crazyflie.yaml); the second vehicle has air around it.
CRAZYFLIE = dict(
    mass=0.027, gravity=9.81, inertia=[1.029e-5, 1.105e-5, 2.005e-5],
    inertia_inverse=[97181.7298347911, 90497.7375565611, 49875.3117206983],
    xy=[[0.028, -0.028], [-0.028, -0.028], [-0.028, 0.028], [0.028, 0.028]], spin=[-1.0, 1.0, -1.0, 1.0],
    curve=[0.0213, -0.0112, 0.1201], torque=0.004665, lag=0.072, drag=[0.0, 0.0, 0.0], quadratic=[0.0, 0.0, 0.0],
)
VEHICLES = {"crazyflie": CRAZYFLIE, "drag": dict(CRAZYFLIE, drag=[0.005, 0.004, 0.01], quadratic=[0.002, 0.003, 0.001])}


def cross(a, b):
    return jnp.cross(a, b)


def derivative(vehicle, x, command):
    q, v, w, r = x[3:7], x[7:10], x[10:13], x[13:17]
    c0, c1, c2 = vehicle["curve"]
    f = c0 + c1 * r + c2 * r * r
    xy, spin = jnp.array(vehicle["xy"]), jnp.array(vehicle["spin"])

    def rotated(scalar, vector, u):
        t = cross(vector, u)
        return u + 2.0 * scalar * t + 2.0 * cross(vector, t)

    speed = rotated(q[0], -q[1:], v)
    drag = -speed * (jnp.array(vehicle["drag"]) + jnp.array(vehicle["quadratic"]) * jnp.abs(speed))
    force = rotated(q[0], q[1:], drag + jnp.array([0.0, 0.0, 1.0]) * f.sum())
    torque = jnp.stack([(xy[:, 1] * f).sum(), (-xy[:, 0] * f).sum(), (spin * vehicle["torque"] * f).sum()])
    inertia = jnp.array(vehicle["inertia"])
    turning = jnp.array(vehicle["inertia_inverse"]) * (torque - cross(w, inertia * w))
    a, b, c, d = q[0], q[1], q[2], q[3]
    spun = 0.5 * jnp.stack([
        -b * w[0] - c * w[1] - d * w[2], a * w[0] + c * w[2] - d * w[1],
        a * w[1] - b * w[2] + d * w[0], a * w[2] + b * w[1] - c * w[0],
    ])
    return jnp.concatenate([v, spun, force / vehicle["mass"] - jnp.array([0.0, 0.0, vehicle["gravity"]]), turning, (command - r) / vehicle["lag"]])


def step(vehicle, x, action):
    command = (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0
    k1 = derivative(vehicle, x, command)
    k2 = derivative(vehicle, x + DT / 2 * k1, command)
    k3 = derivative(vehicle, x + DT / 2 * k2, command)
    k4 = derivative(vehicle, x + DT * k3, command)
    x = x + DT / 6 * (k1 + 2 * (k2 + k3) + k4)
    q = x[3:7] / jnp.sqrt((x[3:7] ** 2).sum())
    return jnp.concatenate([x[:3], q, x[7:13], jnp.clip(x[13:], 0.0, 1.0)])


def reward(x, action):
    """The end coefficients, every rotation counted."""
    effort = (((action + 1.0) / 2.0 - 0.667) ** 2).sum()
    return 1.0 - 3.5 * (x[:3] ** 2).sum() - 0.1 * (x[7:10] ** 2).sum() - 0.25 * (1.0 - x[3] ** 2) - 0.5 * effort


def cost(vehicle, x, actions):
    def one(x, action):
        x = step(vehicle, x, action)
        return x, reward(x, action)

    return -jax.lax.scan(one, x, actions)[1].sum()


def starts(n, steps, seed):
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 17))
    x[:, :3] = rng.uniform(-0.5, 0.5, (n, 3))
    q = rng.normal(size=(n, 4)) * [1.0, 0.4, 0.4, 0.4] + [1.0, 0.0, 0.0, 0.0]
    x[:, 3:7] = q / np.linalg.norm(q, axis=1, keepdims=True)
    x[:, 7:10] = rng.uniform(-1.0, 1.0, (n, 3))
    x[:, 10:13] = rng.uniform(-3.0, 3.0, (n, 3))
    x[:, 13:] = rng.uniform(0.3, 0.8, (n, 4))
    return x, rng.uniform(-0.3, 0.6, (n, steps, 4))


def record(path):
    jax.config.update("jax_enable_x64", True)
    cases = []
    for name, vehicle in VEHICLES.items():
        value = jax.jit(jax.value_and_grad(lambda x, u, v=vehicle: cost(v, x, u), argnums=(0, 1)))
        xs, us = starts(3, 50, 1)
        for x, u in zip(xs, us):
            loss, (by_state, by_action) = value(jnp.array(x), jnp.array(u))
            cases.append(dict(vehicle=name, start=x.tolist(), actions=u.tolist(), cost=float(loss), by_state=np.asarray(by_state).tolist(), by_action=np.asarray(by_action).tolist()))
    pathlib.Path(path).write_text(json.dumps(dict(made_by=f"flight_jax.py with jax {jax.__version__}, float64", cases=cases)) + "\n")


def compare(flights=4096, steps=50, rounds=7):
    value = jax.jit(jax.vmap(jax.value_and_grad(lambda x, u: cost(CRAZYFLIE, x, u), argnums=(0, 1))))
    xs, us = starts(flights, steps, 2)
    x, u = jnp.array(xs, jnp.float32), jnp.array(us, jnp.float32)
    jax.block_until_ready(value(x, u))
    theirs, ours, used = [], [], []
    for _ in range(rounds):
        started, worked = time.perf_counter(), time.process_time()
        jax.block_until_ready(value(x, u))
        theirs.append(time.perf_counter() - started)
        used.append(time.process_time() - worked)
        out = subprocess.run([ROOT / "target/release/examples/flight_gradient", str(flights), str(steps)], check=True, capture_output=True, text=True)
        ours.append(json.loads(out.stdout))
    n = flights * steps
    wall, processor = (statistics.median(o[k] for o in ours) for k in ("wall_s", "processor_s"))
    print(f"flight and gradient, {flights} flights of {steps} steps, f32, jax {jax.__version__}")
    print(f"jax:  {statistics.median(theirs) / n * 1e9:7.0f} ns a step, {statistics.median(used) / n * 1e9:7.0f} ns of processor time")
    print(f"here: {wall / n * 1e9:7.0f} ns a step, {processor / n * 1e9:7.0f} ns of processor time")
    print(f"ratio {statistics.median(theirs) / wall:.2f}, of processor time {statistics.median(used) / processor:.2f}")


if sys.argv[1:2] == ["record"] and len(sys.argv) == 3:
    record(sys.argv[2])
elif sys.argv[1:2] == ["time"]:
    compare()
else:
    sys.exit(__doc__)
