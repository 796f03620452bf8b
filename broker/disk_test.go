// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/store/storetest"
)

// alarmed is an observer of alarms.
type alarmed struct{ seen chan plugin.AlarmEvent }

func (*alarmed) Name() string { return "test.alarmed" }
func (a *alarmed) Events() *plugin.Events {
	return &plugin.Events{Alarm: func(e plugin.AlarmEvent) { a.seen <- e }}
}

func TestNoticesBecomeAlarms(t *testing.T) {
	w := new(broker.StoreWatch)
	w.Notice(store.Notice{Kind: store.Damaged, Text: "block 7 is damaged", File: "state/1.sst"})
	w.Notice(store.Notice{Kind: store.TornTail, Text: "cut at 12"})
	observer := &alarmed{make(chan plugin.AlarmEvent, 10)}
	b := brokertest.New(t, broker.Options{Watch: w, Plugins: []plugin.Plugin{observer}})
	names := func() (s string) {
		for _, a := range b.Alarms() {
			if a.Text == "" || a.Do == "" || a.Since.IsZero() {
				t.Errorf("%+v lacks something", a)
			}
			s += a.Name + " "
		}
		return s
	}
	step := func(k store.NoticeKind, want string) {
		t.Helper()
		w.Notice(store.Notice{Kind: k, Text: "somewhere"})
		if got := names(); got != want {
			t.Errorf("after %d: got alarms %q, want %q", k, got, want)
		}
	}
	if got := names(); got != "damaged " {
		t.Errorf("got alarms %q of what was found before the broker was there", got)
	}
	step(store.DiskFull, "damaged disk_full ")
	step(store.DiskFull, "damaged disk_full ") // no news
	step(store.SlowDisk, "damaged disk_full disk_slow ")
	step(store.Room, "damaged disk_slow ")
	step(store.SlowDiskEnd, "damaged ")
	step(store.Damaged, "damaged damaged ")
	for _, want := range []string{"damaged true", "disk_full true", "disk_slow true", "disk_full false", "disk_slow false", "damaged true"} {
		if e := <-observer.seen; fmt.Sprint(e.Name, " ", e.Raised) != want {
			t.Errorf("got %+v, want %s", e, want)
		}
	}
	if n := b.Stats().Notices; n[store.Damaged] != 2 || n[store.TornTail] != 1 || n[store.DiskFull] != 2 {
		t.Errorf("got notices %v", n)
	}
	if b.Failure() != nil {
		t.Errorf("got failure %v", b.Failure())
	}
}

// Once the disk has failed nothing that waits for it is acknowledged, neither with success nor with a code that would make a client
// forget its message.
func TestNothingIsAcknowledgedAfterDiskFailure(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		b, g := gated(t)
		keeper, _ := lasting(t, b, "keeper")
		keeper.Subscribe(1, 2, "kept/#")
		var waiting []*wire.Client
		dial := func(id string) *wire.Client {
			p := mqtt.Connect{ClientID: []byte(id)}
			if v == mqtt.V5 {
				p.Properties = expiry(3600)
			}
			c, _ := connect(t, b, v, p)
			waiting = append(waiting, c)
			return c
		}
		one, two, release, subscribe, unsubscribe := dial("one"), dial("two"), dial("release"), dial("subscribe"), dial("unsubscribe")
		p5 := publish("kept/x", "x", 2, 5)
		release.Send(&p5)
		release.WantAck(mqtt.PUBREC, 5)
		unsubscribe.Subscribe(1, 1, "u")
		g.Hold()
		p1, p2 := publish("kept/1", "x", 1, 1), publish("kept/2", "x", 2, 2)
		one.Send(&p1)
		two.Send(&p2)
		release.Send(&mqtt.Ack{Type: mqtt.PUBREL, ID: 5})
		subscribe.Send(&mqtt.Subscribe{ID: 2, Subscriptions: []mqtt.Subscription{{Filter: []byte("other")}}})
		unsubscribe.Send(&mqtt.Unsubscribe{ID: 3, Filters: [][]byte{[]byte("u")}})
		waitHeld(t, g, 5)
		fresh := wire.New(t, b.Dial(), mqtt.V5)
		fresh.SendConnect(mqtt.Connect{ClientID: []byte("fresh"), Properties: expiry(60)})
		waitHeld(t, g, 6)
		g.Fail(fmt.Errorf("%w: input/output error", store.ErrFailed))
		for _, c := range waiting {
			if code := c.WantClosed(); v == mqtt.V5 && code != mqtt.ServerUnavailable {
				t.Errorf("%v: closed with %v", v, code)
			}
		}
		if p := wire.Want[*mqtt.Connack](fresh); p.Code != mqtt.ServerUnavailable {
			t.Errorf("got CONNACK %v", p.Code)
		}
		select {
		case <-b.Failed():
		case <-time.After(10 * time.Second):
			t.Fatal("the broker does not say that it has failed")
		}
		if err := b.Failure(); !errors.Is(err, broker.ErrDiskFailed) || !errors.Is(err, store.ErrFailed) {
			t.Errorf("got failure %v", err)
		}
		g.Fail(nil)
		g.Release()
	}
}

