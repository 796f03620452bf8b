// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/noctule/noctule/mqtt"
)

const (
	// connectingMost bounds the clients that connect at the same time, to stay below the shortest backlog of a listener (100, mosquitto).
	connectingMost = 64
	// hopeless is how many clients in a row may be refused at the beginning until the rest is not tried.
	hopeless = 10
	// batch is how many messages a publisher sends before the next one has its turn.
	batch = 64
	// late is from when on a message counts from the moment when it was due, and not from when it was sent.
	late = time.Millisecond
	// drainMost is how long it may take to the end of what is under way, in times of Options.Patience.
	drainMost = 10
	// leaveWithin bounds the end of the connections.
	leaveWithin = 5 * time.Second
	// stepMost is how long an iteration waits.
	stepMost = 50 * time.Millisecond
)

// driver plays the clients. It calls the methods of client, one at a time.
type driver interface {
	// open begins to connect a client, and to subscribe. Its ready or ended follows, or an error that ends the run.
	open(c *client) error
	// step serves the clients; it returns when it has done so, or after wait.
	step(ctx context.Context, wait time.Duration) error
	// now is the time at which a call of client happens.
	now() time.Time
	// leave has all clients say goodbye.
	leave(ctx context.Context, within time.Duration) error
	close()
}

// link is a client's connection as its driver has it.
type link interface {
	room() bool    // for another message. If not, client.writable follows
	quota() uint16 // messages above QoS 0 that the broker takes at once; 0 is no limit of its own
	// publish sends a message whose payload begins with s, if there is room for a stamp. id is that of client.acked.
	publish(id uint16, s stamp)
}

// client is one client of the run.
type client struct {
	run      *run
	id       string
	username string
	filters  []string
	link     link
	begun    time.Time
	up, over bool

	pub    *publisher // nil if it does not publish
	ledger *ledger    // nil if it does not subscribe
}

// publisher is what a client has published.
type publisher struct {
	*client
	topic     string
	number    uint32
	receivers uint64 // of each message
	sent      uint64
	acked     uint64
	refused   uint64
	owed      uint64    // messages that are due
	first     time.Time // when the first one was due
	free      []uint16  // identifiers
	times     []time.Time
	hungry    bool // in the run's list
}

// run is a run under way.
type run struct {
	o       Options
	d       driver
	id      uint32
	payload []byte
	clients []*client
	pubs    []*publisher
	working bool // publishers publish
	leaving bool // connections may end

	waiting int // clients that connect
	hungry  []*publisher
	every   time.Duration // between two messages of one publisher
	step    float64       // nanoseconds between two messages of all
	begun   time.Time     // of the work
	due     uint64        // messages that were due so far

	report     Report
	expected   uint64 // deliveries
	came       uint64 // of those, each counted once
	deliveries latencies
	acks       latencies
	connects   latencies
	progress   progress
}

// Run loads the broker as the options say. The error is that of a run that could not take place; broken promises stand in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	r := newRun(o)
	d, engine, err := newDriver(ctx, &r.o, r.publication())
	if err != nil {
		return nil, err
	}
	defer d.close()
	r.d, r.report.Engine = d, engine
	if err := r.phases(ctx); err != nil {
		return nil, err
	}
	r.close()
	return &r.report, nil
}

// newRun makes the clients.
func newRun(o Options) *run {
	r := &run{o: o, deliveries: newLatencies(), acks: newLatencies(), connects: newLatencies()}
	var random [4]byte
	rand.Read(random[:]) // never fails
	r.id = binary.BigEndian.Uint32(random[:])
	if r.o.Prefix == "" {
		r.o.Prefix = "bench-" + strings.ToLower(rand.Text()[:6]) + "-"
	}
	r.report.Mode, r.report.Server = o.Mode, o.Server.Redacted()
	r.payload = o.Message
	if r.payload == nil {
		r.payload = make([]byte, o.Size)
	}
	switch {
	case o.Rate > 0:
		r.every = time.Duration(math.Round(float64(time.Second) * float64(o.Count) / o.Rate))
	default:
		r.every = o.Interval
	}
	r.step = float64(r.every) / float64(o.Count)
	switch o.Mode {
	case Conn:
		for i := range o.Count {
			r.add("", i)
		}
	case Sub:
		r.addSubscribers()
	case Pub:
		r.addPublishers()
	}
	return r
}

