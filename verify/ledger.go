// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// A ledger holds what was published, acknowledged and received, and the rules that judge it. Times are since the start of the run.
// Any goroutine uses it; its methods hold mu, and call nothing that waits.
type ledger struct {
	mu sync.Mutex
	book
	runID      uint64
	tolerance  time.Duration
	limit      int // bytes of the largest payload
	streams    []*stream
	receivers  []*receiver
	retained   []retainedTopic
	wills      []*will
	expiring   []*expiring
	deaths     []time.Duration // when the broker was killed, in order
	totals     Totals
	lockedOuts map[string]bool
	phase      phase
}

// Totals are figures for people.
type Totals struct {
	Published    int64 `json:"published"`
	Acknowledged int64 `json:"acknowledged"`
	Refused      int64 `json:"refused"`   // with a reason code of failure
	Abandoned    int64 `json:"abandoned"` // not acknowledged when the broker lost the publisher's session
	Received     int64 `json:"received"`
	Repeated     int64 `json:"repeated"`     // at QoS 1, or as a further copy for an overlapping filter: both are allowed
	Disconnected int64 `json:"disconnected"` // connections lost while the broker lived
}

func newLedger(runID uint64, tolerance time.Duration, limit int, t *trace) *ledger {
	return &ledger{book: newBook(t), runID: runID, tolerance: tolerance, limit: limit, lockedOuts: map[string]bool{}}
}

// A stream is a row of numbered messages of one publisher on one topic with one QoS.
type stream struct {
	topic string
	qos   mqtt.QoS
	sent  uint64   // the number of the last one published
	acked []uint32 // for each number, from 1: when it was acknowledged, in milliseconds and one more; 0 is not
}

// A receiver is a persistent subscriber, or all members of a shared subscription together.
type receiver struct {
	client  string
	class   Promise
	want    []int // for each stream the QoS at which it comes, -1 if it is not subscribed
	ordered bool
	once    Promise // which promise a second QoS 2 delivery breaks
	copies  bool    // filters overlap: further copies with a lower QoS are allowed [MQTT-3.3.5-1]
	seen    []bitmap
	last    []uint64      // the highest number so far
	moved   time.Duration // when something new came last
}

// addStream makes a stream and gives its number.
func (l *ledger) addStream(topic string, qos mqtt.QoS) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams = append(l.streams, &stream{topic: topic, qos: qos})
	return uint16(len(l.streams) - 1)
}

// addReceiver makes a receiver of all streams for which want, given topic and QoS, is not negative.
func (l *ledger) addReceiver(r *receiver, want func(topic string, qos mqtt.QoS) int) *receiver {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.streams {
		r.want = append(r.want, want(s.topic, s.qos))
	}
	r.seen, r.last = make([]bitmap, len(l.streams)), make([]uint64, len(l.streams))
	l.receivers = append(l.receivers, r)
	return r
}

// publish takes the next message of a stream and gives its number. It is called before the message is sent.
func (l *ledger) publish(number uint16) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.streams[number]
	s.sent++
	s.acked = append(s.acked, 0)
	l.totals.Published++
	return s.sent
}

// acknowledge notes that the broker took a message: PUBACK, or PUBREC, by which it accepts ownership [MQTT-4.3.3-8].
func (l *ledger) acknowledge(number uint16, seq uint64, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.streams[number]
	if s.acked[seq-1] == 0 {
		s.acked[seq-1] = uint32(at.Milliseconds()) + 1
		l.totals.Acknowledged++
	}
}

func (l *ledger) refuse() { l.mu.Lock(); l.totals.Refused++; l.mu.Unlock() }

func (l *ledger) abandon(n int) { l.mu.Lock(); l.totals.Abandoned += int64(n); l.mu.Unlock() }

func (l *ledger) disconnected() { l.mu.Lock(); l.totals.Disconnected++; l.mu.Unlock() }

// A delivery is a PUBLISH as the application of a client sees it: without the repetitions of QoS 2 that its packet identifier gives away.
type delivery struct {
	client     string
	topic      string
	qos        mqtt.QoS
	dup        bool
	retain     bool
	payload    []byte
	properties mqtt.Properties
	at         time.Duration
}

// identify parses the payload of a delivery and judges it. It gives false if there is nothing more to do. The caller holds mu.
func (l *ledger) identify(d delivery, want kind) (token, bool) {
	l.totals.Received++
	l.check(Intact, 1)
	l.check(NoPhantom, 1)
	t, err := parse(l.runID, d.payload)
	switch {
	case err == errForeign:
		l.violate(NoPhantom, d.at, Violation{Client: d.client, Topic: d.topic, What: err.Error()})
		return t, false
	case err != nil:
		l.violate(Intact, d.at, Violation{Client: d.client, Topic: d.topic, What: fmt.Sprintf("%v (%d bytes)", err, len(d.payload))})
		return t, false
	case t.kind != want:
		l.violate(Intact, d.at, Violation{Client: d.client, Topic: d.topic, Sequence: t.seq, What: "the payload belongs to another topic"})
		return t, false
	}
	return t, true
}

