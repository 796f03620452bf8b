// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"time"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// willRules are about the will message (sections 3.1.2.5 and 3.1.3.2).
var willRules = []rule{
	{"will_after_cut", "MQTT-3.1.2-8", "MQTT-3.1.2-7 MQTT-3.1.2-8", willAfterCut},
	{"will_after_violation", "MQTT-3.1.2-8", "MQTT-3.1.2-8", willAfterViolation},
	{"will_of_each_qos", "MQTT-3.1.2-8", "MQTT-3.1.2-7", willOfEachQoS},
	{"will_of_no_bytes", "MQTT-3.1.2-8", "MQTT-3.1.2-7", willOfNoBytes},
	{"will_dropped_by_disconnect", "MQTT-3.1.2-10 MQTT-3.14.4-3", "MQTT-3.1.2-10 MQTT-3.14.4-3 MQTT-3.1.2-8", willDropped},
	{"will_published_once", "MQTT-3.1.2-10", "MQTT-3.1.2-10", willOnce},
	{"no_will_without_flag", "MQTT-3.1.2-12", "", noWill},
	{"will_not_retained", "MQTT-3.1.2-16", "MQTT-3.1.2-14", willNotRetained},
	{"will_retained", "MQTT-3.1.2-17", "MQTT-3.1.2-15", willRetained},
	{"disconnect_with_will", "", "MQTT-3.14.4-3 MQTT-3.1.2-8", disconnectWithWill},
	{"will_delay_passes", "", "MQTT-3.1.2-8", willDelayPasses},
	{"will_delay_and_session_end", "", "MQTT-3.1.2-8", willDelaySessionEnd},
	{"will_delay_and_reconnect", "", "MQTT-3.1.3-9 MQTT-3.1.2-8", willDelayReconnect},
	{"will_delay_and_disconnect", "", "MQTT-3.1.2-8 MQTT-3.1.2-10", willDelayDisconnect},
	{"will_delay_and_clean_start", "", "MQTT-3.1.2-8", willDelayCleanStart},
	{"will_delay_and_takeover", "", "MQTT-3.1.3-9", willDelayTakeover},
	{"will_delay_of_a_clean_session", "", "MQTT-3.1.2-8", willDelayCleanSession},
	{"will_user_properties", "", "MQTT-3.1.3-10", willProperties},
}

// testament is a will of this test.
func (t *T) testament(delay uint32) mqtt.Will {
	w := mqtt.Will{Topic: []byte(t.Topic("will")), Payload: []byte("w"), QoS: 1}
	if delay > 0 {
		w.Properties = mqtt.AppendPropUint32(nil, mqtt.PropWillDelayInterval, delay)
	}
	return w
}

// watch subscribes to the will.
func (t *T) watch() *wire.Client {
	c := t.Connect("watch")
	t.Subscribe(c, 2, t.Topic("will"))
	return c
}

func (t *T) died(watch *wire.Client) *mqtt.Publish {
	t.Helper()
	return t.Take(watch, t.Topic("will"), "w")
}

func willAfterCut(t *T) {
	watch := t.watch()
	c := t.Connect("a", withWill(t.testament(0)))
	t.Nothing(watch)
	t.Cut(c)
	p := t.died(watch)
	equal(t, "QoS", p.QoS, 1)
	equal(t, "RETAIN", p.Retain, false)
}

func willAfterViolation(t *T) {
	watch := t.watch()
	c := t.Connect("a", withWill(t.testament(0)))
	c.Raw(0x00, 0x00)
	t.Closed(c, mqtt.MalformedPacket, mqtt.ProtocolError)
	t.died(watch)
}

func willOfEachQoS(t *T) {
	watch := t.watch()
	for q := range mqtt.QoS(3) {
		w := t.testament(0)
		w.QoS = q
		t.Cut(t.Connect("a", withWill(w)))
		equal(t, "QoS", t.died(watch).QoS, q)
	}
}

func willOfNoBytes(t *T) {
	watch := t.watch()
	w := t.testament(0)
	w.Payload = nil
	t.Cut(t.Connect("a", withWill(w)))
	t.Take(watch, t.Topic("will"), "")
}

func willDropped(t *T) {
	watch := t.watch()
	t.Leave(t.Connect("a", withWill(t.testament(0))))
	t.Leave(t.Connect("b", persistent, withWill(t.testament(0))))
	t.Nothing(watch)
	t.Cut(t.Connect("a"))
	t.Cut(t.Connect("b", persistent))
	t.Nothing(watch)
}

func willOnce(t *T) {
	watch := t.watch()
	t.Cut(t.Connect("a", persistent, withWill(t.testament(0))))
	t.died(watch)
	t.Cut(t.Connect("a", persistent))
	t.Nothing(watch)
}