func TestDiskFailureNoticeEndsTheBroker(t *testing.T) {
	w := new(broker.StoreWatch)
	b := brokertest.New(t, broker.Options{Watch: w})
	cause := errors.New("input/output error")
	w.Notice(store.Notice{Kind: store.DiskFailed, Text: "log/3", Err: cause})
	<-b.Failed()
	if err := b.Failure(); !errors.Is(err, broker.ErrDiskFailed) || !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// A full disk refuses, and nothing is left half.
func TestFullDiskRefuses(t *testing.T) {
	b, g := gated(t)
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "kept", "u")
	p := clean(t, b, mqtt.V5, "p")
	old := clean(t, b, mqtt.V311, "old")
	session, _ := connect(t, b, mqtt.V311, mqtt.Connect{ClientID: []byte("session")})
	g.Fail(store.ErrFull)

	for q := mqtt.QoS(1); q <= 2; q++ {
		m := publish("kept", "x", q, uint16(q))
		p.Send(&m)
		if a := wire.Want[*mqtt.Ack](p); a.Code != mqtt.QuotaExceeded || a.ID != uint16(q) {
			t.Errorf("QoS %d: got %v", q, a)
		}
	}
	p.Publish(publish("free", "x", 1, 9)) // nobody needs it kept
	m := publish("kept", "x", 1, 1)
	old.Send(&m)
	old.WantClosed() // a PUBACK would be a lie

	s.Send(&mqtt.Subscribe{ID: 2, Subscriptions: []mqtt.Subscription{{Filter: []byte("new"), QoS: 1}, {Filter: []byte("kept"), QoS: 0}}})
	if a := wire.Want[*mqtt.Suback](s); a.Codes[0] != mqtt.QuotaExceeded || a.Codes[1] != mqtt.QuotaExceeded {
		t.Errorf("got SUBACK %v", a.Codes)
	}
	session.Send(&mqtt.Subscribe{ID: 2, Subscriptions: []mqtt.Subscription{{Filter: []byte("new"), QoS: 1}}})
	if a := wire.Want[*mqtt.Suback](session); a.Codes[0] != mqtt.UnspecifiedError {
		t.Errorf("got SUBACK %v", a.Codes)
	}
	s.Send(&mqtt.Unsubscribe{ID: 3, Filters: [][]byte{[]byte("u"), []byte("never")}})
	if a := wire.Want[*mqtt.Unsuback](s); a.Codes[0] != mqtt.ImplementationSpecificError || a.Codes[1] != mqtt.NoSubscriptionExisted {
		t.Errorf("got UNSUBACK %v", a.Codes)
	}
	fresh := wire.New(t, b.Dial(), mqtt.V5)
	fresh.SendConnect(mqtt.Connect{ClientID: []byte("fresh"), Properties: expiry(60)})
	if a := wire.Want[*mqtt.Connack](fresh); a.Code != mqtt.QuotaExceeded {
		t.Errorf("got CONNACK %v", a.Code)
	}
	clean(t, b, mqtt.V311, "clean") // needs nothing kept

	g.Fail(nil) // as it was: kept with QoS 1, u, and nothing else
	for _, name := range []string{"new", "u", "kept"} {
		p.Publish(publish(name, name, 1, 20))
	}
	got := map[string]mqtt.QoS{}
	for _, m := range all(s, 300*time.Millisecond, true) {
		got[string(m.Topic)] = m.QoS
	}
	if len(got) != 2 || got["u"] != 1 || got["kept"] != 1 {
		t.Errorf("got %v", got)
	}
	if b.Failure() != nil {
		t.Errorf("a full disk is a failure: %v", b.Failure())
	}
	if d := b.Drops().Drops(journal.Query{Cause: "store_full"}); len(d) != 3 || d[0].Topic != "kept" || d[0].Publisher != "p" {
		t.Errorf("got drops %+v", d)
	}
}

