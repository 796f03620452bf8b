// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/topic"
	"github.com/noctule/noctule/transport"
)

// shard is what one loop owns. Everything in it is touched on that loop's goroutine only, but for the atomics.
type shard struct {
	b    *Broker
	loop *loop.Loop
	n    int // the loop's index

	identities map[string]*identity      // client identifiers at home here that are in use
	shares     map[string]*share         // shared subscriptions at home here with an online member, by whole filter
	absent     map[string]*plugin.Client // at home here, whose wills wait in the store: what their logins have told of them
	conns      *connection               // all connections on this loop, a doubly linked list
	draining   bool

	tally   tally
	traffic traffic
	alive   atomic.Int64 // connections not wholly gone

	// Scratch of the packet at hand.
	connect     mqtt.Connect
	publish     mqtt.Publish
	ack         mqtt.Ack
	subscribe   mqtt.Subscribe
	unsubscribe mqtt.Unsubscribe
	disconnect  mqtt.Disconnect
	auth        mqtt.Auth
	known       *topic.Matches[*subscriber] // by topics, if the topic name was found in order before
	matches     *topic.Matches[*subscriber] // of the message at hand, lent by topics
	access      plugin.Access
	delivery    plugin.Access
	props       mqtt.Properties

	rights rights

	topics   *topic.Cache[*subscriber]
	judged   *config // whose limits the names in topics keep to
	sweeping bool    // topics is to be swept
	sweep    loop.Timer

	packing []packer // by shard
	fans    fanQueue
	acks    ackBatch
	wins    windowBatch
	caps    cappedLimits
	quiet   quiet

	press   pressure
	handed  atomic.Int64  // bytes of messages on their way to this loop
	stalled []*connection // publishers that wait for handed to fall
}

// identity is a client identifier in use: one connection holds it, and one at most waits for it.
type identity struct {
	holder *connection
	next   *connection
}

func newShard(b *Broker, l *loop.Loop) *shard {
	sh := &shard{b: b, loop: l, n: l.Index(), identities: map[string]*identity{}, shares: map[string]*share{},
		absent: map[string]*plugin.Client{}, topics: topic.NewCache(b.index)}
	sh.acks.shard = sh
	sh.traffic.tally = &sh.tally
	sh.fans.shard = sh
	sh.wins.shard = sh
	return sh
}

// accept makes the core of a new connection.
func (sh *shard) accept(tc transport.Conn) *connection {
	c := &connection{tc: tc, sh: sh, state: fresh}
	sh.alive.Add(1)
	sh.link(c)
	sh.tally.add(SocketsOpened, 1)
	sh.armConnectTimeout(c)
	if sh.draining {
		c.refuse(plugin.ServerShuttingDown, mqtt.ServerShuttingDown, "")
	}
	return c
}

// armConnectTimeout bounds the way to a granted CONNECT, counted from when the socket was accepted.
func (sh *shard) armConnectTimeout(c *connection) {
	opened := c.tc.Info().Opened
	if opened == 0 {
		opened = sh.loop.Now()
	}
	sh.loop.At(&c.timer, opened+int64(sh.b.config.Load().limits.ConnectTimeout), (*connectTimeout)(c))
}

func (sh *shard) link(c *connection) {
	c.linked = true
	c.next = sh.conns
	if sh.conns != nil {
		sh.conns.prev = c
	}
	sh.conns = c
}

func (sh *shard) unlink(c *connection) {
	if !c.linked {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		sh.conns = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev, c.linked = nil, nil, false
}

// sweepTime is how long, about, a cache of topics may keep connections in memory that are gone.
const sweepTime = 30 * time.Second

// match finds the receivers of a message, for sh.matches.
func (sh *shard) match(name []byte) *topic.Matches[*subscriber] {
	sh.matches = sh.topics.Match(name)
	if !sh.sweeping && sh.topics.Holds() {
		sh.sweeping = true
		sh.loop.At(&sh.sweep, sh.loop.Now()+int64(sweepTime), (*sweep)(sh))
	}
	return sh.matches
}

// sweep clears a shard's cache of topics.
type sweep shard

func (t *sweep) Run(l *loop.Loop) {
	t.topics.Sweep()
	if t.sweeping = t.topics.Holds(); t.sweeping {
		l.At(&t.sweep, l.Now()+int64(sweepTime), t)
	}
}

// holder is the connection that is open under a client identifier, nil if there is none.
func (sh *shard) holder(clientID string) *connection {
	if id := sh.identities[clientID]; id != nil && id.holder != nil && id.holder.state == open {
		return id.holder
	}
	return nil
}

// each calls f for every connection on this loop; f may end it.
func (sh *shard) each(f func(*connection)) {
	for c := sh.conns; c != nil; {
		next := c.next
		f(c)
		c = next
	}
}

// drain tells all clients that the server shuts down [MQTT-3.14.2].
func (sh *shard) drain() {
	sh.draining = true
	sh.each(func(c *connection) { c.leave() })
}

// cut ends what drain left.
func (sh *shard) cut() {
	sh.each(func(c *connection) {
		c.close(plugin.ServerShuttingDown, "")
		c.tc.Close(transport.CloseNow)
	})
}

// leave ends a connection for shutdown: at once if nothing is in its window, else when the window is empty.
func (c *connection) leave() {
	if c.state != open {
		c.refuse(plugin.ServerShuttingDown, mqtt.ServerShuttingDown, "")
		return
	}
	c.leaving = true
	c.leaveIfIdle()
}

func (c *connection) leaveIfIdle() {
	if c.leaving && c.state == open && c.sess.Out.Len() == 0 && c.sess.In.Pending() == 0 && c.queue.Len() == 0 {
		c.closeWith(plugin.ServerShuttingDown, mqtt.ServerShuttingDown, "")
	}
}