// add makes client number i of a kind, which is part of its identifier.
func (r *run) add(kind string, i int) *client {
	number := r.o.First + i + 1
	c := &client{run: r, id: fmt.Sprint(r.o.Prefix, kind, number)}
	c.username = r.o.expand(r.o.Username, number, c.id, "")
	r.clients = append(r.clients, c)
	return c
}

// topic is the topic of a client.
func (r *run) topic(i int, c *client) string {
	return r.o.expand(r.o.Topic, r.o.First+i+1, c.id, c.username)
}

func (r *run) addSubscribers() {
	shares := make(map[string]*ledger)
	for i := range r.o.Count {
		c := r.add("", i)
		filter := r.topic(i, c)
		c.filters, c.ledger = []string{filter}, newLedger(false, true)
		if strings.HasPrefix(filter, "$share/") {
			if shares[filter] == nil {
				shares[filter] = newLedger(true, true)
			}
			c.ledger = shares[filter]
		}
	}
}

// addPublishers makes publishers, and receivers before them. Receivers share the topics out; if there is one only, each takes it.
func (r *run) addPublishers() {
	kind, receivers := "", make([]*client, r.o.Subscribers)
	if len(receivers) > 0 {
		kind = "pub-"
	}
	for i := range receivers {
		receivers[i] = r.add("sub-", i)
		receivers[i].ledger = newLedger(false, false)
	}
	var topics []string
	index := make(map[string]int)
	for i := range r.o.Count {
		c := r.add(kind, i)
		p := &publisher{client: c, number: uint32(i)}
		p.topic = r.topic(i, c)
		c.pub, r.pubs = p, append(r.pubs, p)
		if _, ok := index[p.topic]; !ok {
			index[p.topic] = len(topics)
			topics = append(topics, p.topic)
		}
	}
	for i, c := range receivers {
		if len(topics) == 1 {
			c.filters = topics
		}
		for k := i; len(topics) > 1 && k < len(topics); k += len(receivers) {
			c.filters = append(c.filters, topics[k])
		}
	}
}

// publication tells a driver what is published.
func (r *run) publication() publication {
	return publication{payload: r.payload, qos: r.o.QoS, retain: r.o.Retain}
}

// publication is what all messages of a run have in common.
type publication struct {
	payload []byte
	qos     mqtt.QoS
	retain  bool
}

// phases goes through the run.
func (r *run) phases(ctx context.Context) error {
	cpu := ownCPU()
	r.progress.begin()
	if err := r.connect(ctx); err != nil {
		return err
	}
	r.report.Setup = seconds(time.Since(r.progress.begun))
	if r.report.Connected > 0 && !r.finished() {
		if err := r.work(ctx); err != nil {
			return err
		}
	}
	r.report.CPU = seconds(ownCPU() - cpu)
	r.leaving = true
	return r.d.leave(ctx, leaveWithin)
}

// finished tells whether the owner wants it to end.
func (r *run) finished() bool {
	select {
	case <-r.o.Finish:
		r.report.Interrupted = true
		return true
	default:
		return false
	}
}