// receive judges a delivery to a receiver.
func (l *ledger) receive(r *receiver, d delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.identify(d, kindData)
	if !ok {
		return
	}
	v := Violation{Client: d.client, Topic: d.topic, Sequence: t.seq}
	if int(t.number) >= len(l.streams) || t.seq == 0 || t.seq > l.streams[t.number].sent {
		v.What = "this was never published"
		l.violate(NoPhantom, d.at, v)
		return
	}
	i, s := int(t.number), l.streams[t.number]
	if s.topic != d.topic {
		v.What = "it was published on " + s.topic
		l.violate(Intact, d.at, v)
		return
	}
	if r.want[i] < 0 {
		v.What = "it is not subscribed to this topic"
		l.violate(NoPhantom, d.at, v)
		return
	}
	if int(d.qos) != r.want[i] {
		if r.copies && int(d.qos) < r.want[i] {
			l.totals.Repeated++
			return
		}
		v.What = fmt.Sprintf("it came with QoS %d, not %d", d.qos, r.want[i])
		l.violate(Intact, d.at, v)
	}
	l.place(r, i, d, v)
}

// place enters a delivery of stream i and judges repetition and order. The caller holds mu.
func (l *ledger) place(r *receiver, i int, d delivery, v Violation) {
	once := r.once
	switch {
	case d.qos == 0 && l.streams[i].qos == 0:
		once = AtMostOnce
	case d.qos < 2:
		once = ""
	}
	if once != "" {
		l.check(once, 1)
	}
	if r.seen[i].has(v.Sequence) {
		if once == "" {
			l.totals.Repeated++
			return
		}
		v.What = "it came again" + flagged(d)
		l.violate(once, d.at, v)
		return
	}
	r.seen[i].add(v.Sequence)
	r.moved = d.at
	if r.ordered {
		l.check(InOrder, 1)
		if v.Sequence < r.last[i] {
			v.What = fmt.Sprintf("it came for the first time after number %d", r.last[i])
			l.violate(InOrder, d.at, v)
		}
	}
	r.last[i] = max(r.last[i], v.Sequence)
}

func flagged(d delivery) string {
	if d.dup {
		return ", with DUP, under another packet identifier or after PUBREL"
	}
	return ", without DUP"
}

// reuse notes a PUBLISH of QoS 2 with a packet identifier that the client still holds for another message.
func (l *ledger) reuse(d delivery, id uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violate(ExactlyOnce, d.at, Violation{Client: d.client, Topic: d.topic,
		What: fmt.Sprintf("packet identifier %d was used for another message before PUBREL", id)})
}

// missing counts the acknowledged messages that a receiver has not seen, and says when something new came last.
func (l *ledger) missing(r *receiver) (n int, moved time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.streams {
		if r.want[i] < 0 {
			continue
		}
		for j, at := range s.acked {
			if at != 0 && !r.seen[i].has(uint64(j)+1) {
				n++
			}
		}
	}
	return n, r.moved
}

// judgeLoss looks for acknowledged messages that did not come, at the end of the run.
func (l *ledger) judgeLoss(at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.receivers {
		for i, s := range l.streams {
			if r.want[i] < 0 {
				continue
			}
			for j, acked := range s.acked {
				if acked == 0 {
					continue
				}
				l.check(r.class, 1)
				if seq := uint64(j) + 1; !r.seen[i].has(seq) {
					when := time.Duration(acked-1) * time.Millisecond
					l.violate(r.class, at, Violation{Client: r.client, Topic: s.topic, Sequence: seq,
						What: fmt.Sprintf("it was acknowledged at %.3f s%s and never came", when.Seconds(), l.before(when))})
				}
			}
		}
	}
}

// before says how long before the next kill something was. The caller holds mu.
func (l *ledger) before(at time.Duration) string {
	for i, death := range l.deaths {
		if at <= death {
			return fmt.Sprintf(" (%.3f s before kill %d)", (death - at).Seconds(), i+1)
		}
	}
	return ""
}

// death notes a kill.
func (l *ledger) death(at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaths = append(l.deaths, at)
}

// deathAfter returns the first kill after a time, 0 if there was none.
func (l *ledger) deathAfter(at time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, death := range l.deaths {
		if death >= at {
			return death
		}
	}
	return 0
}

// enter begins a round, or a phase of it.
func (l *ledger) enter(round int, p phase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round, l.phase = round, p
}

// progress tells how far the run has come.
func (l *ledger) progress(rounds int) Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Progress{Round: l.round, Rounds: rounds, Phase: l.phase.String(), Totals: l.totals}
	for _, r := range l.results {
		p.Violations += r.Violations
	}
	return p
}

// forgo gives up the receivers of a class: the broker does not offer it.
func (l *ledger) forgo(class Promise) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.receivers = slices.DeleteFunc(l.receivers, func(r *receiver) bool { return r.class == class })
}

// started judges whether the broker came back; err is why not.
func (l *ledger) started(at time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.check(StartsAgain, 1)
	if err != nil {
		l.violate(StartsAgain, at, Violation{What: err.Error()})
	}
}

// lockedOut notes, once for each client, that it did not come in though the broker runs.
func (l *ledger) lockedOut(client string, at time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.lockedOuts[client] {
		l.lockedOuts[client] = true
		l.violate(StartsAgain, at, Violation{Client: client, What: "it cannot connect: " + err.Error()})
	}
}
