// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// A clean member and a persistent one share; all is acknowledged; the store must be empty.
func TestSharedAcksOfCleanMembers(t *testing.T) {
	b := brokertest.New(t, strategy(broker.RoundRobin))
	lasts, goes := joined(t, b, "lasts", 100, true), joined(t, b, "goes", 100, false)
	send(clean(t, b, mqtt.V5, "p"), 20, one)
	n := len(all(lasts, 150*time.Millisecond, true)) + len(all(goes, 150*time.Millisecond, true))
	if n != 20 {
		t.Fatalf("got %d", n)
	}
	time.Sleep(300 * time.Millisecond)
	if m := b.Store().Stats().Messages; m != 0 {
		t.Errorf("%d acknowledged messages are still stored", m)
	}
	goes.Disconnect()
	lasts.Disconnect()
	time.Sleep(100 * time.Millisecond)
	lasts = joined(t, b, "lasts", 100, true)
	if n := len(all(lasts, 150*time.Millisecond, true)); n != 0 {
		t.Errorf("%d acknowledged messages came again", n)
	}
}

// A persistent member reads a backlog while more is published: nothing may come twice.
func TestSharedBacklogComesOnce(t *testing.T) {
	for _, q := range []mqtt.QoS{1, 2} {
		b := brokertest.New(t, strategy(broker.RoundRobin))
		m, _ := connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("m"), Properties: mqtt.AppendPropUint16(expiry(600), mqtt.PropReceiveMaximum, 1000)})
		m.Subscribe(1, q, "$share/g/t/#")
		m.Disconnect()
		time.Sleep(50 * time.Millisecond)
		p := clean(t, b, mqtt.V5, "p")
		n := 0
		pub := func(k int) {
			for range k {
				n++
				p.Publish(publish("t/1", fmt.Sprint(n), q, uint16(n)))
			}
		}
		pub(3000)
		var wg sync.WaitGroup
		wg.Go(func() { pub(2000) })
		m, _ = connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte("m"), Properties: mqtt.AppendPropUint16(expiry(600), mqtt.PropReceiveMaximum, 1000)})
		seen := map[string]int{}
		twice := 0
		look := func() {
			for _, x := range all(m, 500*time.Millisecond, true) {
				if seen[string(x.Payload)]++; seen[string(x.Payload)] > 1 {
					twice++
				}
			}
		}
		look()
		wg.Wait()
		for range 20 { // a machine that is busy may pause for longer than that
			if len(seen) == n {
				break
			}
			look()
		}
		if twice > 0 || len(seen) != n {
			t.Errorf("QoS %d: %d came twice, %d of %d came", q, twice, len(seen), n)
		}
	}
}

func TestSharedQoSRaisedFrom0(t *testing.T) {
	b := brokertest.New(t, strategy(broker.RoundRobin))
	m, _ := lasting(t, b, "m")
	m.Subscribe(1, 0, "$share/g/t/#")
	time.Sleep(20 * time.Millisecond)
	m.Subscribe(2, 2, "$share/g/t/#")
	time.Sleep(20 * time.Millisecond)
	p := clean(t, b, mqtt.V5, "p")
	for i := range 5 {
		p.Publish(publish("t/1", fmt.Sprint(i), 2, uint16(i+1)))
	}
	first := len(all(m, 150*time.Millisecond, true))
	time.Sleep(200 * time.Millisecond)
	stored := b.Store().Stats().Messages
	other, _ := lasting(t, b, "other")
	other.Subscribe(1, 2, "$share/g/t/#")
	again := len(all(m, 150*time.Millisecond, true)) + len(all(other, 150*time.Millisecond, true))
	if first != 5 || stored != 0 || again != 0 {
		t.Errorf("%d came, %d acknowledged ones remain stored, %d of QoS 2 came again", first, stored, again)
	}
}

// The last persistent member leaves for good while a clean one holds an unacknowledged message; another clean one is there.
func TestSharedInflightSurvivesEndOfStoredQueue(t *testing.T) {
	b := brokertest.New(t, strategy(broker.RoundRobin))
	lasts := joined(t, b, "lasts", 100, true)
	holder, heir := joined(t, b, "holder", 100, false), joined(t, b, "heir", 100, false)
	send(clean(t, b, mqtt.V5, "p"), 9, one)
	all(lasts, 100*time.Millisecond, true)
	all(heir, 100*time.Millisecond, true)
	mine := len(backlog(holder))
	time.Sleep(200 * time.Millisecond)
	lasts.Send(&mqtt.Unsubscribe{ID: 9, Filters: [][]byte{[]byte("$share/g/t/#")}})
	wire.Want[*mqtt.Unsuback](lasts)
	time.Sleep(50 * time.Millisecond)
	holder.Conn.Close()
	if n := len(all(heir, 200*time.Millisecond, true)); n != mine {
		t.Errorf("%d of %d unacknowledged messages went to the other member", n, mine)
	}
}

