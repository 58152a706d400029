"""Makes a fault happen, and proves that it did. Each kind has a function that returns when the fault is over,
with what shows that it fired; it raises NotFired if nothing does."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import psutil
from aiokafka import AIOKafkaProducer

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.topics import ASSESSED, DETECTED, INGESTED, REJECTED, RENDERED
from tests.faults.boundaries import BOUNDARIES, claim_file
from tests.faults.cluster import STANDBY, WATCHER, Cluster
from tests.faults.parts import Server
from tests.faults.plan import BOUNDARY, Fault
from tests.faults.services import ServiceProcess
from tests.faults.subscribers import Subscriber
from tests.faults.switches import CLOCK_READS, CLOCK_SHIFT, DISK_FULL, DISK_REFUSED
from tests.support.waiting import until

# How long to wait for the proof that a fault fired; a small language model needs half a minute for an event.
FIRING_SECONDS = 90.0
GARBAGE_TOPICS = (INGESTED, DETECTED, REJECTED, ASSESSED, RENDERED)
NANOSECONDS = 1_000_000_000
# A part that is stopped in order ends with one of these.
IN_ORDER = (0, 130)


class NotFired(Exception):
    """A fault left no trace: what the run would say of it would be worth nothing."""


@dataclass
class Scene:
    """What faults act on and leave behind. `garbage` has what was put on topics, by topic."""

    cluster: Cluster
    slow: Subscriber
    chance: random.Random
    garbage: list[tuple[str, bytes]] = field(default_factory=list)

    def service(self, name: str) -> ServiceProcess:
        return self.cluster.services[name]


async def inflict(fault: Fault, scene: Scene) -> str:
    """Returns the proof, when the fault is over. Raises NotFired, or AssertionError for what must not
    happen."""
    near, link, far = fault.target.partition(" - ")
    if near not in (WATCHER, STANDBY):
        return await KINDS[fault.kind](fault, scene)
    process = await _in_role(near, scene)
    fault = replace(fault, target=f"{process.name}{link}{far}")
    return f"{process.name}: {await KINDS[fault.kind](fault, scene)}"


async def _in_role(role: str, scene: Scene) -> ServiceProcess:
    deadline = time.monotonic() + FIRING_SECONDS
    while (process := await scene.cluster.in_role(role)) is None:
        if time.monotonic() > deadline:
            raise NotFired(f"no process was {role}")
        await asyncio.sleep(0.05)
    return process


async def kill_service(fault: Fault, scene: Scene) -> str:
    service = scene.service(fault.target)
    await until(lambda: service.pid, FIRING_SECONDS, lambda: f"{service.name} does not run")
    pid = service.pid
    await service.kill()
    return f"process {pid} ended by signal {-service.ended[-1][1]}"


async def kill_server(fault: Fault, scene: Scene) -> str:
    server = scene.cluster.servers[fault.target]
    pid = server.pid
    await server.kill()
    return await _start_again(server, pid, fault.seconds)


async def restart_server(fault: Fault, scene: Scene) -> str:
    server = scene.cluster.servers[fault.target]
    pid = server.pid
    await server.stop()
    return await _start_again(server, pid, fault.seconds)


async def _start_again(server: Server, pid: int, seconds: float) -> str:
    assert pid
    assert server.pid != pid
    await asyncio.sleep(seconds)
    await server.start()
    await server.ready()
    return f"process {pid} ended; {server.pid} runs"


async def end_at_boundary(fault: Fault, scene: Scene) -> str:
    """Whoever of the service's replicas crosses it first ends there."""
    number, boundary = next((n, each) for n, each in enumerate(BOUNDARIES) if each.name == fault.detail)
    claim = claim_file(scene.cluster.folder, boundary)
    claim.unlink(missing_ok=True)
    replicas = [each for each in scene.cluster.services.values() if each.target == fault.target]
    ends = {each.name: len(each.ended) for each in replicas}
    for each in replicas:
        each.switches.arm(number, 1)
    try:
        if boundary.stimulus == "bad fact":
            await _publish(scene, DETECTED.name, _bad_fact(scene))

        def ended() -> list[str]:
            return [each.name for each in replicas if (-9 in [s for _, s in each.ended[ends[each.name] :]])]

        try:
            await until(lambda: claim.exists() and ended(), FIRING_SECONDS)
        except AssertionError:
            raise NotFired(f"nobody crossed {boundary.name} within {FIRING_SECONDS} s") from None
        return f"{', '.join(ended())} ended there"
    finally:
        for each in replicas:
            each.switches.arm(number, 0)