// connect has all clients connect.
func (r *run) connect(ctx context.Context) error {
	begun := time.Now()
	for i, c := range r.clients {
		due := begun.Add(time.Duration(i) * r.o.ConnectInterval)
		for time.Now().Before(due) || r.waiting >= connectingMost {
			if r.finished() {
				return nil
			}
			if err := r.serve(ctx, min(stepMost, max(0, time.Until(due)))); err != nil {
				return err
			}
		}
		if r.report.Connected == 0 && r.report.Failed >= hopeless || r.finished() {
			break
		}
		c.begun = time.Now()
		r.waiting++
		r.report.Clients++
		if err := r.d.open(c); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(r.o.Within + time.Second); r.waiting > 0 && !r.finished(); {
		if time.Now().After(deadline) {
			r.giveUp()
			break
		}
		if err := r.serve(ctx, stepMost); err != nil {
			return err
		}
	}
	return nil
}

// giveUp counts the clients that are still connecting as failed.
func (r *run) giveUp() {
	for _, c := range r.clients[:r.report.Clients] {
		if !c.up && !c.over {
			c.ended(errors.New("not ready in time"))
		}
	}
}

// serve is one iteration.
func (r *run) serve(ctx context.Context, wait time.Duration) error {
	if len(r.hungry) > 0 {
		wait = 0
	}
	err := r.d.step(ctx, wait)
	if now := time.Now(); r.o.Progress != nil && r.progress.isDue(now) {
		r.o.Progress(r.look(now))
	}
	return err
}

// work has the clients do what they are there for, and takes what is under way to its end.
func (r *run) work(ctx context.Context) error {
	for _, p := range r.pubs {
		p.receivers = r.receivers(p)
	}
	cpu := ownCPU()
	r.begun = time.Now()
	r.working = true
	for _, p := range r.pubs {
		p.feed()
	}
	end := r.begun.Add(r.o.Time)
	for now := r.begun; now.Before(end) && !r.enough() && !r.finished(); now = time.Now() {
		wait := min(stepMost, end.Sub(now))
		if r.step > 0 && len(r.pubs) > 0 {
			wait = min(wait, r.fall(now).Sub(now))
		}
		r.feed()
		if err := r.serve(ctx, wait); err != nil {
			return err
		}
	}
	r.working = false
	r.report.Elapsed = seconds(time.Since(r.begun))
	r.report.received = r.report.Received
	err := r.drain(ctx)
	r.report.WorkCPU = seconds(ownCPU() - cpu)
	return err
}

// receivers counts who gets what a publisher sends.
func (r *run) receivers(p *publisher) (n uint64) {
	for _, c := range r.clients {
		if c.ledger != nil && c.up && !c.over && contains(c.filters, p.topic) {
			n++
		}
	}
	return n
}

func contains(all []string, s string) bool {
	for _, have := range all {
		if have == s {
			return true
		}
	}
	return false
}

// fall lets messages fall due, one publisher after the other, and returns when the next one does.
func (r *run) fall(now time.Time) time.Time {
	for {
		at := r.begun.Add(time.Duration(float64(r.due) * r.step))
		if at.After(now) {
			return at
		}
		p := r.pubs[r.due%uint64(len(r.pubs))]
		if r.due < uint64(len(r.pubs)) {
			p.first = at
		}
		r.due++
		p.owed++
		p.feed()
	}
}

// enough tells whether a limit is reached, or nobody is left.
func (r *run) enough() bool {
	if r.report.Cut == r.report.Connected {
		return true
	}
	switch {
	case r.o.Limit == 0:
		return false
	case r.o.Mode == Sub:
		return r.report.Received >= r.o.Limit
	}
	return r.report.Sent >= r.o.Limit
}

// feed gives every hungry publisher its turn.
func (r *run) feed() {
	turn := r.hungry
	r.hungry = nil
	for _, p := range turn {
		p.hungry = false
		p.publish()
	}
}

// drain waits for what is under way.
func (r *run) drain(ctx context.Context) error {
	now := time.Now()
	end, moved, last := now.Add(drainMost*r.o.Patience), now, uint64(0)
	for r.under() > 0 && now.Before(end) && now.Sub(moved) < r.o.Patience {
		if err := r.serve(ctx, stepMost); err != nil {
			return err
		}
		now = time.Now()
		if have := r.report.Acked + r.report.Received; have != last {
			moved, last = now, have
		}
	}
	return nil
}

// under is how many acknowledgements and deliveries are still to come.
func (r *run) under() (n uint64) {
	if r.o.Mode != Pub {
		return 0
	}
	if r.o.QoS > 0 {
		n = r.report.Sent - r.report.Acked - r.report.Refused
	}
	if r.stamped() && r.expected > r.came {
		n += r.expected - r.came
	}
	return n
}

// stamped tells whether the run's messages can be told apart.
func (r *run) stamped() bool { return r.o.Message == nil && r.o.Size >= StampSize }

// ready is called by the driver when the client is connected and subscribed.
func (c *client) ready() {
	r := c.run
	if c.over { // given up
		return
	}
	r.waiting--
	r.report.Connected++
	c.up = true
	r.connects.add(r.d.now().Sub(c.begun))
	if c.pub == nil || r.o.QoS == 0 {
		return
	}
	n := r.o.Window
	if quota := int(c.link.quota()); quota > 0 {
		n = min(n, quota)
	}
	c.pub.times, c.pub.free = make([]time.Time, n), make([]uint16, n)
	for i := range n {
		c.pub.free[i] = uint16(n - i)
	}
}

// ended is called by the driver when the client's connection has come to nothing, or to its end.
func (c *client) ended(err error) {
	r := c.run
	if c.over || r.leaving {
		return
	}
	c.over = true
	if c.up {
		r.report.Cut++
	} else {
		r.waiting--
		r.report.Failed++
	}
	r.report.note(err)
}

// writable is called by the driver when there is room again.
func (c *client) writable() {
	if c.pub != nil {
		c.pub.feed()
	}
}

// acked is called by the driver with the last acknowledgement of a message.
func (c *client) acked(id uint16, reason byte) {
	p, r := c.pub, c.run
	if p == nil || int(id) > len(p.times) || id == 0 || p.times[id-1].IsZero() {
		r.report.note(fmt.Errorf("an acknowledgement of a message that was not sent (packet identifier %d)", id))
		r.report.Stray++
		return
	}
	if reason >= 0x80 {
		p.refused++
		r.report.Refused++
		r.report.note(fmt.Errorf("a message was refused: %v", mqtt.ReasonCode(reason)))
		r.expected -= min(r.expected, p.receivers) // some may have come all the same
	} else {
		p.acked++
		r.report.Acked++
		r.acks.add(r.d.now().Sub(p.times[id-1]))
	}
	p.times[id-1] = time.Time{}
	p.free = append(p.free, id)
	p.feed()
}

// message is called by the driver with each message. payload is lent.
func (c *client) message(payload []byte, qos mqtt.QoS) {
	r := c.run
	r.report.Received++
	s, ok := readStamp(payload)
	if c.ledger == nil || !ok || r.o.Mode == Pub && s.run != r.id || qos > 2 {
		r.report.Unchecked++
		return
	}
	fresh, ok := c.ledger.see(s, qos)
	if !ok {
		r.report.Unchecked++
		return
	}
	if fresh {
		r.came++
	}
	r.deliveries.add(s.age(r.d.now()))
}

// feed puts the publisher into the list of those that may have something to send.
func (p *publisher) feed() {
	if !p.hungry && !p.over && p.up {
		p.hungry = true
		p.run.hungry = append(p.run.hungry, p)
	}
}

// publish sends what is due, as far as the window and the socket have room.
func (p *publisher) publish() {
	r := p.run
	now := time.Now()
	for range batch {
		if !r.working || p.over || r.o.Limit > 0 && r.report.Sent >= r.o.Limit || r.every > 0 && p.owed == 0 || !p.link.room() {
			return // acked, writable and fall feed it again
		}
		sent := now
		if r.every > 0 {
			if due := p.first.Add(time.Duration(p.sent) * r.every); now.Sub(due) > late {
				sent = due
			}
			p.owed--
		}
		id := uint16(0)
		if r.o.QoS > 0 {
			if len(p.free) == 0 {
				if r.every > 0 {
					p.owed++
				}
				return
			}
			id = p.free[len(p.free)-1]
			p.free = p.free[:len(p.free)-1]
			p.times[id-1] = sent
		}
		p.link.publish(id, stamp{run: r.id, publisher: p.number, seq: p.sent, sent: sent.UnixNano()})
		p.sent++
		r.report.Sent++
		r.expected += p.receivers
	}
	p.feed()
}
