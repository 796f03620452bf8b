// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"hash/maphash"
	"math/rand/v2"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
)

// Strategy picks the member of a shared subscription that gets a message.
type Strategy byte

// Strategies. A member whose window is full is passed over, but for the two hashes: they wait for it, for the sake of order.
const (
	RoundRobin Strategy = iota
	Random
	Sticky        // the same one until it leaves or is full
	HashClient    // by the publisher's client identifier
	HashTopic     // by topic name: keeps the order of each topic
	LeastInflight // the one with the fewest unacknowledged messages
)

var strategyNames = [...]string{"round_robin", "random", "sticky", "hash_client", "hash_topic", "least_inflight"}

// String is the strategy's name as in the configuration.
func (s Strategy) String() string { return strategyNames[s] }

// ParseStrategy finds a strategy by its name.
func ParseStrategy(name string) (Strategy, bool) {
	for i, n := range strategyNames {
		if n == name {
			return Strategy(i), true
		}
	}
	return 0, false
}

// StrategyNames lists all strategies.
func StrategyNames() []string { return strategyNames[:] }

// share is a shared subscription with online members. It lives on the home loop of its filter, gives each message of
// QoS 1 and 2 to one member that has room, and takes it back when the member is gone before it acknowledged. Without a persistent member its
// messages wait in memory; with one they wait in the store, and the share reads them like a session reads its queue.
type share struct {
	sh      *shard
	filter  string // whole
	sub     *subscriber
	members []*member
	next    int
	turn    uint64
	waiting []shared // in order of turn
	bytes   int      // of waiting
	dead    bool

	stored  bool // the store has a queue for it
	queue   store.Queue
	pos     []store.Position
	known   map[store.Ref]whereabouts // of stored messages; what is not in it may be read
	lowered map[uint16]store.Position // positions to go back to after the read that is under way
	behind  bool
	reading bool
	missed  bool
	acked   []store.Shared
	ways    map[*mqtt.Message]way
	taken   int            // of ways
	held    *sharedReading // waits until taken is 0
	skips   []store.Ref    // for when the store turns out to have a queue
	timer   loop.Timer
}

// member is one connection's part in a shared subscription. The first block belongs to the share's loop, sub to the connection's.
type member struct {
	share    *share
	inflight int
	limit    int
	full     bool
	gone     bool

	c   *connection
	sub *subscriber
}

// whereabouts of a message of the stored queue.
type whereabouts byte

const (
	here     whereabouts = 1 + iota // it waits, or is with an online member
	away                            // it is in the window of a persistent session that is away
	finished                        // it was acknowledged, and the store does not know so far
)

// shared is a message on its way to a member.
type shared struct {
	m    *mqtt.Message
	ref  store.Ref // in the share's stored queue, zero if it is not in it
	turn uint64
}

// maxSharedAhead is how many stored messages of a shared subscription are read ahead.
const maxSharedAhead = 1024

// joinShare makes a connection a member; on the connection's loop, where done, if there is one, is called once it is.
func (c *connection) joinShare(plain string, s *subscriber, done func()) {
	m := &member{c: c, sub: s, limit: max(1, int(c.sess.Limits().ReceiveMaximum))}
	s.member = m
	home := c.sh.b.home(s.whole)
	c.sh.loop.Send(home.loop, loop.Func(func(*loop.Loop) {
		home.join(s.whole, plain, m)
		if done != nil {
			home.loop.Send(c.sh.loop, loop.Func(func(*loop.Loop) { done() }))
		}
	}))
}

func (sh *shard) join(filter, plain string, m *member) {
	s := sh.shares[filter]
	if s == nil {
		s = &share{sh: sh, filter: filter}
		s.sub = &subscriber{share: s, qos: 2, filter: plain}
		sh.shares[filter] = s
		sh.b.index.Add(plain, sh.n, s.sub)
		sh.tally.shared.Add(1)
	}
	m.share = s
	s.members = append(s.members, m)
	s.checkStore()
	s.dispatch()
}

