// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"testing"

	"github.com/noctule/noctule/mqtt"
)

// benchMachine has sessions with one subscription each.
func benchMachine(b *testing.B, sessions int, filter func(i int) string) (*machine, []Owner) {
	m := newMachine(&sortedRows{}, memoryBodies{}, Limits{}, 16)
	var owners []Owner
	for i := range sessions {
		c := &Claim{ClientID: fmt.Sprint("client-", i), Expiry: 60}
		m.apply(m.applied+1, c)
		s := &Subscribe{Owner: c.Owner, Subscriptions: []Subscription{{Filter: filter(i), QoS: 1}}}
		m.apply(m.applied+1, s)
		if c.Err != nil || s.Err != nil {
			b.Fatal(c.Err, s.Err)
		}
		owners = append(owners, c.Owner)
	}
	return m, owners
}

func benchMessage() *mqtt.Message {
	return &mqtt.Message{Topic: "devices/17/temperature", Payload: make([]byte, 256), QoS: 1}
}

// One op is a message published, kept for one session, and acknowledged in batches of 100.
func BenchmarkPublishOneSession(b *testing.B) {
	m, owners := benchMachine(b, 1, func(int) string { return "devices/17/+" })
	p, ack := &Publish{Message: benchMessage()}, &Ack{Owner: owners[0]}
	b.ReportAllocs()
	for b.Loop() {
		p.reset()
		m.apply(m.applied+1, p)
		if ack.Refs = append(ack.Refs, p.Ref); len(ack.Refs) == 100 {
			m.apply(m.applied+1, ack)
			ack.Refs = ack.Refs[:0]
		}
	}
}

// One op is a message that waits for 1000 sessions with the same filter.
func BenchmarkPublishThousandSessions(b *testing.B) {
	m, _ := benchMachine(b, 1000, func(int) string { return "devices/#" })
	m.limits.MaxQueueMessages = 10_000
	p := &Publish{Message: benchMessage()}
	b.ReportAllocs()
	for b.Loop() {
		if p.reset(); m.stats.Messages == 10_000 { // before the limit has to count who misses what
			b.StopTimer()
			m.purgeAll(m.filters["devices/#"])
			b.StartTimer()
		}
		m.apply(m.applied+1, p)
	}
}

// One op is a message of 1000 waiting ones acknowledged by one of 1000 sessions.
func BenchmarkAckThousandSessions(b *testing.B) {
	m, owners := benchMachine(b, 1000, func(int) string { return "devices/#" })
	p := &Publish{Message: benchMessage()}
	ack := &Ack{}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%(100*len(owners)) == 0 {
			b.StopTimer()
			ack.Refs = ack.Refs[:0]
			for range 100 {
				p.reset()
				m.apply(m.applied+1, p)
				ack.Refs = append(ack.Refs, p.Ref)
			}
			b.StartTimer()
		}
		if n%100 == 0 {
			ack.Owner = owners[n/100%len(owners)]
			m.apply(m.applied+1, ack)
		}
	}
}

// One op is a message read from a queue of 10000, in pages of 100.
func BenchmarkRead(b *testing.B) {
	for _, filters := range []int{1, 4} {
		b.Run(fmt.Sprint("filters=", filters), func(b *testing.B) {
			m, owners := benchMachine(b, 1, func(int) string { return "devices/#" })
			for _, f := range []string{"#", "devices/17/#", "devices/+/temperature"}[:filters-1] {
				m.apply(m.applied+1, &Subscribe{Owner: owners[0], Subscriptions: []Subscription{{Filter: f, QoS: 1}}})
			}
			for range 10_000 {
				m.apply(m.applied+1, &Publish{Message: benchMessage()})
			}
			e := &engine{machine: m}
			q, after := e.OpenQueue(owners[0]), make([]Position, m.groups)
			var list []Delivery
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%100 != 0 {
					continue
				}
				if n%10_000 == 0 {
					clear(after)
				}
				var err error
				if list, _, err = q.Read(after, 100, 1<<30, 1, list[:0]); err != nil || len(list) != 100 {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}

func BenchmarkRetain(b *testing.B) {
	m := newMachine(&sortedRows{}, memoryBodies{}, Limits{}, 16)
	var publishes []*Publish
	for i := range 10_000 {
		msg := benchMessage()
		msg.Topic, msg.Retain = fmt.Sprint("devices/", i, "/state"), true
		publishes = append(publishes, &Publish{Message: msg})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.apply(m.applied+1, publishes[i%len(publishes)])
	}
}

// One op is a retained message read with the filter #, in pages of 100.
func BenchmarkRetainedPage(b *testing.B) {
	e := newMemory(Options{}, noLog{})
	defer e.Close()
	for i := range 10_000 {
		msg := benchMessage()
		msg.Topic, msg.Retain = fmt.Sprint("devices/", i, "/state"), true
		e.ProposePublish(&Publish{Message: msg})
	}
	done := make(chan struct{})
	e.Barrier(func() { close(done) })
	<-done
	var list []Retained
	after := ""
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%100 != 0 {
			continue
		}
		var err error
		if list, _, err = e.RetainedPage("#", after, 100, 1<<30, 1, list[:0]); err != nil || len(list) == 0 {
			b.Fatal(len(list), err)
		}
		if after = list[len(list)-1].Topic; n%10_000 == 9_900 {
			after = ""
		}
	}
}

// One op is a message through the whole engine, many in flight.
func BenchmarkEngine(b *testing.B) {
	e := newMemory(Options{}, noLog{})
	defer e.Close()
	wait := make(chan struct{})
	c := &Claim{ClientID: "c", Expiry: 60, Done: func(*Claim) { close(wait) }}
	e.ProposeClaim(c)
	<-wait
	e.ProposeSubscribe(&Subscribe{Owner: c.Owner, Subscriptions: []Subscription{{Filter: "devices/#", QoS: 1}}})
	free := make(chan *Publish, 1024)
	for range cap(free) {
		free <- &Publish{Message: benchMessage(), Done: func(p *Publish) { free <- p }}
	}
	ack := make(chan *Ack, 1)
	ack <- &Ack{Owner: c.Owner, Done: func(a *Ack) { a.Refs = a.Refs[:0]; ack <- a }}
	a := <-ack
	b.ReportAllocs()
	for b.Loop() {
		p := <-free
		if p.Ref != (Ref{}) {
			if a.Refs = append(a.Refs, p.Ref); len(a.Refs) == 100 {
				e.ProposeAck(a)
				a = <-ack
			}
		}
		e.ProposePublish(p)
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	p := &Publish{Message: benchMessage()}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = appendRecord(buf[:0], p)
	}
}
