// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Memory that a burst has left (connections that came, messages that were queued) is given back to the system once the process
// is quiet, at the price of one collection. The runtime alone keeps up to twice of what lives, until something is allocated again.
const (
	memoryLook = 250 * time.Millisecond
	quietBytes = 256 << 10 // allocated from one look to the next, at most
	worthBytes = 4 << 20   // to be gained, at least, and an eighth of what lives
)

// pause is how long it is at least from one gift to the next: the collection that a gift takes costs about a second of
// processor time for a gigabyte that lives.
func pause(live uint64) time.Duration {
	return 2*time.Second + time.Duration(live>>25)*time.Second
}

// giver decides when to give memory back.
type giver struct {
	allocated uint64    // when it looked last
	last      time.Time // when it gave
	given     bool      // and nothing has happened since
}

// usage is what the runtime says of memory, in bytes.
type usage struct{ allocated, live, resident uint64 }

// due takes a look.
func (g *giver) due(u usage, now time.Time) bool {
	quiet := u.allocated-g.allocated < quietBytes
	g.allocated = u.allocated
	if !quiet {
		g.given = false
		return false
	}
	if g.given || now.Sub(g.last) < pause(u.live) || u.resident < u.live+max(worthBytes, u.live/8) {
		return false
	}
	g.given, g.last = true, now
	return true
}

// A small heap is collected often: with a live heap of 4 MiB a broker of a million QoS 1 messages a second would collect 60 times a
// second. Until collections are worth heapRoom bytes of garbage, they are put off; that takes a fifth of the processor time off messages of QoS 1
// and 2 (0.90 to 0.74 us). Who sets GOGC has it as he wants it.
const (
	heapRoom    = 32 << 20
	mostPercent = 800
	leastChange = 50
)

// percentFor is the GOGC for a live heap of so many bytes.
func percentFor(live uint64) int {
	return int(min(max(100, 100*heapRoom/max(live, 1)), mostPercent))
}

// mindMemory keeps the collector's pace right and gives memory back, until ctx ends.
func mindMemory(ctx context.Context) {
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	var g giver
	percent, ours := 100, os.Getenv("GOGC") == ""
	for {
		u := readUsage()
		if p := percentFor(u.live); ours && (p-percent >= leastChange || percent-p >= leastChange || p == 100 && percent != 100) {
			debug.SetGCPercent(p) // it stops the world for some microseconds
			percent = p
		}
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			if g.due(readUsage(), now) {
				debug.FreeOSMemory()
			}
		}
	}
}

func readUsage() usage {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(s)
	return usage{allocated: s[0].Value.Uint64(), live: s[1].Value.Uint64(),
		resident: s[2].Value.Uint64() + s[3].Value.Uint64() + s[4].Value.Uint64()}
}