// checkStore follows the store: a queue there comes with the first persistent member, and goes with the last.
func (s *share) checkStore() {
	has := s.sh.b.store.HasShare(s.filter)
	if has == s.stored {
		return
	}
	s.stored = has
	if !has {
		s.queue, s.pos, s.known, s.behind = nil, nil, nil, false
		for i := range s.waiting {
			s.waiting[i].ref = storeRef{}
		}
		return
	}
	s.queue = s.sh.b.store.OpenShare(s.filter)
	s.pos = make([]store.Position, s.sh.b.store.Groups())
	s.known = map[store.Ref]whereabouts{}
	s.behind = true
	for _, ref := range s.skips {
		s.skip(ref)
	}
	s.skips = nil
}

// onShare runs f on the home loop of a member's share.
func (m *member) onShare(from *shard, f func(*share)) {
	home := from.b.home(m.sub.whole)
	from.loop.Send(home.loop, loop.Func(func(*loop.Loop) {
		if m.share != nil {
			f(m.share)
		}
	}))
}

// leave ends the membership; on the connection's loop. What the member holds is given back or settled by its connection after this.
func (m *member) leave(from *shard) {
	m.onShare(from, func(s *share) { s.remove(m) })
}

func (s *share) remove(m *member) {
	m.gone = true
	for i, x := range s.members {
		if x == m {
			s.members = append(s.members[:i], s.members[i+1:]...)
			break
		}
	}
	if len(s.members) > 0 {
		s.checkStore()
		s.dispatch()
		return
	}
	s.end()
}

// end takes a share without members out. What waits is in the store, or lost with the last member's session.
func (s *share) end() {
	s.dead, s.held = true, nil
	sh := s.sh
	delete(sh.shares, s.filter)
	sh.b.index.Remove(s.sub.filter, sh.n, s.sub)
	sh.tally.shared.Add(-1)
	s.proposeAck()
	sh.loop.Cancel(&s.timer)
	for _, w := range s.waiting {
		if w.ref == (storeRef{}) {
			sh.dropOf("", s.filter, storeRef{}, w.m, plugin.SessionEnded)
		}
	}
	s.weigh(-s.bytes)
	s.waiting = nil
}

// take gets a routed message. One that is stored for whatever session comes twice: live, then committed. Which of the two brings it to the
// members is decided when the first comes, and remembered until the other has come, because the store's queue for the share may begin
// or end in between.
func (s *share) take(_ *subscriber, f *fanout) {
	switch {
	case s.dead:
	case f.qos == 0:
		if !f.committed {
			s.takeQoS0(f)
		}
	case !f.stored:
		s.enqueue(shared{m: f.message()})
	case !f.committed:
		s.takeLive(f.message())
	default:
		if f.failed {
			s.takeFailed(f.message())
		} else {
			s.takeSecond(f)
		}
		s.goOn()
	}
}

// way says what is known of a message that comes twice.
type way byte

const (
	taken  way = 1 + iota // it came live, and is with the share
	awaits                // it came live, and is left to the second way
	early                 // the second way was quicker
)

// maxWays bounds what a share remembers of messages under way; beyond it, it forgets.
const maxWays = 100_000

func (s *share) takeLive(m *mqtt.Message) {
	if s.ways[m] == early {
		s.forget(m)
		return
	}
	if s.stored {
		s.remember(m, awaits)
		return
	}
	s.remember(m, taken)
	s.enqueue(shared{m: m})
}

// remember notes what is known of a message, whose pointer is the same both ways: it is the one that was proposed. What is read from
// the store has another.
func (s *share) remember(m *mqtt.Message, w way) {
	if s.ways == nil || len(s.ways) >= maxWays {
		s.ways, s.taken = map[*mqtt.Message]way{}, 0
	}
	s.ways[m] = w
	if w == taken {
		s.taken++
	}
}

// forget gives what was known of a message. Once no message that came live may be in the store's queue under a Ref that is not known
// so far, what was read from there is looked at.
func (s *share) forget(m *mqtt.Message) way {
	w := s.ways[m]
	delete(s.ways, m)
	if w == taken {
		s.taken--
	}
	return w
}

// goOn takes a read that waited for messages to come the second way.
func (s *share) goOn() {
	if r := s.held; r != nil && s.taken == 0 {
		s.held = nil
		r.Run(s.sh.loop)
	}
}