async def pause(fault: Fault, scene: Scene) -> str:
    """Stops a process for longer than Kafka's session, and lets it go on as if nothing had happened."""
    found = scene.cluster.services.get(fault.target) or scene.cluster.servers[fault.target]
    await until(lambda: found.pid, FIRING_SECONDS, lambda: f"{fault.target} does not run")
    pid = found.pid
    process = psutil.Process(pid)
    processes = [process]
    if fault.target in scene.cluster.servers:  # PostgreSQL's connections are processes of their own
        processes += process.children(recursive=True)
    for each in processes:
        each.suspend()
    try:
        await until(lambda: process.status() == psutil.STATUS_STOPPED, FIRING_SECONDS)
        began = time.monotonic()
        await asyncio.sleep(fault.seconds)
        if process.status() != psutil.STATUS_STOPPED:
            raise NotFired(f"{fault.target} did not stay stopped")
    finally:
        for each in processes:
            if each.is_running():
                each.resume()
    return f"process {pid} stood still for {time.monotonic() - began:.1f} s"


async def partition(fault: Fault, scene: Scene) -> str:
    links = scene.cluster.links_of(fault.target)
    for link in links:
        link.cut("refusing" if fault.detail == "refusing" else "silent")
    try:
        try:
            await until(lambda: any(link.has_fired for link in links), FIRING_SECONDS)
        except AssertionError:
            raise NotFired(f"nothing came over {fault.target} within {FIRING_SECONDS} s") from None
        await asyncio.sleep(fault.seconds)
        refused, held = (
            sum(counts) for counts in zip(*((each.refused, each.held) for each in links), strict=True)
        )
        return f"{refused} connections refused, {held} bytes held"
    finally:
        for link in links:
            link.heal()


async def jump_clock(fault: Fault, scene: Scene) -> str:
    shift = int(fault.detail) * NANOSECONDS
    reads = await _switched(fault, scene, CLOCK_SHIFT, shift, CLOCK_READS, "did not read its clock")
    return f"the shifted clock was read {reads} times"


async def fill_disk(fault: Fault, scene: Scene) -> str:
    """Until something could not be written, and a while longer."""
    refused = await _switched(fault, scene, DISK_FULL, 1, DISK_REFUSED, "wrote nothing")
    return f"{refused} writes refused"


async def _switched(fault: Fault, scene: Scene, switch: int, value: int, counter: int, otherwise: str) -> int:
    """Sets a switch of the target until its counter grows, and a while longer. Returns by how much it grew.
    Raises NotFired if it does not."""
    switches = scene.service(fault.target).switches
    before = switches[counter]
    switches[switch] = value
    try:
        try:
            await until(lambda: switches[counter] > before, FIRING_SECONDS)
        except AssertionError:
            raise NotFired(f"{fault.target} {otherwise}") from None
        await asyncio.sleep(fault.seconds)
        return switches[counter] - before
    finally:
        switches[switch] = 0


async def put_garbage(fault: Fault, scene: Scene) -> str:
    """On a topic of each service that consumes: bytes that are no message, and a message without meaning."""
    topic = scene.chance.choice(GARBAGE_TOPICS).name
    where = await _publish(scene, topic, b"\xff" + scene.chance.randbytes(40))
    return f"{where}, {await _publish(scene, DETECTED.name, _bad_fact(scene))}"


def _bad_fact(scene: Scene) -> bytes:
    """It can be decoded, but never recorded: it has no media, only a time that tells it from others."""
    fact = MediaDetected()
    fact.detected_at.FromNanoseconds(scene.chance.randrange(10**18))
    return fact.SerializeToString()