// What is held back while the disk is full is kept, answered and delivered in order when there is room.
func TestFullDiskHoldsBack(t *testing.T) {
	g := storetest.Gate(store.NewMemory(store.Options{}))
	w := new(broker.StoreWatch)
	b := brokertest.New(t, broker.Options{Loops: 2, Store: g, Watch: w, Policy: broker.Policy{WhenFull: broker.HoldWhenFull}})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "kept/#")
	other := clean(t, b, mqtt.V5, "other")
	other.Subscribe(1, 0, "free")
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		p := clean(t, b, v, "p"+v.String())
		gone := clean(t, b, v, "gone"+v.String())
		g.Fail(store.ErrFull)
		w.Notice(store.Notice{Kind: store.DiskFull, Text: "full"})
		x := publish("kept/gone", "x", 1, 1)
		gone.Send(&x)
		for i := range uint16(20) {
			m := publish("kept/"+strconv.Itoa(int(i%3)), strconv.Itoa(int(i)), 1, i+1)
			p.Send(&m)
		}
		p.WantSilence(quiet)
		again := clean(t, b, v, "gone"+v.String()) // takes over: what was held goes with the connection
		other.Publish(publish("free", "flows", 0, 0))
		other.WantPublish("free", "flows")
		again.Disconnect()
		g.Fail(nil)
		w.Notice(store.Notice{Kind: store.Room, Text: "room"})
		for i := range uint16(20) {
			p.WantAck(mqtt.PUBACK, i+1)
		}
		got := all(s, 300*time.Millisecond, true)
		if len(got) != 20 {
			t.Fatalf("%v: got %d messages, want 20", v, len(got))
		}
		for i, m := range got {
			if string(m.Payload) != strconv.Itoa(i) {
				t.Fatalf("%v: message %d is %s", v, i, m.Payload)
			}
		}
		p.Publish(publish("kept/more", "x", 1, 99)) // it is read again
		all(s, quiet, true)
	}
}

// A limit that refuses is no full disk: it may last for ever, and nobody waits for it.
func TestLimitIsNotHeldBack(t *testing.T) {
	b := brokertest.New(t, broker.Options{Store: store.NewMemory(store.Options{Limits: store.Limits{MaxRetained: 1}}), Watch: new(broker.StoreWatch),
		Policy: broker.Policy{WhenFull: broker.HoldWhenFull}})
	p := clean(t, b, mqtt.V5, "p")
	for i, want := range []mqtt.ReasonCode{mqtt.NoMatchingSubscribers, mqtt.QuotaExceeded} {
		m := publish(fmt.Sprint("r", i), "x", 1, 1)
		m.Retain = true
		p.Send(&m)
		if a := wire.Want[*mqtt.Ack](p); a.Code != want {
			t.Errorf("got %v, want %v", a.Code, want)
		}
	}
}