// takeFailed ends the second way of a message that the store did not take, or had already.
func (s *share) takeFailed(m *mqtt.Message) {
	if s.forget(m) == 0 {
		s.remember(m, early)
	}
}

func (s *share) takeSecond(f *fanout) {
	m := f.message()
	w := s.forget(m)
	if w == 0 {
		s.remember(m, early)
	}
	if w == taken {
		s.skip(f.ref)
		return
	}
	if s.stored && f.ref.Position > 0 {
		s.takeCommitted(f)
		return
	}
	s.enqueue(shared{m: m})
	s.skip(f.ref)
}

// skip settles the store's copy of a message that the share has in memory; the store may have one before the share knows of its queue.
func (s *share) skip(ref store.Ref) {
	switch {
	case ref.Position == 0: // no queue wanted it
	case s.stored:
		s.known[ref] = finished
		s.ack(ref)
	case len(s.skips) < maxWays:
		s.skips = append(s.skips, ref)
	}
}

func (s *share) takeQoS0(f *fanout) {
	m := s.pick(f.message(), true)
	if m == nil {
		s.sh.drop("", f.m, plugin.ReceiverSlow)
		return
	}
	m.send(s.sh, shared{m: f.message()})
}

func (s *share) takeCommitted(f *fanout) {
	if f.ref.Position <= s.pos[f.ref.Group] {
		return
	}
	if s.behind || s.reading || len(s.waiting) >= maxSharedAhead {
		s.behind, s.missed = true, true
		return
	}
	s.pos[f.ref.Group] = f.ref.Position
	s.known[f.ref] = here
	s.enqueue(shared{m: f.message(), ref: f.ref})
}

func (s *share) enqueue(w shared) {
	l := &s.sh.b.config.Load().limits
	if w.ref == (storeRef{}) && (len(s.waiting) >= l.MaxSharedQueue || s.bytes+w.m.Size() > s.sh.b.queueBudget(l)) {
		s.sh.dropOf("", s.filter, w.ref, w.m, plugin.QueueFull)
		return
	}
	s.turn++
	w.turn = s.turn
	s.waiting = append(s.waiting, w)
	s.weigh(w.m.Size())
	s.dispatch()
}

// weigh counts what waits, here and against what all queues may hold.
func (s *share) weigh(n int) {
	s.bytes += n
	s.sh.b.queuedBytes.Add(int64(n))
}

// requeue puts a message that came back where it stood.
func (s *share) requeue(w shared) {
	i := len(s.waiting)
	for i > 0 && s.waiting[i-1].turn > w.turn {
		i--
	}
	s.waiting = append(s.waiting, shared{})
	copy(s.waiting[i+1:], s.waiting[i:])
	s.waiting[i] = w
	s.weigh(w.m.Size())
}

// maxPassed is how many messages the hashes look past for one whose member has room.
const maxPassed = 256

// dispatch gives waiting messages to members with room, in order; by hash, in order for each member.
func (s *share) dispatch() {
	strategy := s.sh.b.config.Load().policy.SharedStrategy
	hashed := strategy == HashClient || strategy == HashTopic
	kept := s.waiting[:0]
	for i, w := range s.waiting {
		m := s.pick(w.m, false)
		if m == nil || s.blocked(kept, m, hashed) {
			if !hashed || len(kept) >= maxPassed {
				kept = append(kept, s.waiting[i:]...)
				break
			}
			kept = append(kept, w)
			continue
		}
		m.inflight++
		s.weigh(-w.m.Size())
		m.send(s.sh, w)
	}
	clear(s.waiting[len(kept):])
	s.waiting = kept
	if s.behind && len(s.waiting) < maxSharedAhead/2 {
		s.read()
	}
}

// blocked says whether one of the messages passed over belongs to the same member: it must not be overtaken.
func (s *share) blocked(passed []shared, m *member, hashed bool) bool {
	if !hashed {
		return false
	}
	for _, w := range passed {
		if s.hashed(w.m) == m {
			return true
		}
	}
	return false
}

