// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// retainRules are about retained messages (section 3.3.1.3).
var retainRules = []rule{
	{"retained_with_qos", "MQTT-3.3.1-5", "MQTT-3.3.1-5", retainedWithQoS},
	{"retained_replaced", "MQTT-3.3.1-5", "MQTT-3.3.1-5", retainedReplaced},
	{"retained_of_each_topic", "MQTT-3.3.1-6", "MQTT-3.3.1-5", retainedOfEachTopic},
	{"retained_qos_0_replaces", "MQTT-3.3.1-7", "MQTT-3.3.1-5", retainedQoS0Replaces},
	{"retain_1_for_new_subscription", "MQTT-3.3.1-8", "MQTT-3.3.1-9", retainForNew},
	{"retain_0_for_old_subscription", "MQTT-3.3.1-9", "MQTT-3.3.1-12", retainForOld},
	{"empty_retained_is_passed_on", "MQTT-3.3.1-10", "MQTT-3.3.1-6", emptyPassedOn},
	{"empty_retained_is_not_stored", "MQTT-3.3.1-11", "MQTT-3.3.1-7", emptyNotStored},
	{"plain_leaves_retained", "MQTT-3.3.1-12", "MQTT-3.3.1-8", plainLeavesRetained},
	{"retain_handling_0", "", "MQTT-3.3.1-9", retainHandling0},
	{"retain_handling_1", "", "MQTT-3.3.1-10", retainHandling1},
	{"retain_handling_2", "", "MQTT-3.3.1-11", retainHandling2},
	{"retained_after_suback_comes_once", "MQTT-3.3.1-9 MQTT-4.3.3-2", "MQTT-3.3.1-9 MQTT-4.3.3-10", retainedOnce},
	{"retain_as_published_1", "", "MQTT-3.3.1-13", retainAsPublished},
	{"retained_expires", "", "MQTT-3.3.2-5", retainedExpires},
	{"retained_expiry_counts_down", "", "MQTT-3.3.2-6", retainedCountsDown},
}

// newcomer subscribes and gives what a new subscription gets.
func (t *T) newcomer(q mqtt.QoS, filter string) *wire.Client {
	t.Helper()
	c := t.Connect(fmt.Sprint("new", unique()))
	t.Subscribe(c, q, filter)
	return c
}

func retainedWithQoS(t *T) {
	pub := t.Connect("pub")
	for q := range mqtt.QoS(3) {
		name := t.Topic(fmt.Sprint(q))
		t.Retain(pub, q, name, "kept")
		for granted := range mqtt.QoS(3) {
			p := t.Take(t.newcomer(granted, name), name, "kept")
			equal(t, "QoS", p.QoS, min(q, granted))
			equal(t, "RETAIN", p.Retain, true)
			equal(t, "DUP", p.Dup, false)
		}
	}
}

func retainedReplaced(t *T) {
	pub := t.Connect("pub")
	t.Retain(pub, 1, t.Topic("x"), "first")
	t.Retain(pub, 2, t.Topic("x"), "second")
	c := t.newcomer(2, t.Topic("x"))
	equal(t, "QoS", t.Take(c, t.Topic("x"), "second").QoS, 2)
	t.Nothing(c)
}

func retainedOfEachTopic(t *T) {
	pub := t.Connect("pub")
	names := []string{t.Topic("a"), t.Topic("a/b"), t.Topic("a/b/c"), t.Topic("d")}
	for _, name := range names {
		t.Retain(pub, 1, name, name)
	}
	for filter, want := range map[string][]string{"#": names, "+": {names[0], names[3]}, "a/#": names[:3], "+/b": names[1:2], "e": nil} {
		c := t.newcomer(0, t.Topic(filter))
		var got []string
		for range want {
			p := wire.Want[*mqtt.Publish](c)
			equal(t, "payload", string(p.Payload), string(p.Topic))
			equal(t, "RETAIN", p.Retain, true)
			got = append(got, string(p.Topic))
		}
		slices.Sort(got)
		equal(t, "what came for "+filter, fmt.Sprint(got), fmt.Sprint(want))
		t.Nothing(c)
	}
}

// retainedQoS0Replaces lets a server drop a retained message of QoS 0, but not bring back the one before it.
func retainedQoS0Replaces(t *T) {
	pub := t.Connect("pub")
	t.Retain(pub, 1, t.Topic("x"), "old")
	t.Retain(pub, 0, t.Topic("x"), "new")
	pub.WantQuiet()
	c := t.newcomer(2, t.Topic("x"))
	equal(t, "QoS", t.Take(c, t.Topic("x"), "new").QoS, 0)
	t.Nothing(c)
}

func retainForNew(t *T) {
	pub, sub := t.Connect("pub"), t.Connect("sub")
	for q := range mqtt.QoS(3) {
		t.Retain(pub, q, t.Topic("x"), "kept")
		pub.WantQuiet()
		t.settle()
		t.Subscribe(sub, 2, t.Topic("x"))
		equal(t, "RETAIN", t.Take(sub, t.Topic("x"), "kept").Retain, true)
		sub.Send(&mqtt.Unsubscribe{ID: 1, Filters: [][]byte{[]byte(t.Topic("x"))}})
		wire.Want[*mqtt.Unsuback](sub)
	}
}

func retainForOld(t *T) {
	pub, sub := t.Connect("pub"), t.Connect("sub")
	t.Subscribe(sub, 2, t.Topic("x"))
	for q := range mqtt.QoS(3) {
		t.Retain(pub, q, t.Topic("x"), "live")
		equal(t, "RETAIN", t.Take(sub, t.Topic("x"), "live").Retain, false)
	}
}

