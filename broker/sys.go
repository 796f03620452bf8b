// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
)

// sysTopics publishes $SYS/broker/... under the names that Mosquitto uses (mosquitto(8)), so that its exporters work.
// The values are retained in memory only: they are of no use after a restart.
type sysTopics struct {
	b     *Broker
	mu    sync.Mutex // guards tree
	tree  *topic.Tree[*mqtt.Message]
	timer loop.Timer
	loads [len(loadNames)]load
	last  [len(loadNames)]int64
	at    int64
	heap  uint64
	off   bool
}

// load is the average per minute over 1, 5 and 15 minutes, exponentially damped as Mosquitto does it.
type load [3]float64

var loadNames = [...]string{"messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped",
	"bytes/received", "bytes/sent", "sockets", "connections"}

func newSysTopics(b *Broker) *sysTopics {
	return &sysTopics{b: b, tree: topic.NewTree[*mqtt.Message]()}
}

func (t *sysTopics) interval() time.Duration {
	d := t.b.config.Load().policy.SysInterval
	if d == 0 {
		d = 10 * time.Second
	}
	return d
}

func (t *sysTopics) start() { t.b.loops.Loop(0).Post(t) }

func (t *sysTopics) stop() {
	t.b.loops.Loop(0).Post(loop.Func(func(l *loop.Loop) {
		t.off = true
		l.Cancel(&t.timer)
	}))
}

// Run publishes what changed and sets the timer, on the first loop.
func (t *sysTopics) Run(l *loop.Loop) {
	if t.off {
		return
	}
	d := t.interval()
	if d > 0 {
		t.publish(l.Now())
	} else {
		d = 10 * time.Second // look whether it was turned on
	}
	l.At(&t.timer, l.Now()+int64(d), t)
}

func (t *sysTopics) set(now int64, name, value string) {
	full := "$SYS/broker/" + name
	t.mu.Lock()
	old, had := t.tree.Get(full)
	if had && string(old.Payload) == value {
		t.mu.Unlock()
		return
	}
	m := &mqtt.Message{Topic: full, Payload: []byte(value), Received: now}
	t.tree.Set(full, m)
	t.mu.Unlock()
	t.b.shards[0].routeSys(m)
}

// routeSys routes a message to online receivers only.
func (sh *shard) routeSys(m *mqtt.Message) {
	if sh.match(bytesOf(m.Topic)).Empty() {
		return
	}
	f := sh.fan()
	f.of(m)
	f.now = sh.loop.Now()
	sh.spread(f, nil)
}

// deliver sends the retained values that match a new subscription.
func (t *sysTopics) deliver(c *connection, s *subscriber) {
	t.mu.Lock()
	var found []*mqtt.Message
	t.tree.Match(s.filter, func(_ string, m *mqtt.Message) bool {
		found = append(found, m)
		return true
	})
	t.mu.Unlock()
	for _, m := range found {
		c.sendQoS0(&session.Delivery[tag]{Message: m, Retain: true, Identifiers: s.ids})
	}
}

func (t *sysTopics) publish(now int64) {
	b := t.b
	st := b.Stats()
	stored := b.store.Stats()
	n := func(name string, v int64) { t.set(now, name, strconv.FormatInt(v, 10)) }
	dropped := int64(0)
	for _, v := range st.Dropped {
		dropped += v
	}
	t.set(now, "version", b.opts.Version)
	t.set(now, "timestamp", b.started.UTC().Format("2006-01-02 15:04:05-0700"))
	t.set(now, "uptime", fmt.Sprintf("%d seconds", int64(b.opts.Now().Sub(b.started).Seconds())))
	away := int64(stored.Sessions - stored.Attached)
	n("clients/total", st.Connected+away)
	n("clients/connected", st.Connected)
	n("clients/active", st.Connected)
	n("clients/disconnected", away)
	n("clients/inactive", away)
	n("clients/maximum", st.MaxConnected)
	n("clients/expired", st.Counts[SessionsExpired])
	n("messages/stored", stored.Messages)
	n("messages/received", st.Counts[PacketsReceived])
	n("messages/sent", st.Counts[PacketsSent])
	n("store/messages/count", stored.Messages)
	n("store/messages/bytes", stored.MessageBytes)
	for class, kept := range st.Kept {
		n("store/messages/kept/"+store.Durability(class).String(), kept)
	}
	n("subscriptions/count", st.Subscriptions)
	n("shared_subscriptions/count", st.SharedGroups)
	n("retained messages/count", int64(stored.Retained))
	n("publish/messages/dropped", dropped)
	n("publish/messages/received", st.Counts[PublishReceived])
	n("publish/messages/sent", st.Counts[PublishSent])
	n("publish/bytes/received", st.Counts[PublishBytesReceived])
	n("publish/bytes/sent", st.Counts[PublishBytesSent])
	n("bytes/received", st.Counts[BytesReceived])
	n("bytes/sent", st.Counts[BytesSent])
	heap := heapBytes()
	t.heap = max(t.heap, heap)
	n("heap/current", int64(heap))
	n("heap/maximum", int64(t.heap))
	n("connections/socket/count", st.Counts[SocketsOpened]-st.Counts[SocketsClosed])
	t.publishLoads(now, [len(loadNames)]int64{st.Counts[PacketsReceived], st.Counts[PacketsSent],
		st.Counts[PublishReceived], st.Counts[PublishSent], dropped, st.Counts[BytesReceived], st.Counts[BytesSent],
		st.Counts[SocketsOpened], st.Counts[ConnectsGranted]})
}

func (t *sysTopics) publishLoads(now int64, counts [len(loadNames)]int64) {
	minutes := float64(now-t.at) / float64(time.Minute)
	for i, name := range loadNames {
		rate := 0.0
		if t.at != 0 && minutes > 0 {
			rate = float64(counts[i]-t.last[i]) / minutes
		}
		t.last[i] = counts[i]
		for j, span := range [...]float64{1, 5, 15} {
			weight := min(1, max(0, minutes)/span)
			t.loads[i][j] += (rate - t.loads[i][j]) * weight
			t.set(now, fmt.Sprintf("load/%s/%dmin", name, int(span)), strconv.FormatFloat(t.loads[i][j], 'f', 2, 64))
		}
	}
	t.at = now
}

func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	return s[0].Value.Uint64()
}

// Sys gives the present values of $SYS, by topic.
func (b *Broker) Sys() map[string]string {
	b.sys.mu.Lock()
	defer b.sys.mu.Unlock()
	values := map[string]string{}
	b.sys.tree.Match("$SYS/#", func(name string, m *mqtt.Message) bool {
		values[name] = string(m.Payload)
		return true
	})
	return values
}
