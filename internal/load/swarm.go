// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// outMost is how many bytes may wait for a member's socket before Room says no.
	outMost = 64 << 10
	// tick is how often keep alives and overdue connections are looked after.
	tick = time.Second / 4
)

// ErrOverdue ends a connection that was not granted in time.
var ErrOverdue = errors.New("no answer in time")

// Handler is told what happens to a member. It may call the member's methods, and must not block.
type Handler interface {
	Ready()     // connected, and all subscriptions are granted
	Lost(error) // the connection came to nothing, or ended; nothing follows
	Writable()  // there is Room again
	Message(topic, payload []byte, qos byte)
	Acked(id uint16, reason byte) // the last acknowledgement of a message
}

// SwarmOptions say where the members connect to.
type SwarmOptions struct {
	Wire
	Addr   netip.AddrPort
	Host   string        // of the WebSocket upgrade; empty: Addr
	Path   string        // of the same; empty: /mqtt
	Within time.Duration // how long a member may take until it is ready; 0 is no limit
}

// Swarm is a set of clients that its owner steers. All is done on the goroutine that calls its methods.
type Swarm struct {
	engine *engine
	within time.Duration
	next   time.Time // tick
}

// NewSwarm makes an empty set.
func NewSwarm(o SwarmOptions) (*Swarm, error) {
	e, err := newEngine(o.Addr.String(), o.Wire)
	if err != nil {
		return nil, err
	}
	e.exact, e.now = true, time.Now()
	if o.Host != "" {
		e.addr = o.Host
	}
	if o.Path != "" {
		e.path = o.Path
	}
	return &Swarm{engine: e, within: o.Within}, nil
}

// Open has a member connect, and subscribe to filters if there are any. What becomes of it is told to h.
func (s *Swarm) Open(l *Login, filters []string, qos byte, h Handler) (*Member, error) {
	m := &Member{login: l, handler: h}
	return m, s.engine.open(client{id: l.ClientID, filters: filters, qos: qos, role: m, persistent: !l.Clean, login: l})
}

// Now is the time of the iteration.
func (s *Swarm) Now() time.Time { return s.engine.now }

// Step is one iteration: it waits for sockets, but no longer than it is told, serves them, and writes what was published.
func (s *Swarm) Step(ctx context.Context, wait time.Duration) error {
	if err := s.engine.flush(); err != nil {
		return err
	}
	if err := s.engine.stepWithin(ctx, wait); err != nil {
		return err
	}
	if s.engine.now.Before(s.next) {
		return nil
	}
	s.next = s.engine.now.Add(tick)
	return s.lookAfter()
}

// lookAfter ends what is overdue, and keeps the rest alive.
func (s *Swarm) lookAfter() error {
	e := s.engine
	for _, c := range e.conns {
		m := c.client.role.(*Member)
		switch {
		case c.closed:
		case c.phase < ready && s.within > 0 && e.now.Sub(c.begun) > s.within:
			if err := e.failed(c, ErrOverdue); err != nil {
				return err
			}
		case c.phase == ready && m.login.KeepAlive > 0 && e.now.Sub(c.wrote) >= time.Duration(m.login.KeepAlive)*time.Second*3/4:
			c.send([]byte{typePingreq << 4, 0})
			c.wrote = e.now // even if it waits for room
		}
	}
	return nil
}

// Leave has all members say goodbye, and waits until the broker has closed their connections, within the given time.
func (s *Swarm) Leave(ctx context.Context, within time.Duration) error {
	return s.engine.leave(ctx, within)
}

// Close ends all connections.
func (s *Swarm) Close() { s.engine.close() }

// Member is a client of a Swarm.
type Member struct {
	login   *Login
	handler Handler
	conn    *conn
	wants   bool // to be told of room
}

// connected implements role.
func (m *Member) connected(c *conn) { m.conn = c }

// ready implements steered.
func (m *Member) ready(*conn) { m.handler.Ready() }

// writable implements steered.
func (m *Member) writable(*conn) {
	if m.wants {
		m.wants = false
		m.handler.Writable()
	}
}

// lost implements steered.
func (m *Member) lost(_ *conn, err error) error {
	if e, ok := errors.AsType[*ClientError](err); ok {
		err = e.Err // the handler knows whose it is
	}
	m.handler.Lost(err)
	return nil
}

// Quota is how many messages above QoS 0 the broker takes at once; 0 is no limit of its own.
func (m *Member) Quota() int { return int(m.login.Quota) }

// Room tells whether there is room for more. If not, the handler is told when there is.
func (m *Member) Room() bool {
	m.wants = m.conn.armed || len(m.conn.out) >= outMost
	return !m.wants && !m.conn.closed
}

// Publish sends the message of p. Its identifier, above QoS 0, must be free.
func (m *Member) Publish(p *Publication, id uint16) {
	if p.qos > 0 {
		binary.BigEndian.PutUint16(p.packet[p.idAt:], id)
	}
	m.conn.send(p.packet)
}

// receive implements role.
func (m *Member) receive(c *conn, p packet) error {
	switch p.kind() {
	case typePublish:
		return m.message(c, p)
	case typePingresp:
		return nil
	case typeDisconnect:
		r := &Refusal{V5: true, Disconnect: true}
		if len(p.body) > 0 {
			r.Code = p.body[0]
		}
		return r
	}
	id, err := p.id()
	if err != nil {
		return err
	}
	switch kind := p.kind(); {
	case kind == typePuback, kind == typePubcomp, kind == typePubrec && p.reason() >= 0x80:
		m.handler.Acked(id, p.reason())
	case kind == typePubrec:
		c.acknowledge(typePubrel<<4|2, id)
	case kind == typePubrel:
		c.acknowledge(typePubcomp<<4, id)
	default:
		return fmt.Errorf("load: unexpected packet of type %d", kind)
	}
	return nil
}

// message takes a PUBLISH.
func (m *Member) message(c *conn, p packet) error {
	topic, id, payload, err := p.publish(m.login.Version == 5)
	if err != nil {
		return err
	}
	switch p.qos() {
	case 1:
		c.acknowledge(typePuback<<4, id)
	case 2:
		c.acknowledge(typePubrec<<4, id)
	}
	m.handler.Message(topic, payload, p.qos())
	return nil
}

// Publication is a PUBLISH that is sent again and again; Payload may be changed in between.
type Publication struct {
	Payload []byte
	packet  []byte
	idAt    int
	qos     byte
}

// NewPublication encodes a message for members of a protocol version.
func NewPublication(topic string, payload []byte, qos byte, retain bool, version byte) *Publication {
	p := &Publication{qos: qos}
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	if version == 5 {
		n++
	}
	first := byte(typePublish<<4) | qos<<1
	if retain {
		first |= retainFlag
	}
	p.packet = appendString(appendLength(append(p.packet, first), n), topic)
	p.idAt = len(p.packet)
	if qos > 0 {
		p.packet = append(p.packet, 0, 0)
	}
	if version == 5 {
		p.packet = append(p.packet, 0) // no properties
	}
	at := len(p.packet)
	p.packet = append(p.packet, payload...)
	p.Payload = p.packet[at:]
	return p
}
