"""Publishes captions to an MQTT broker; docs/mqtt.md describes topics and payloads.

All use of ``aiomqtt`` is in this file. The broker may be absent at any time, the start included:
captions go on without it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import ssl
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

import aiomqtt

from streaming.errors import SettingsError
from streaming.events import Event
from streaming.publishers.mqtt_messages import Message, Outbox, Topics, topic_level

_log = logging.getLogger(__name__)

PASSWORD_VARIABLE = "A2P_MQTT_PASSWORD"

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 30.0
_ANSWER_TIMEOUT_S = 5.0  # for connecting and for the acknowledgement of a QoS 1 message
_STOP_TIMEOUT_S = 3.0
_OUTBOX_LIMIT = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttSettings:
    """Which broker to publish to, and under which name.

    Attributes:
        host: the broker.
        port: its port.
        node: name of this server in topics; two servers on one broker need two names.
        username: None connects without a name.
        password: never shown.
        tls: encrypt and check the broker's certificate.
    """

    host: str
    port: int
    node: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    @classmethod
    def from_url(cls, url: str, *, node: str | None = None) -> Self:
        """Read ``mqtt://[user@]host[:port]`` or ``mqtts://...``.

        Args:
            url: the broker's address; the password is taken from ``A2P_MQTT_PASSWORD``.
            node: see ``MqttSettings``; the machine's name by default.

        Raises:
            SettingsError: the address or the name cannot be used.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise SettingsError(f"the MQTT address cannot be read: {error}") from None
        if parts.password is not None:
            raise SettingsError(
                f"put the MQTT password into {PASSWORD_VARIABLE}, not into the address, where "
                "every user of this machine can read it"
            )
        if parts.scheme not in _DEFAULT_PORTS or not host or parts.path.strip("/") or parts.query:
            raise SettingsError(
                "an MQTT address looks like mqtt://[user@]host[:port] or mqtts://..."
            )
        return cls(
            host=host,
            port=port or _DEFAULT_PORTS[parts.scheme],
            node=_checked_node(node) if node is not None else topic_level(socket.gethostname()),
            username=unquote(parts.username) if parts.username else None,
            password=os.environ.get(PASSWORD_VARIABLE) if parts.username else None,
            tls=parts.scheme == "mqtts",
        )


class MqttPublisher:
    """A ``Publisher`` that keeps a connection to the broker for as long as it runs."""

    def __init__(self, settings: MqttSettings, *, outbox_limit: int = _OUTBOX_LIMIT) -> None:
        self._settings = settings
        self._topics = Topics(settings.node)
        self._outbox = Outbox(outbox_limit)
        self._news = asyncio.Event()
        self._connected = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect; see ``Publisher.start``."""
        self._task = asyncio.create_task(self._run(), name="mqtt")

    def publish(self, session_id: str, event: Event) -> None:
        """Queue an event; see ``Publisher.publish``."""
        for message in self._topics.messages(session_id, event):
            self._queue(message)

    async def stop(self) -> None:
        """Send what is queued and say goodbye; see ``Publisher.stop``."""
        if self._task is None:
            return
        for session_id in list(self._topics.states):
            for message in self._topics.end(session_id):
                self._outbox.put(message)
        self._outbox.put(self._topics.status("offline"))
        self._stopping = True
        self._news.set()
        if self._connected:
            await asyncio.wait({self._task}, timeout=_STOP_TIMEOUT_S)
        self._task.cancel()
        await asyncio.wait({self._task})
        if self._outbox.undelivered:
            _log.warning("%d MQTT messages were not delivered", self._outbox.undelivered)

    def _queue(self, message: Message) -> None:
        # Without a connection partials are stale before they can be sent, and of each session's
        # states only the latest counts, which ``Topics.states`` keeps.
        if not self._connected and (message.expendable or (message.retain and message.payload)):
            return
        self._outbox.put(message)
        self._news.set()

    async def _run(self) -> None:
        wait_s = _FIRST_RETRY_S
        while not self._stopping:
            try:
                async with self._client() as client:
                    _log.info("publishing to the MQTT broker %s", self._address)
                    wait_s = _FIRST_RETRY_S
                    await self._converse(client)
            except (aiomqtt.MqttError, OSError) as error:
                level = logging.WARNING if wait_s == _FIRST_RETRY_S else logging.DEBUG
                _log.log(level, "MQTT broker %s: %s; trying again", self._address, error)
            if not self._stopping:
                await asyncio.sleep(wait_s * random.uniform(0.75, 1.25))
                wait_s = min(2 * wait_s, _LAST_RETRY_S)

    def _client(self) -> aiomqtt.Client:
        settings, will = self._settings, self._topics.status("offline")
        return aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password,
            # Two clients with one identifier throw each other out.
            identifier=f"a2p-{settings.node}-{secrets.token_hex(4)}",
            will=aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
            tls_context=ssl.create_default_context() if settings.tls else None,
            timeout=_ANSWER_TIMEOUT_S,
            keepalive=30,
        )

    async def _converse(self, client: aiomqtt.Client) -> None:
        """Send until told to stop; a lost connection is noticed even while nothing is sent."""
        self._outbox.put_first([self._topics.status("online"), *self._topics.states.values()])
        self._connected = True
        tasks = {asyncio.create_task(self._send(client)), asyncio.create_task(_watch(client))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._connected = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._outbox.drop_expendable()

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            message = self._outbox.take()
            if message is None:
                if self._stopping:
                    return
                self._news.clear()
                await self._news.wait()
                continue
            try:
                await client.publish(
                    message.topic, message.payload, qos=message.qos, retain=message.retain
                )
            except BaseException:
                self._outbox.put_first([message])
                raise

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"


async def _watch(client: aiomqtt.Client) -> None:
    """Raises ``aiomqtt.MqttError`` when the connection is lost; nothing is subscribed to."""
    async for _ in client.messages:
        pass


def _checked_node(node: str) -> str:
    if node != topic_level(node):
        raise SettingsError(
            f"the MQTT node {node!r} may hold lower-case letters, digits, '-', '_' and '.' only"
        )
    return node
