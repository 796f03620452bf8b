// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"encoding/binary"
	"fmt"
	"time"
)

// timesSlack is how many times the window is remembered when messages were sent: identifiers begin anew after 65 535, and messages
// of two turns are under way then.
const timesSlack = 4

// stampSize is what a payload begins with: the number of the flow (4 bytes) and the sequence number (8 bytes).
const stampSize = 12

// flow is one publisher's stream of messages.
type flow struct {
	number    int
	conn      *conn
	qos       byte
	window    uint64
	burst     bool
	receivers uint32   // of each message; 0: nobody is there, and the last acknowledgement is all that is waited for
	topics    []string // taken in turn; all of one length
	most      uint64   // messages that are sent in all; 0: no bound

	packet                 []byte // the next PUBLISH, framed if need be
	topicAt, idAt, stampAt int

	sent     uint64
	done     uint64 // messages that all receivers have
	acked    uint64 // of QoS 1 and 2, wholly
	forgiven uint64 // given up after a stall, for the window only
	arrivals []uint32
	times    []time.Time // when messages were sent, by packet identifier modulo the length
	touched  bool

	pace  *pace  // nil: as fast as the window allows
	place uint64 // among the flows of the pace
	owed  uint64 // messages that are due and not sent
}

// newFlow makes a flow of messages with payload bytes of payload.
func newFlow(number int, p *Plan, topics []string, receivers int) *flow {
	f := &flow{number: number, qos: p.QoS, window: uint64(p.Window), burst: p.Burst, receivers: uint32(receivers), topics: topics}
	plain, _, _, _ := appendPublish(nil, topics[0], p.QoS, p.Payload)
	if p.WebSocket {
		f.packet = appendFrame(nil, len(plain))
	}
	f.packet, f.topicAt, f.idAt, f.stampAt = appendPublish(f.packet, topics[0], p.QoS, p.Payload)
	binary.BigEndian.PutUint32(f.packet[f.stampAt:], uint32(number))
	if receivers > 1 {
		f.arrivals = make([]uint32, p.Window)
	}
	if p.QoS > 0 {
		f.times = make([]time.Time, timesSlack*p.Window)
	}
	return f
}

// connected implements role.
func (f *flow) connected(c *conn) { f.conn = c }

// receive implements role for the publisher's connection: acknowledgements.
func (f *flow) receive(c *conn, p packet) error {
	switch p.kind() {
	case typePuback, typePubcomp:
		id, err := p.id()
		if err != nil {
			return err
		}
		f.acked++
		c.engine.acks.add(c.engine.now.Sub(f.times[int(id)%len(f.times)]))
		c.engine.touch(f)
	case typePubrec:
		id, err := p.id()
		if err != nil {
			return err
		}
		c.acknowledge(typePubrel<<4|2, id)
	default:
		return fmt.Errorf("load: a publisher got a packet of type %d", p.kind())
	}
	return nil
}

// arrived counts a message at one of its receivers.
func (f *flow) arrived(seq uint64) {
	if f.receivers > 1 {
		slot := &f.arrivals[seq%f.window]
		if *slot++; *slot < f.receivers {
			return
		}
		*slot = 0
	}
	f.done++
	f.conn.engine.touch(f)
}

// under is how many messages are under way.
func (f *flow) under() uint64 {
	done := f.done
	if f.receivers == 0 {
		if f.qos == 0 {
			return 0 // nobody tells
		}
		done = f.acked
	} else if f.qos > 0 {
		done = min(done, f.acked)
	}
	done += f.forgiven
	return f.sent - min(done, f.sent)
}

// refill tops the window up.
func (f *flow) refill() {
	n := f.under()
	if f.burst && n > 0 {
		return
	}
	for ; n < f.window && f.may(); n++ {
		if f.pace != nil {
			f.owed--
			f.conn.engine.lates.add(f.conn.engine.now.Sub(f.dueAt(f.sent)))
		}
		if len(f.topics) > 1 {
			copy(f.packet[f.topicAt:], f.topics[f.sent%uint64(len(f.topics))])
		}
		if f.qos > 0 {
			id := uint16(f.sent%0xFFFF) + 1
			f.times[int(id)%len(f.times)] = f.conn.engine.now
			binary.BigEndian.PutUint16(f.packet[f.idAt:], id)
		}
		binary.BigEndian.PutUint64(f.packet[f.stampAt+4:], f.sent)
		f.conn.write(f.packet)
		f.sent++
	}
}

// may tells whether there is another message to be sent.
func (f *flow) may() bool {
	return (f.most == 0 || f.sent < f.most) && (f.pace == nil || f.owed > 0)
}

// roomy tells whether the socket takes what is written.
func (f *flow) roomy() bool { return !f.conn.armed && len(f.conn.out) < outMost }

// forgive gives up what is under way, so that a lost message does not end the flow.
func (f *flow) forgive() {
	f.forgiven += f.under()
	clear(f.arrivals)
}

// receiver is a subscribed client. It gets the messages of len(tracks) flows from number first on.
type receiver struct {
	flows     []*flow // of the scenario
	first     int
	tracks    []Tracker
	delivered *uint64
	shared    bool // by several clients: each message comes to one of them, and their order says nothing
}

// connected implements role.
func (*receiver) connected(*conn) {}

// receive implements role.
func (r *receiver) receive(c *conn, p packet) error {
	switch p.kind() {
	case typePublish:
		id, payload, err := p.publication()
		if err != nil {
			return err
		}
		switch p.qos() {
		case 1:
			c.acknowledge(typePuback<<4, id)
		case 2:
			c.acknowledge(typePubrec<<4, id)
		}
		return r.take(payload)
	case typePubrel:
		id, err := p.id()
		if err != nil {
			return err
		}
		c.acknowledge(typePubcomp<<4, id)
		return nil
	}
	return fmt.Errorf("load: a subscriber got a packet of type %d", p.kind())
}

// take enters a message into the books.
func (r *receiver) take(payload []byte) error {
	if len(payload) < stampSize {
		return errTruncated
	}
	track := int(binary.BigEndian.Uint32(payload)) - r.first
	if track < 0 || track >= len(r.tracks) {
		return fmt.Errorf("load: a message of flow %d went to a subscriber of others", track+r.first)
	}
	seq := binary.BigEndian.Uint64(payload[4:])
	r.tracks[track].See(seq)
	*r.delivered++
	f := r.flows[track+r.first]
	if f.pace != nil {
		f.conn.engine.delivers.add(f.dueAt(seq), f.conn.engine.now)
	}
	f.arrived(seq)
	return nil
}