func (s *share) hashed(m *mqtt.Message) *member {
	key := m.Topic
	if s.sh.b.config.Load().policy.SharedStrategy == HashClient {
		key = m.ClientID
	}
	return s.members[maphash.String(s.sh.b.seed, key)%uint64(len(s.members))]
}

func (m *member) open() bool { return !m.full && m.inflight < m.limit }

// pick finds the member for a message; nil if none has room. QoS 0 needs no room.
func (s *share) pick(msg *mqtt.Message, any bool) *member {
	n := len(s.members)
	if n == 0 {
		return nil
	}
	at := 0
	switch s.sh.b.config.Load().policy.SharedStrategy {
	case RoundRobin:
		s.next = (s.next + 1) % n
		at = s.next
	case Random:
		at = rand.IntN(n)
	case Sticky:
		at = s.next % n
	case HashClient, HashTopic:
		if m := s.hashed(msg); any || m.open() {
			return m
		}
		return nil
	case LeastInflight:
		s.next = (s.next + 1) % n
		at = s.next
		for i, m := range s.members {
			if m.open() && (!s.members[at].open() || m.inflight < s.members[at].inflight) {
				at = i
			}
		}
	}
	for i := range n {
		if m := s.members[(at+i)%n]; any || m.open() {
			s.next = (at + i) % n
			return m
		}
	}
	return nil
}

// send hands a message to the member's connection.
func (m *member) send(from *shard, w shared) {
	stored := ""
	if w.ref != (storeRef{}) {
		stored = m.share.filter
	}
	from.loop.Send(m.c.sh.loop, loop.Func(func(*loop.Loop) { m.deliver(w, stored) }))
}

// deliver sends on the connection's loop, or gives the message back.
func (m *member) deliver(w shared, stored string) {
	c := m.c
	d := session.Delivery[tag]{Message: w.m, QoS: min(m.sub.qos, w.m.QoS), Retain: w.m.Retain && m.sub.asIs,
		Identifiers: m.sub.ids, Tag: tag{ref: w.ref, share: stored, member: m, turn: w.turn}}
	counted := w.turn != 0
	switch {
	case c.state != open || c.leaving || m.sub.c == nil:
		if counted {
			m.onShare(c.sh, func(*share) { m.full = true }) // it leaves: nothing more for it
			m.giveBack(c.sh, d)
		}
	case c.sh.b.hooks.receives(c.client) && !c.mayReceiveMessage(w.m) && !c.stillAllowed(m.sub):
		// Another member may have it.
		if counted {
			m.onShare(c.sh, func(*share) { m.full = true })
			m.giveBack(c.sh, d)
		} else {
			c.sh.drop(c.client.ID, w.m, plugin.DeliveryRefused)
		}
		c.revoke(m.sub)
	case d.QoS == 0:
		c.sendQoS0(&d)
		if counted {
			m.done(c.sh, d.Tag)
		}
	case c.queue.Len() == 0 && c.room() && (!c.shaped() || c.mayWrite(c.publishSize(d.Message, d.QoS))):
		c.send(d)
	default:
		r := c.rarely()
		r.full = append(r.full, m)
		m.onShare(c.sh, func(s *share) {
			m.full = true
			m.inflight--
			s.requeue(w)
			s.dispatch()
		})
	}
}

// roomAgain tells the share that the member's window has room.
func (m *member) roomAgain(from *shard) {
	m.onShare(from, func(s *share) {
		m.full = false
		if !s.dead {
			s.dispatch()
		}
	})
}

// done ends a delivery: acknowledged, or settled otherwise.
func (m *member) done(from *shard, t tag) {
	acked := m.c.kept != nil && t.share != "" // the session tells the store
	m.onShare(from, func(s *share) {
		m.inflight--
		if t.ref != (storeRef{}) && s.stored {
			s.known[t.ref] = finished
		}
		if t.ref != (storeRef{}) && !acked {
			s.ack(t.ref)
		}
		if !s.dead {
			s.dispatch()
		}
	})
}

// parked ends the live part of a delivery that stays in the window of a persistent session.
func (m *member) parked(from *shard, t tag) {
	m.onShare(from, func(s *share) {
		m.inflight--
		if s.stored && t.ref != (storeRef{}) {
			s.known[t.ref] = away
		}
	})
}