// A persistent member joins a share with a clean member while QoS 2 messages come: none may come twice.
func TestSharedBecomesStoredWithoutDuplicates(t *testing.T) {
	b := brokertest.New(t, strategy(broker.RoundRobin))
	cleanOne := clean(t, b, mqtt.V5, "clean")
	cleanOne.Subscribe(1, 2, "$share/g/t/#")
	time.Sleep(20 * time.Millisecond)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		p := clean(t, b, mqtt.V5, "p")
		for {
			select {
			case <-stop:
				return
			default:
			}
			n++
			p.Publish(publish("t/1", fmt.Sprint(n), 2, uint16(n%60000+1)))
		}
	})
	var mu sync.Mutex
	seen, twice := map[string]int{}, 0
	note := func(ps []*mqtt.Publish) {
		mu.Lock()
		defer mu.Unlock()
		for _, x := range ps {
			if seen[string(x.Payload)]++; seen[string(x.Payload)] > 1 {
				twice++
			}
		}
	}
	wg.Go(func() { note(all(cleanOne, 700*time.Millisecond, true)) })
	for i := range 10 {
		m, _ := lasting(t, b, fmt.Sprint("m", i))
		m.Subscribe(1, 2, "$share/g/t/#")
		note(all2(m, 50*time.Millisecond))
		m.Send(&mqtt.Unsubscribe{ID: 9, Filters: [][]byte{[]byte("$share/g/t/#")}})
		note(all2(m, 50*time.Millisecond))
	}
	close(stop)
	wg.Wait()
	if twice > 0 || len(seen) < n {
		t.Errorf("%d QoS 2 messages came twice; %d of %d came", twice, len(seen), n)
	}
}

// all2 reads for d in all.
func all2(c *wire.Client, d time.Duration) (got []*mqtt.Publish) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		x, err := c.Read(10 * time.Millisecond)
		if err == wire.ErrQuiet {
			continue
		}
		if err != nil {
			return got
		}
		switch p := x.(type) {
		case *mqtt.Publish:
			got = append(got, p)
			c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
		case *mqtt.Ack:
			if p.Type == mqtt.PUBREL {
				c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
			}
		}
	}
	return got
}

// A member that does not read must not make the broker hoard QoS 0 for it.
func TestSharedQoS0ToASlowMemberIsBounded(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	s := clean(t, b, mqtt.V5, "s")
	s.Subscribe(1, 0, "$share/g/t")
	time.Sleep(20 * time.Millisecond)
	p := clean(t, b, mqtt.V5, "p")
	before := b.Stats().Counts[broker.BytesSent]
	payload := string(make([]byte, 100<<10))
	for range 300 {
		m := publish("t", payload, 0, 0)
		p.Send(&m)
	}
	p.WantQuiet()
	time.Sleep(300 * time.Millisecond)
	if n := b.Stats().Counts[broker.BytesSent] - before; n > 8<<20 {
		t.Errorf("%d MB wait for a client that reads nothing; MaxOutBytes is 1 MB", n>>20)
	}
}

// What waits in a shared subscription in memory has a bound in bytes.
func TestSharedWaitingBytesAreBounded(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2, Limits: rlimits(func(l *broker.Limits) { l.MaxQueueBytes, l.MaxTotalQueueBytes = 1<<20, 1<<20 })})
	joined(t, b, "m", 1, false)
	p := clean(t, b, mqtt.V5, "p")
	for i := range 100 {
		p.Publish(publish("t/1", string(make([]byte, 500<<10)), 1, uint16(i+1)))
	}
	if n := b.Stats().Dropped[plugin.QueueFull]; n < 80 {
		t.Errorf("%d of 100 messages of 500 KiB were dropped, with 1 MiB for all queues", n)
	}
}

// During shutdown the messages of a share must not fly in circles between it and members that leave.
func TestShareDoesNotSpinWhileMembersLeave(t *testing.T) {
	b := brokertest.New(t, broker.Options{Loops: 2})
	m := joined(t, b, "m", 10, false)
	p := clean(t, b, mqtt.V5, "p")
	p.Publish(publish("t/1", "first", 1, 1))
	m.WantPublish("t/1", "first") // unacknowledged: it leaves when this is acknowledged
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { b.Drain(ctx) })
	time.Sleep(50 * time.Millisecond)
	if err := b.Publish(t.Context(), &mqtt.Message{Topic: "t/1", QoS: 1, Payload: []byte("second")}); err != nil {
		t.Fatal(err)
	}
	ran := func() (n int64) {
		for i := range b.Loops().N() {
			n += int64(b.Loops().Loop(i).Stats().Tasks)
		}
		return n
	}
	before := ran()
	time.Sleep(100 * time.Millisecond)
	if n := ran() - before; n > 1000 {
		t.Errorf("%d tasks ran in 100 ms of doing nothing", n)
	}
	wg.Wait()
}

// Members acknowledge; another one's session ends right after, and what becomes free makes the share read again:
// what is acknowledged must not come again.
func TestRereadRepeatsNothing(t *testing.T) {
	o := strategy(broker.RoundRobin)
	b := brokertest.New(t, o)
	sub := func(id string, lasts bool) *wire.Client {
		p := mqtt.Connect{ClientID: []byte(id), CleanStart: true}
		if lasts {
			p.Properties = expiry(100)
		}
		c, _ := connect(t, b, mqtt.V5, p)
		c.Subscribe(1, 2, "$share/g/t/#")
		time.Sleep(20 * time.Millisecond)
		return c
	}
	dies, acks, heir := sub("dies", true), sub("acks", true), sub("heir", true)
	p := clean(t, b, mqtt.V5, "p")
	for i := range 9 {
		p.Publish(publish("t/1", fmt.Sprint(i), mqtt.QoS(1), uint16(i+1)))
	}
	seen := map[string]int{}
	for _, c := range []*wire.Client{acks, heir} {
		for _, m := range all(c, 20*time.Millisecond, true) {
			seen[string(m.Payload)]++
		}
	}
	dies.Send(&mqtt.Disconnect{Properties: expiry(0)}) // ends the session: its messages are free
	for _, c := range []*wire.Client{acks, heir} {
		for _, m := range all(c, 100*time.Millisecond, true) {
			seen[string(m.Payload)]++
		}
	}
	for k, n := range seen {
		if n > 1 {
			t.Errorf("%s came %d times, though it was acknowledged", k, n)
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d of 9 came", len(seen))
	}
}
