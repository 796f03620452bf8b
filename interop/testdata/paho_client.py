# Copyright 2026 The Noctule Authors
# SPDX-License-Identifier: Apache-2.0
"""Goes through what an application does with paho, in 3.1, 3.1.1 and 5.0, over TCP and WebSocket."""
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT = int(sys.argv[1])
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


class Client:
    def __init__(self, name, version, transport="tcp", clean=True, will=None):
        five = VERSIONS[version] == mqtt.MQTTv5
        args = {} if five else {"clean_session": clean}
        self.c = mqtt.Client(client_id=name, protocol=VERSIONS[version], transport=transport, **args)
        self.got, self.subscribed, self.up, self.present = [], threading.Event(), threading.Event(), None
        self.c.on_message = lambda c, u, m: self.got.append((m.topic, m.payload.decode(), m.qos, m.retain, m))
        self.c.on_subscribe = lambda *a: self.subscribed.set()
        self.c.on_connect = self.connected
        if will:
            self.c.will_set(*will)
        if five:
            p = Properties(PacketTypes.CONNECT)
            p.SessionExpiryInterval = 0 if clean else 600
            self.c.connect("127.0.0.1", PORT, clean_start=clean, properties=p)
        else:
            self.c.connect("127.0.0.1", PORT)
        self.c.loop_start()
        assert self.up.wait(10), "no CONNACK"

    def connected(self, c, u, flags, rc, *props):
        assert int(getattr(rc, "value", rc)) == 0, rc
        self.present = flags["session present"]
        self.up.set()

    def subscribe(self, filter, qos):
        self.subscribed.clear()
        self.c.subscribe(filter, qos)
        assert self.subscribed.wait(10), "no SUBACK"

    def publish(self, *args, **kw):
        self.c.publish(*args, **kw).wait_for_publish()

    def wait(self, n):
        end = time.time() + 10
        while len(self.got) < n and time.time() < end:
            time.sleep(0.01)
        assert len(self.got) == n, (n, [g[:4] for g in self.got])
        got, self.got = self.got, []
        return got

    def leave(self):
        self.c.disconnect()
        self.c.loop_stop()

    def drop(self):
        self.c.loop_stop()
        self.c._sock_close()


def go(version, transport):
    name = version + "-" + transport
    sub, pub = Client("s" + name, version, transport), Client("p" + name, version, transport)
    sub.subscribe(name + "/#", 2)
    for q in 0, 1, 2:
        pub.publish(name + "/t", "m%d" % q, q)
    assert [g[:3] for g in sub.wait(3)] == [(name + "/t", "m%d" % q, q) for q in (0, 1, 2)]
    pub.publish(name + "/big", "x" * 200000, 1)
    assert len(sub.wait(1)[0][1]) == 200000
    pub.publish(name + "/kept", "r", 1, retain=True)
    assert not sub.wait(1)[0][3]
    late = Client("l" + name, version, transport)
    late.subscribe(name + "/kept", 1)
    assert late.wait(1)[0][3], "RETAIN is not set"
    gone = Client("g" + name, version, transport, will=(name + "/will", "gone", 1))
    gone.drop()
    assert sub.wait(1)[0][1] == "gone"
    away = Client("a" + name, version, transport, clean=False)
    away.subscribe(name + "/q", 2)
    away.leave()
    for i in range(20):
        pub.publish(name + "/q", str(i), 1)
    back = Client("a" + name, version, transport, clean=False)
    assert version == "3.1" or back.present
    assert [g[1] for g in back.wait(20)] == [str(i) for i in range(20)]
    if version == "5.0":
        p = Properties(PacketTypes.PUBLISH)
        p.ResponseTopic, p.CorrelationData, p.ContentType = "answer", b"\0\1", "text/plain"
        p.UserProperty = [("a", "1"), ("a", "2"), ("b", "")]
        sub.got.clear()
        pub.publish(name + "/props", "x", 1, properties=p)
        m = sub.wait(1)[0][4].properties
        assert (m.ResponseTopic, m.CorrelationData, m.ContentType) == ("answer", b"\0\1", "text/plain")
        assert m.UserProperty == p.UserProperty, m.UserProperty
    for c in sub, pub, late, back:
        c.leave()


for version in VERSIONS:
    for transport in "tcp", "websockets":
        go(version, transport)
print("all well")