func noWill(t *T) {
	watch := t.watch()
	t.Cut(t.Connect("a"))
	t.Cut(t.Connect("b", persistent))
	t.Nothing(watch)
}

func willNotRetained(t *T) {
	watch := t.watch()
	t.Cut(t.Connect("a", withWill(t.testament(0))))
	equal(t, "RETAIN", t.died(watch).Retain, false)
	later := t.Connect("later")
	t.Subscribe(later, 1, t.Topic("will"))
	t.Nothing(later)
}

func willRetained(t *T) {
	watch := t.watch()
	w := t.testament(0)
	w.Retain = true
	t.Cut(t.Connect("a", withWill(w)))
	equal(t, "RETAIN for a subscription that was there", t.died(watch).Retain, false)
	later := t.Connect("later")
	t.Subscribe(later, 2, t.Topic("will"))
	p := t.died(later)
	equal(t, "RETAIN for a new subscription", p.Retain, true)
	equal(t, "QoS", p.QoS, 1)
	t.Retain(later, 0, t.Topic("will"), "")
}

// disconnectWithWill ends with every reason but 0x00: the will goes out.
func disconnectWithWill(t *T) {
	watch := t.watch()
	for _, code := range []mqtt.ReasonCode{mqtt.DisconnectWithWillMessage, mqtt.UnspecifiedError, mqtt.ImplementationSpecificError} {
		c := t.Connect("a", withWill(t.testament(0)))
		c.Send(&mqtt.Disconnect{Code: code})
		c.WantClosed()
		t.died(watch)
	}
}

// wantAfter checks that the will comes this many seconds from now, and not before.
func (t *T) wantAfter(watch *wire.Client, seconds int) {
	t.Helper()
	before := time.Duration(seconds)*time.Second - 500*time.Millisecond
	watch.WantSilence(before)
	t.died(watch)
}

func willDelayPasses(t *T) {
	watch := t.watch()
	t.Cut(t.Connect("a", expiring(100), withWill(t.testament(2))))
	t.wantAfter(watch, 2)
	t.Cut(t.Connect("a", expiring(100)))
	t.Nothing(watch)
}

func willDelaySessionEnd(t *T) {
	watch := t.watch()
	t.Cut(t.Connect("a", expiring(2), withWill(t.testament(100))))
	t.wantAfter(watch, 2)
	t.Nothing(watch)
}

func willDelayReconnect(t *T) {
	watch := t.watch()
	t.Cut(t.Connect("a", expiring(100), withWill(t.testament(3))))
	watch.WantSilence(time.Second)
	c, p := t.Connack("a", expiring(100))
	equal(t, "session present", p.SessionPresent, true)
	watch.WantSilence(4 * time.Second)
	t.Cut(c) // which has no will
	watch.WantSilence(4 * time.Second)
}

func willDelayDisconnect(t *T) {
	watch := t.watch()
	t.Leave(t.Connect("a", expiring(100), withWill(t.testament(1))))
	watch.WantSilence(3 * time.Second)
	c := t.Connect("b", expiring(100), withWill(t.testament(2)))
	c.Send(&mqtt.Disconnect{Code: mqtt.DisconnectWithWillMessage})
	c.WantClosed()
	t.wantAfter(watch, 2)
}

// willDelayCleanStart ends the session by a clean start while the will waits: it goes out at once.
func willDelayCleanStart(t *T) {
	watch := t.watch()
	t.Cut(t.Connect("a", expiring(100), withWill(t.testament(50))))
	t.Nothing(watch)
	t.Connect("a")
	t.died(watch)
	t.Nothing(watch)
}

// willDelayTakeover is reconnected to before the connection broke: a delayed will is not sent, one without delay is.
func willDelayTakeover(t *T) {
	watch := t.watch()
	first := t.Connect("a", expiring(100), withWill(t.testament(2)))
	t.Connect("a", expiring(100))
	t.Closed(first, mqtt.SessionTakenOver)
	watch.WantSilence(4 * time.Second)
	first = t.Connect("b", expiring(100), withWill(t.testament(0)))
	t.Connect("b", expiring(100))
	t.Closed(first, mqtt.SessionTakenOver)
	t.died(watch)
}

func willDelayCleanSession(t *T) {
	watch := t.watch()
	t.Cut(t.Connect("a", withWill(t.testament(50))))
	t.died(watch)
}

func willProperties(t *T) {
	watch := t.watch()
	w := t.testament(0)
	sent := messageProperties()
	w.Properties = append(mqtt.AppendPropUint32(nil, mqtt.PropWillDelayInterval, 0), sent...)
	t.Cut(t.Connect("a", expiring(100), withWill(w)))
	p := t.died(watch)
	if string(p.Properties) != string(sent) {
		sameProperties(t, p.Properties, sent)
	}
}
