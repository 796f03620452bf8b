// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"sync/atomic"

	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
)

// Counter names one thing that the broker counts.
type Counter int

// What is counted, since the start.
const (
	// First those of traffic, which come with each packet.
	BytesReceived Counter = iota
	BytesSent
	PacketsReceived
	PacketsSent
	PublishReceived
	PublishSent
	PublishBytesReceived
	PublishBytesSent
	ConnectsGranted // no traffic from here on
	SocketsOpened
	SocketsClosed
	ConnectionsClosed
	SessionsExpired
	WillsFired
	EventsDropped
	PluginPanics
	ReadsPaused
	StoreReads
	OverloadPauses
	counters // how many
)

var counterNames = [counters]string{
	"bytes_received", "bytes_sent", "packets_received", "packets_sent", "publish_received", "publish_sent",
	"publish_bytes_received", "publish_bytes_sent", "connects_granted", "sockets_opened", "sockets_closed", "connections_closed",
	"sessions_expired", "wills_fired", "events_dropped", "plugin_panics", "reads_paused", "store_reads",
	"overload_pauses",
}

// String is the counter's name as in metrics.
func (c Counter) String() string { return counterNames[c] }

// Counters lists all counters.
func Counters() []Counter {
	all := make([]Counter, counters)
	for i := range all {
		all[i] = Counter(i)
	}
	return all
}

// PauseReasons say why connections are not read, as in metrics; Stats.Paused counts them in this order. A connection may have several.
var PauseReasons = [...]string{"decider", "handover", "out_queue", "receive_maximum", "subscribing", "retained", "store", "disk_full", "disk_full_next", "rate", "overload"}

// tally is a shard's counts. Only its loop adds (but for what plug-ins count), so the adds are uncontended.
type tally struct {
	counts  [counters]atomic.Int64
	closed  [64]atomic.Int64 // connections ended, by cause
	refused [64]atomic.Int64 // connections refused, by cause
	dropped [64]atomic.Int64 // messages dropped, by cause
	kept    [store.InMemory + 1]atomic.Int64
	paused  [len(PauseReasons)]atomic.Int64 // connections, by reason; a connection that moves home may leave a negative one behind
	connected, subscriptions, shared,
	queued, queuedBytes atomic.Int64
	_ [64]byte
}

// traffic is what passed in this iteration of a loop and is not in the tally so far: an atomic addition costs 5 ns, and a message would
// need seven of them.
type traffic struct {
	loop.DirtyMark
	tally *tally
	some  bool
	n     [ConnectsGranted]int
}

// count counts traffic. On the shard's loop.
func (sh *shard) count(c Counter, n int) {
	t := &sh.traffic
	t.n[c] += n
	if !t.some {
		t.some = true
		sh.loop.Dirty(t)
	}
}

// Flush adds it to the tally.
func (t *traffic) Flush(*loop.Loop) {
	t.some = false
	for c, n := range t.n {
		if n != 0 {
			t.tally.add(Counter(c), n)
			t.n[c] = 0
		}
	}
}

func (t *tally) add(c Counter, n int) { t.counts[c].Add(int64(n)) }

// Stats are the broker's counts, summed over its loops.
type Stats struct {
	Counts                      map[Counter]int64
	Closed, Refused, Dropped    map[plugin.Cause]int64
	Connected                   int64 // granted connections now
	MaxConnected                int64
	Subscriptions, SharedGroups int64 // of online sessions
	// Kept are the messages that the store took, by class of durability.
	Kept [store.InMemory + 1]int64
	// DiskFull, DiskSlow and DiskFailed say how the disk is now.
	DiskFull, DiskSlow, DiskFailed bool
	// Notices of the store, by kind.
	Notices             [store.SlowDiskEnd + 1]int64
	Queued, QueuedBytes int64 // messages waiting in memory for online sessions
	// Paused are the connections that are not read now, by reason; see PauseReasons.
	Paused [len(PauseReasons)]int64
	// HandedBytes are on their way to loops, those of the fullest loop apart; Limits.MaxHandover bounds them for each.
	HandedBytes, HandedBytesMost int64
	Rules                        []limit.Count // what rules of limits did
	// Overloaded says what there is too much of now, Overloads how often there was.
	Overloaded [strains]bool
	Overloads  [strains]int64
	// MemoryUsed and MemoryLimit are as Options.Memory has told last, in bytes.
	MemoryUsed, MemoryLimit int64
}

// Stats sums the counts of all loops. Any goroutine.
func (b *Broker) Stats() Stats {
	s := Stats{Counts: map[Counter]int64{}, Closed: map[plugin.Cause]int64{}, Refused: map[plugin.Cause]int64{},
		Dropped: map[plugin.Cause]int64{}, MaxConnected: b.maxConnected.Load(), Rules: b.config.Load().rules.Counts()}
	s.DiskFull, s.DiskSlow, s.DiskFailed = b.full.Load(), b.slow.Load(), b.Failure() != nil
	for kind := range s.Notices {
		s.Notices[kind] = b.notices[kind].Load()
	}
	for i := range strains {
		s.Overloaded[i], s.Overloads[i] = b.over.on[i].Load(), b.over.begun[i].Load()
	}
	s.MemoryUsed, s.MemoryLimit = b.over.used.Load(), b.over.limit.Load()
	for _, sh := range b.shards {
		t := &sh.tally
		for c := range counters {
			s.Counts[c] += t.counts[c].Load()
		}
		for _, cause := range plugin.Causes() {
			s.Closed[cause] += t.closed[cause].Load()
			s.Refused[cause] += t.refused[cause].Load()
			s.Dropped[cause] += t.dropped[cause].Load()
		}
		for class := range s.Kept {
			s.Kept[class] += t.kept[class].Load()
		}
		for reason := range s.Paused {
			s.Paused[reason] += t.paused[reason].Load()
		}
		handed := sh.handed.Load()
		s.HandedBytes += handed
		s.HandedBytesMost = max(s.HandedBytesMost, handed)
		s.Connected += t.connected.Load()
		s.Subscriptions += t.subscriptions.Load()
		s.SharedGroups += t.shared.Load()
		s.Queued += t.queued.Load()
		s.QueuedBytes += t.queuedBytes.Load()
	}
	return s
}