// Who publishes without end while the disk hangs is not read beyond the Receive Maximum, and nobody else notices.
func TestHangingStoreBoundsEachPublisher(t *testing.T) {
	const most = 256
	for _, flood := range []struct {
		name string
		make func(id uint16) mqtt.Publish
	}{
		{"QoS 1", func(id uint16) mqtt.Publish { return publish("kept", "x", 1, id) }},
		{"retained QoS 0", func(uint16) mqtt.Publish { m := publish("r", "x", 0, 0); m.Retain = true; return m }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			b, g := gated(t)
			s, _ := lasting(t, b, "s")
			s.Subscribe(1, 1, "kept")
			other := clean(t, b, mqtt.V311, "other")
			other.Subscribe(1, 1, "free")
			p, quick := clean(t, b, mqtt.V311, "p"), clean(t, b, mqtt.V311, "quick")
			g.Hold()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for i := range uint16(3000) {
					m := flood.make(i + 1)
					if _, err := p.Conn.Write(m.Append(nil, mqtt.V311)); err != nil {
						return
					}
				}
			}()
			waitHeld(t, g, most)
			for q := range mqtt.QoS(2) {
				quick.Publish(publish("free", "flows", q, uint16(q)))
				other.WantPublish("free", "flows")
			}
			time.Sleep(quiet)
			if n := g.Held(); n > most+1 {
				t.Errorf("%d commands wait, want %d at most", n, most)
			}
			g.Release()
			select {
			case <-sent:
			case <-time.After(10 * time.Second):
				t.Error("it is not read again")
			}
			p.Conn.Close()
		})
	}
}

// loaded is a store that says how much waits for it.
type loaded struct {
	store.Store
	mu       sync.Mutex
	commands int
	bytes    int64
}

func (l *loaded) Pending() (int, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commands, l.bytes
}

func (l *loaded) set(commands int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commands, l.bytes = commands, bytes
}

// While too much of all clients waits for the store, who publishes what must be kept is paused.
func TestPublishersArePausedWhileMuchIsPending(t *testing.T) {
	l := &loaded{Store: store.NewMemory(store.Options{})}
	b := brokertest.New(t, broker.Options{Loops: 2, Store: l})
	s, _ := lasting(t, b, "s")
	s.Subscribe(1, 1, "kept")
	for _, load := range []struct {
		commands int
		bytes    int64
	}{{1_000_000, 0}, {0, 1 << 30}} {
		p := clean(t, b, mqtt.V5, "p")
		l.set(load.commands, load.bytes)
		p.Publish(publish("kept", "1", 1, 1)) // it was under way
		all(s, quiet, true)
		m, free := publish("kept", "2", 1, 2), clean(t, b, mqtt.V5, "free")
		p.Send(&m)
		p.WantSilence(quiet)
		free.Publish(publish("free", "x", 1, 1)) // needs nothing kept
		l.set(90_000, 60<<20)                    // below the marks, but not by much
		p.WantSilence(quiet)
		l.set(0, 0)
		p.WantAck(mqtt.PUBACK, 2)
		all(s, quiet, true)
		p.Disconnect()
	}
}

// A clean session neither makes nor drops anything in the store, so its CONNECT does not wait for the disk.
func TestCleanConnectNeedsNoStore(t *testing.T) {
	b, g := gated(t)
	g.Hold()
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		c := clean(t, b, v, "c")
		c.Subscribe(1, 2, "x")
		again := clean(t, b, v, "c") // takes over
		again.Disconnect()
	}
	if n := g.Held(); n != 0 {
		t.Errorf("%d commands wait", n)
	}
}

// While the disk is full a client's messages go to the store one by one: none finds room behind one that was refused and is sent again.
func TestFullDiskTakesOneMessageAtATime(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		g := storetest.Gate(store.NewMemory(store.Options{}))
		w := new(broker.StoreWatch)
		b := brokertest.New(t, broker.Options{Loops: 2, Store: g, Watch: w})
		s, _ := lasting(t, b, "s")
		s.Subscribe(1, 2, "kept")
		p := clean(t, b, v, "p")
		w.Notice(store.Notice{Kind: store.DiskFull, Text: "full"})
		g.Hold()
		first, second := publish("kept", "1", 1, 1), publish("kept", "2", 2, 2)
		p.Send(&first, &second)
		waitHeld(t, g, 1)
		time.Sleep(quiet)
		if n := g.Held(); n != 1 {
			t.Errorf("%v: %d messages are on their way to a full disk", v, n)
		}
		w.Notice(store.Notice{Kind: store.Room, Text: "room"})
		g.Release()
		p.WantAck(mqtt.PUBACK, 1)
		p.WantAck(mqtt.PUBREC, 2)
	}
}
