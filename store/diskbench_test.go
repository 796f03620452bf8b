// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package store

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// cpu is the time that this process has taken of the processors.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// One op is a message of 256 bytes published and synced, taken by one of 50 sessions with a queue of its own, and
// acknowledged with 99 others. 3200 are on their way.
func BenchmarkDisk(b *testing.B) {
	for _, class := range []Durability{Sync, Interval} {
		b.Run(class.String(), func(b *testing.B) {
			s, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			const pairs, window = 50, 64
			owners := make([]Owner, pairs)
			for i := range owners {
				owners[i] = claim(b, s, fmt.Sprint("c", i)).Owner
				subscribe(b, s, owners[i], fmt.Sprint("devices/", i, "/+"))
			}
			var wg sync.WaitGroup
			start := cpu(b)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range pairs {
				wg.Go(func() {
					free := make(chan *Publish, window)
					for range window {
						free <- &Publish{Done: func(p *Publish) { free <- p }, Durability: class}
					}
					topic, payload := fmt.Sprint("devices/", i, "/temperature"), make([]byte, 256)
					ack := &Ack{Owner: owners[i]}
					for range b.N / pairs {
						p := <-free
						if p.Err != nil {
							b.Error(p.Err)
						}
						if p.Ref != (Ref{}) {
							ack.Refs = append(ack.Refs, p.Ref)
						}
						if len(ack.Refs) == 100 {
							s.ProposeAck(ack)
							ack = &Ack{Owner: owners[i]}
						}
						p.Message = &mqtt.Message{Topic: topic, Payload: payload, QoS: 1, ClientID: "publisher"}
						s.ProposePublish(p)
					}
					for range window {
						<-free
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(cpu(b)-start)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(s.Stats().Commits)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// fillQueue makes a session for which n messages of 100 bytes wait, and closes the store.
func fillQueue(b *testing.B, dir string, n, sessions int) {
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range sessions {
		s.ProposeClaim(&Claim{ClientID: fmt.Sprint("client-", i), Expiry: Never, Now: 1e9, Done: func(c *Claim) {
			go s.ProposeSubscribe(&Subscribe{Owner: c.Owner, Subscriptions: []Subscription{{Filter: fmt.Sprint("own/", i), QoS: 1}}})
		}})
	}
	subscribe(b, s, claim(b, s, "c").Owner, "devices/+/temperature")
	for i := range n {
		for pending, _ := s.Pending(); pending > 10000; pending, _ = s.Pending() {
			time.Sleep(time.Millisecond)
		}
		m := &mqtt.Message{Topic: fmt.Sprint("devices/", i%100, "/temperature"), Payload: make([]byte, 100), QoS: 1, ClientID: "publisher"}
		s.ProposePublish(&Publish{Message: m})
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// One op opens a store with 100 000 sessions and 1 000 000 waiting messages.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	fillQueue(b, dir, 1_000_000, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// One op reads and acknowledges one of the messages that wait for a session.
func BenchmarkDrain(b *testing.B) {
	dir := b.TempDir()
	fillQueue(b, dir, b.N, 0)
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	o := claim(b, s, "c").Owner
	q, after := s.OpenQueue(o), make([]Position, s.Groups())
	var got []Delivery
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu(b)
	for n := 0; n < b.N; {
		var err error
		if got, _, err = q.Read(after, 128, 256<<10, 2e9, got[:0]); err != nil || len(got) == 0 {
			b.Fatal(n, err)
		}
		a := &Ack{Owner: o}
		for i := range got {
			a.Refs = append(a.Refs, got[i].Ref)
		}
		s.ProposeAck(a)
		n += len(got)
	}
	wait(s.(*engine))
	b.ReportMetric(float64(cpu(b)-start)/float64(b.N), "cpu-ns/op")
}
