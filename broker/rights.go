// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"hash/maphash"
	"strings"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// rights remembers decisions about the connections of one loop, for as long as the rules and the client's identity stay the same. It has a
// fixed size, so that what a connection adds takes the place of something older: an idle connection holds nothing here. 4096
// decisions with topics of at most 256 bytes are at most 1.3 MB a loop; nothing is allocated before the first.
type rights struct {
	seed   maphash.Seed // clients cannot aim at one bucket
	slots  []right
	serial uint64 // of the last connection that was given one
	turn   uint32 // which of a bucket goes next
	last   string // the topic remembered last: a fan-out asks about one for many clients
}

// right is one decision. The zero value is about nobody.
type right struct {
	of      uint64 // serial of the connection and its identity
	version uint64 // of the rules
	kind    byte   // action, QoS and RETAIN
	topic   string
	d       plugin.Decision
}

const (
	rightBuckets  = 2048
	rightWays     = 2
	maxRightTopic = 256
)

func rightKind(a *plugin.Access) byte {
	k := byte(a.Action)<<3 | byte(a.QoS)<<1
	if a.Retain {
		k |= 1
	}
	return k
}

// bucket is where decisions for a question are.
func (r *rights) bucket(of uint64, kind byte, topic string) []right {
	const odd = 0x9E3779B97F4A7C15
	h := (maphash.String(r.seed, topic) ^ of*odd ^ uint64(kind)<<56) * odd
	i := (h >> 32) % rightBuckets * rightWays
	return r.slots[i : i+rightWays]
}

// find allocates nothing.
func (r *rights) find(of, version uint64, a *plugin.Access) *right {
	if r.slots == nil {
		return nil
	}
	kind := rightKind(a)
	b := r.bucket(of, kind, a.Topic)
	for i := range b {
		if x := &b[i]; x.of == of && x.version == version && x.kind == kind && x.topic == a.Topic {
			return x
		}
	}
	return nil
}

// keep remembers a decision, in the place of another if there is no room. It copies the topic, which is lent.
func (r *rights) keep(of, version uint64, a *plugin.Access, d plugin.Decision) {
	if len(a.Topic) > maxRightTopic {
		return
	}
	if r.slots == nil {
		r.seed, r.slots = maphash.MakeSeed(), make([]right, rightBuckets*rightWays)
	}
	if r.last != a.Topic {
		r.last = strings.Clone(a.Topic)
	}
	kind := rightKind(a)
	b := r.bucket(of, kind, a.Topic)
	at := int(r.turn) % rightWays
	for i := range b {
		if x := &b[i]; x.of == 0 || x.of == of && x.kind == kind && x.topic == a.Topic {
			at = i
			break
		}
	}
	r.turn++
	b[at] = right{of, version, kind, r.last, d}
}

// rightsOf is what this connection, with the identity that it has now, is known by in its loop's rights.
func (c *connection) rightsOf() uint64 {
	if c.known != c.client {
		r := &c.sh.rights
		r.serial++
		c.known, c.serial = c.client, r.serial
	}
	return c.serial
}

// decide asks what the authorizers that answer from memory say of the connection's own access, unless they were asked before. On the loop.
func (c *connection) decide(a *plugin.Access) (d plugin.Decision, undecided bool) {
	h := &c.sh.b.hooks
	if !h.steady {
		return c.sh.b.decide(a)
	}
	of, version := c.rightsOf(), h.version() // before the rules are asked: what they say then is never older than that
	if x := c.sh.rights.find(of, version, a); x != nil {
		return x.d, false
	}
	d, undecided = c.sh.b.decide(a)
	if !undecided {
		c.sh.rights.keep(of, version, a, d)
	}
	return d, undecided
}

// mayReceive asks before a delivery to the connection's client; only where a plug-in wants to be asked. On the loop.
func (c *connection) mayReceive(a *plugin.Access) bool {
	a.Client, a.Action = c.client, plugin.Receive
	h := &c.sh.b.hooks
	if !h.steady {
		return c.sh.b.mayReceive(a).Verdict == plugin.Allow
	}
	of, version := c.rightsOf(), h.version()
	if x := c.sh.rights.find(of, version, a); x != nil {
		return x.d.Verdict == plugin.Allow
	}
	d := c.sh.b.mayReceive(a)
	if d.Verdict != plugin.Allow {
		c.sh.b.log.Debug("delivery denied", "client", c.client.ID, "name", strings.Clone(a.Topic), "rule", d.Rule)
	}
	c.sh.rights.keep(of, version, a, d)
	return d.Verdict == plugin.Allow
}

func (c *connection) mayReceiveMessage(m *mqtt.Message) bool {
	a := &c.sh.delivery
	*a = plugin.Access{Topic: m.Topic, QoS: m.QoS, Retain: m.Retain}
	return c.mayReceive(a)
}