// giveBack returns a message that the member will not acknowledge.
func (m *member) giveBack(from *shard, d session.Delivery[tag]) {
	w := shared{m: d.Message, ref: d.Tag.ref, turn: d.Tag.turn}
	if w.m == nil {
		return
	}
	filter := m.sub.whole
	home := from.b.home(filter)
	from.loop.Send(home.loop, loop.Func(func(*loop.Loop) {
		m.inflight--
		s := home.shares[filter] // it may be another one by now
		switch {
		case s != nil && (w.ref == (storeRef{}) || !s.stored || s.known[w.ref] == here):
			if !s.stored {
				w.ref = storeRef{} // the stored queue has ended with its last persistent member
			}
			s.requeue(w)
			s.dispatch()
		case s != nil:
			s.reread(w.ref)
		case w.ref == (storeRef{}):
			home.dropOf("", filter, w.ref, w.m, plugin.SessionEnded)
		}
	}))
}

// adopt counts a delivery of a resumed session's window.
func (m *member) adopt(ref store.Ref) uint64 {
	m.onShare(m.c.sh, func(s *share) {
		m.inflight++
		if s.stored {
			s.known[ref] = here
		}
	})
	return 1
}

// reread has a stored message read again that is with nobody any more.
func (s *share) reread(ref store.Ref) {
	if s.known[ref] == away {
		delete(s.known, ref)
	}
	if !s.stored || s.known[ref] != 0 {
		return
	}
	s.behind = true
	if s.reading {
		if p, ok := s.lowered[ref.Group]; !ok || ref.Position-1 < p {
			if s.lowered == nil {
				s.lowered = map[uint16]store.Position{}
			}
			s.lowered[ref.Group] = ref.Position - 1
		}
		return
	}
	s.pos[ref.Group] = min(s.pos[ref.Group], ref.Position-1)
	s.dispatch()
}

// freed has messages read again that ended sessions left in the store.
func (b *Broker) freed(refs []store.Shared) {
	for _, r := range refs {
		home := b.home(r.Filter)
		home.loop.Post(loop.Func(func(*loop.Loop) {
			if s := home.shares[r.Filter]; s != nil {
				s.reread(r.Ref)
			}
		}))
	}
}

// read reads the next part of the stored queue on a worker.
func (s *share) read() {
	if s.reading || s.dead || s.queue == nil {
		return
	}
	s.reading, s.missed = true, false
	r := &sharedReading{s: s, queue: s.queue, now: s.sh.loop.Now()}
	r.pos = append(r.pos, s.pos...)
	if !s.sh.loop.Async(r.read, r) {
		s.reading = false
		s.sh.loop.Defer(loop.Func(func(*loop.Loop) { s.dispatch() }))
	}
}

// ack tells the store lazily of messages that members without a stored session have acknowledged.
func (s *share) ack(ref store.Ref) {
	s.acked = append(s.acked, store.Shared{Filter: s.filter, Ref: ref})
	switch {
	case s.dead || len(s.acked) >= ackMost:
		s.proposeAck()
	case len(s.acked) == 1:
		s.sh.loop.At(&s.timer, s.sh.loop.Now()+ackDelay, loop.Func(func(*loop.Loop) { s.proposeAck() }))
	}
}

func (s *share) proposeAck() {
	if len(s.acked) > 0 {
		s.sh.b.store.ProposeAck(&store.Ack{Share: s.acked, Done: sharedAcked, Context: s.sh.b})
		s.acked = nil
	}
}

// sharedAcked lets shared subscriptions forget messages that the store has forgotten.
func sharedAcked(a *store.Ack) {
	b := a.Context.(*Broker)
	if a.Err != nil {
		b.storeError(a.Err)
		return // it would read them again
	}
	for _, r := range a.Share {
		home := b.home(r.Filter)
		home.loop.Post(loop.Func(func(*loop.Loop) {
			if s := home.shares[r.Filter]; s != nil && s.known[r.Ref] == finished {
				delete(s.known, r.Ref)
			}
		}))
	}
}
