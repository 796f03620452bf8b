// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

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
