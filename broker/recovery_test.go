// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
)

// durable starts a broker on a data directory. later is how much time has passed meanwhile.
func durable(t *testing.T, dir string, later time.Duration) *brokertest.Broker {
	t.Helper()
	now := func() time.Time { return time.Now().Add(later) }
	s, err := store.Open(dir, store.Options{Now: func() int64 { return now().UnixNano() }, Limits: broker.DefaultStoreLimits()})
	if err != nil {
		t.Fatal(err)
	}
	return brokertest.New(t, broker.Options{Store: s, Now: now})
}

// crashed copies a data directory as it is on disk while the broker runs: what another process would find if the broker were killed
// now.
func crashed(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// What was acknowledged before the broker was killed is there afterwards: sessions with their subscriptions, what is queued, the window,
// QoS 2 identifiers, retained messages, wills.
func TestBrokerGoesOnAfterACrash(t *testing.T) {
	dir := t.TempDir()
	b := durable(t, dir, 0)
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 2, "a", "will/#")
	p, _ := lasting(t, b, "p")
	m := publish("a", "1", 1, 1)
	p.Send(&m)
	p.WantAck(mqtt.PUBACK, 1)
	s.WantPublish("a", "1") // not acknowledged
	m = publish("a", "2", 2, 2)
	p.Send(&m)
	p.WantAck(mqtt.PUBREC, 2)
	s.Disconnect()
	m = publish("a", "3", 1, 3)
	m.Retain = true
	p.Send(&m)
	p.WantAck(mqtt.PUBACK, 3)
	w := wire.New(t, b.Dial(), mqtt.V5)
	w.Connect(mqtt.Connect{ClientID: []byte("w"), Properties: expiry(3600), HasWill: true,
		Will: mqtt.Will{Topic: []byte("will/w"), Payload: []byte("gone"), QoS: 1}})
	copied := crashed(t, dir)
	b.Stop()

	b = durable(t, copied, 0)
	s, connack := lasting(t, b, "s")
	if !connack.SessionPresent {
		t.Error("the session is gone")
	}
	got := map[string]*mqtt.Publish{}
	for _, m := range all(s, 500*time.Millisecond, true) {
		if got[string(m.Payload)] != nil {
			t.Errorf("%s came twice", m.Payload)
		}
		got[string(m.Payload)] = m
	}
	for _, want := range []string{"1", "2", "3", "gone"} { // the will's client is gone with the broker
		if got[want] == nil {
			t.Errorf("%s did not come: %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("got %v", got)
	}
	p, _ = lasting(t, b, "p")
	m = publish("a", "2", 2, 2)
	m.Dup = true
	p.Send(&m) // its PUBREC may have been lost
	p.WantAck(mqtt.PUBREC, 2)
	if got := all(s, quiet, true); len(got) != 0 {
		t.Errorf("a QoS 2 message came twice: %v", got)
	}
	p.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 2})
	if a := p.WantAck(mqtt.PUBCOMP, 2); a.Code != mqtt.Success {
		t.Errorf("got %v", a)
	}
	late := clean(t, b, mqtt.V5, "late")
	late.Subscribe(1, 1, "a")
	if m := late.WantPublish("a", "3"); !m.Retain {
		t.Error("RETAIN is not set")
	}
	if st := b.Store().Stats(); st.Sessions != 3 || st.Retained != 1 {
		t.Errorf("got %+v", st)
	}
}

// Sessions that expired while nobody ran are gone, and their wills are published, to those that are still there.
func TestTimePassesWhileTheBrokerIsDown(t *testing.T) {
	dir := t.TempDir()
	b := durable(t, dir, 0)
	s, _ := lasting(t, b, "s") // an hour
	s.Subscribe(1, 1, "will/#")
	s.Disconnect()
	w := wire.New(t, b.Dial(), mqtt.V5)
	will := mqtt.Will{Topic: []byte("will/w"), Payload: []byte("gone"), QoS: 1,
		Properties: mqtt.AppendPropUint32(nil, mqtt.PropWillDelayInterval, 600)}
	w.Connect(mqtt.Connect{ClientID: []byte("w"), Properties: expiry(60), HasWill: true, Will: will})
	p := clean(t, b, mqtt.V5, "p")
	r := publish("r", "short", 1, 1)
	r.Retain = true
	r.Properties = mqtt.AppendPropUint32(nil, mqtt.PropMessageExpiryInterval, 60)
	p.Publish(r)
	w.Conn.Close()
	time.Sleep(quiet) // its end is noticed
	b.Stop()

	b = durable(t, dir, 10*time.Minute)
	s, connack := lasting(t, b, "s")
	if !connack.SessionPresent {
		t.Error("the session is gone")
	}
	s.WantPublish("will/w", "gone") // with the end of its session, before its delay
	if _, connack := lasting(t, b, "w"); connack.SessionPresent {
		t.Error("the session did not expire")
	}
	s.Subscribe(2, 1, "r")
	s.WantSilence(quiet)
	if n := b.Stats().Counts[broker.SessionsExpired]; n != 1 {
		t.Errorf("got %d sessions expired", n)
	}
	if n := b.Store().Stats().Retained; n != 0 {
		t.Errorf("got %d retained messages", n)
	}
}

// The wills of clean sessions that end with the broker are kept before it ends.
func TestWillsOfShutdownAreKept(t *testing.T) {
	dir := t.TempDir()
	b := durable(t, dir, 0)
	const clients = 50
	for i := range clients {
		w := wire.New(t, b.Dial(), mqtt.V5)
		name := []byte(fmt.Sprint("will/", i))
		w.Connect(mqtt.Connect{ClientID: name, CleanStart: true, HasWill: true, Will: mqtt.Will{Topic: name, Payload: []byte("gone"), QoS: 1, Retain: true}})
	}
	b.Stop()
	b = durable(t, dir, 0)
	if n := b.Store().Stats().Retained; n != clients {
		t.Errorf("got %d wills, want %d", n, clients)
	}
}