func emptyPassedOn(t *T) {
	pub, sub := t.Connect("pub"), t.Connect("sub")
	t.Subscribe(sub, 1, t.Topic("x"))
	t.Retain(pub, 1, t.Topic("x"), "kept")
	t.Take(sub, t.Topic("x"), "kept")
	t.Retain(pub, 1, t.Topic("x"), "")
	equal(t, "RETAIN", t.Take(sub, t.Topic("x"), "").Retain, false)
	t.Nothing(t.newcomer(1, t.Topic("x")))
}

func emptyNotStored(t *T) {
	pub := t.Connect("pub")
	for q := range mqtt.QoS(3) {
		t.Retain(pub, q, t.Topic("x"), "")
		pub.WantQuiet()
		t.Nothing(t.newcomer(2, t.Topic("x")))
	}
}

func plainLeavesRetained(t *T) {
	pub := t.Connect("pub")
	t.Publish(pub, 1, t.Topic("none"), "plain")
	t.Nothing(t.newcomer(1, t.Topic("none")))
	t.Retain(pub, 1, t.Topic("x"), "kept")
	t.Publish(pub, 1, t.Topic("x"), "plain")
	t.Publish(pub, 1, t.Topic("x"), "")
	c := t.newcomer(1, t.Topic("x"))
	t.Take(c, t.Topic("x"), "kept")
	t.Nothing(c)
}

func (t *T) handling(h byte) mqtt.Subscription {
	return mqtt.Subscription{Filter: []byte(t.Topic("x")), QoS: 1, RetainHandling: h}
}

func retainHandling0(t *T) {
	t.Retain(t.Connect("pub"), 1, t.Topic("x"), "kept")
	c := t.Connect("a")
	for range 3 {
		t.SubscribeWith(c, 0, t.handling(0))
		equal(t, "RETAIN", t.Take(c, t.Topic("x"), "kept").Retain, true)
	}
}

func retainHandling1(t *T) {
	t.Retain(t.Connect("pub"), 1, t.Topic("x"), "kept")
	c := t.Connect("a", persistent)
	t.SubscribeWith(c, 0, t.handling(1))
	t.Take(c, t.Topic("x"), "kept")
	t.SubscribeWith(c, 0, t.handling(1))
	t.Nothing(c)
	t.Cut(c)
	c = t.Connect("a", persistent) // the subscription is there still
	t.SubscribeWith(c, 0, t.handling(1))
	t.Nothing(c)
	c.Send(&mqtt.Unsubscribe{ID: 1, Filters: [][]byte{[]byte(t.Topic("x"))}})
	wire.Want[*mqtt.Unsuback](c)
	t.SubscribeWith(c, 0, t.handling(1))
	t.Take(c, t.Topic("x"), "kept")
}

func retainHandling2(t *T) {
	pub := t.Connect("pub")
	t.Retain(pub, 1, t.Topic("x"), "kept")
	c := t.Connect("a")
	t.SubscribeWith(c, 0, t.handling(2))
	t.SubscribeWith(c, 0, t.handling(2))
	t.Nothing(c)
	t.Publish(pub, 1, t.Topic("x"), "live")
	t.Take(c, t.Topic("x"), "live")
}

// retainedOnce publishes as soon as the subscriptions are there, the last ones first: these messages are live ones, and not sent
// again as retained ones.
func retainedOnce(t *T) {
	pub, c := t.Connect("pub"), t.Connect("a")
	filters := make([]string, 100)
	for i := range filters {
		filters[i] = t.Topic(fmt.Sprint(i))
	}
	t.Subscribe(c, 2, filters...)
	slices.Reverse(filters)
	for _, name := range filters {
		t.Retain(pub, 2, name, "live")
	}
	for i, p := range t.Collect(c, len(filters)) {
		if string(p.Topic) != filters[i] || p.Retain {
			t.Fatalf("message %d is %v, want topic %q without RETAIN", i, p, filters[i])
		}
	}
	t.Nothing(c)
}

func retainAsPublished(t *T) {
	pub, c := t.Connect("pub"), t.Connect("a")
	t.SubscribeWith(c, 0, mqtt.Subscription{Filter: []byte(t.Topic("x")), QoS: 1, RetainAsPublished: true})
	t.Publish(pub, 1, t.Topic("x"), "plain")
	equal(t, "RETAIN of a plain message", t.Take(c, t.Topic("x"), "plain").Retain, false)
	t.Retain(pub, 1, t.Topic("x"), "kept")
	equal(t, "RETAIN of a retained message", t.Take(c, t.Topic("x"), "kept").Retain, true)
	t.Retain(pub, 1, t.Topic("x"), "")
	equal(t, "RETAIN of an empty message", t.Take(c, t.Topic("x"), "").Retain, true)
}

func (t *T) retainExpiring(seconds uint32) {
	t.publish(t.Connect("pub"), mqtt.Publish{QoS: 1, Retain: true, Topic: []byte(t.Topic("x")), Payload: []byte("kept"),
		Properties: mqtt.AppendPropUint32(nil, mqtt.PropMessageExpiryInterval, seconds)})
}

func retainedExpires(t *T) {
	t.retainExpiring(1)
	time.Sleep(3 * time.Second)
	t.Nothing(t.newcomer(1, t.Topic("x")))
}

func retainedCountsDown(t *T) {
	t.retainExpiring(10)
	time.Sleep(3 * time.Second)
	t.expiryLeft(t.Take(t.newcomer(1, t.Topic("x")), t.Topic("x"), "kept"), 7)
}