async def _publish(scene: Scene, topic: str, value: bytes) -> str:
    """Returns the place of the record, once it is durable."""
    producer = AIOKafkaProducer(**scene.cluster.admin_kafka_options, acks="all", request_timeout_ms=20_000)
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, value, key=scene.chance.randbytes(4))
    finally:
        await producer.stop()
    scene.garbage.append((topic, value))
    return f"{topic} {sent.partition}:{sent.offset}"


async def rest_subscriber(fault: Fault, scene: Scene) -> str:
    """A subscriber reads nothing while changes arrive."""
    scene.slow.awake.clear()
    try:
        await asyncio.sleep(0.1)
        before = scene.slow.last
        async with asyncio.timeout(FIRING_SECONDS):
            while (head := await _head(scene)) <= before:
                await asyncio.sleep(0.1)
        await asyncio.sleep(fault.seconds)
        return f"{max(head, await _head(scene)) - before} changes waited for it"
    except TimeoutError:
        raise NotFired("the feed had no change meanwhile") from None
    finally:
        scene.slow.awake.set()


async def _head(scene: Scene) -> int:
    try:
        async with scene.cluster.database() as connection:
            return int(await connection.fetchval("SELECT COALESCE(max(sequence), 0) FROM feed"))
    except Exception:  # asyncpg has many, some of them internal, for a server that is killed
        return 0


async def terminate(fault: Fault, scene: Scene) -> str:
    """SIGTERM under load; it starts again at once."""
    return await remove_replica(Fault(fault.kind, fault.target), scene)


async def remove_replica(fault: Fault, scene: Scene) -> str:
    service = scene.service(fault.target)
    await service.up()  # before that, it does not know the signal yet
    began = time.monotonic()
    await service.stop()
    took, status = time.monotonic() - began, service.ended[-1][1]
    await asyncio.sleep(fault.seconds)
    await service.start()
    if status not in IN_ORDER and status != -signal.SIGKILL:  # another fault may have killed it
        raise AssertionError(f"{service.name} ended with status {status} after SIGTERM:\n{service.tail()}")
    return f"it ended within {took:.1f} s, status {status}"


async def add_replica(fault: Fault, scene: Scene) -> str:
    service = scene.service(fault.target)
    if service.target == "store":
        scene.cluster.share_key(service)
    await service.start()
    await service.up()
    pid = service.pid
    await asyncio.sleep(fault.seconds)
    await service.stop()
    return f"process {pid} worked for {fault.seconds} s"


async def take_over(fault: Fault, scene: Scene) -> str:
    """The process that watches the cameras folder is kept from its lease until another one watches."""
    service, cluster = scene.service(fault.target), scene.cluster
    links = cluster.links_of(f"{service.name} - store")
    await service.up()
    began = time.monotonic()
    if fault.detail == "paused":
        service.send(signal.SIGSTOP)
    elif fault.detail == "cut off":
        for link in links:
            link.cut("silent")
    else:
        await service.stop()
    try:
        while (watcher := await cluster.watcher()) in ("", service.name):
            if time.monotonic() - began > FIRING_SECONDS:
                raise NotFired(f"nobody has taken over from {service.name}")
            await asyncio.sleep(0.1)
        return f"{watcher} watched {time.monotonic() - began:.1f} s later"
    finally:
        if fault.detail == "paused":
            service.send(signal.SIGCONT)
        elif fault.detail == "cut off":
            for link in links:
                link.heal()
        else:
            await service.start()


KINDS: dict[str, Callable[[Fault, Scene], Awaitable[str]]] = {
    BOUNDARY: end_at_boundary,
    "kill a service": kill_service,
    "kill a server": kill_server,
    "pause": pause,
    "restart a server": restart_server,
    "partition": partition,
    "clock jump": jump_clock,
    "disk full": fill_disk,
    "garbage": put_garbage,
    "slow subscriber": rest_subscriber,
    "terminate": terminate,
    "remove a replica": remove_replica,
    "add a replica": add_replica,
    "take over the watch": take_over,
}
