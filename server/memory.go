// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Memory that a burst has left (connections that came, messages that were queued) is given back to the system once the process
// is quiet, at the price of one collection. The runtime alone keeps up to twice of what lives, until something is allocated again.
const (
	memoryLook   = time.Second
	quietBytes   = 1 << 20 // allocated from one look to the next, at most
	worthBytes   = 4 << 20 // to be gained, at least, and an eighth of what lives
	betweenGifts = 10 * time.Second
)

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
	if g.given || now.Sub(g.last) < betweenGifts || u.resident < u.live+max(worthBytes, u.live/8) {
		return false
	}
	g.given, g.last = true, now
	return true
}

// giveBack looks until ctx ends.
func giveBack(ctx context.Context) {
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	var g giver
	for {
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
