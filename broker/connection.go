// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"io"
	"math/bits"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/transport"
)

// state of a connection.
//
//	fresh --CONNECT--> deciding --granted--> claiming --stored--> open --any end--> ending --handed over--> gone
//	  |                 |  ^ AUTH               |                                      ^
//	  |                 v  |                    +--------- taken over, closed ---------+
//	  |               asking (enhanced)         |
//	  +---- refused -----+----------------------+----> gone
type state byte

const (
	fresh    state = iota // waiting for CONNECT
	deciding              // a decider is at work; nothing is read
	asking                // AUTH was sent; the client's is due
	claiming              // waiting for the predecessor and the store
	open
	ending // the session is being handed to the store
	gone
)

// tag is what the broker finds again with an outbound delivery.
type tag struct {
	ref    store.Ref // in the session's queue or, with share, in the shared subscription's; zero if in neither
	share  string    // whole filter of the shared subscription whose stored queue ref is in
	member *member   // of the shared subscription that assigned it
	turn   uint64    // its number there
	stored bool      // the store knows the window entry
}

// connection is one client's connection, with its session while it is open. It belongs to its shard's loop, first that on which it was
// accepted, then its home.
type connection struct {
	tc     transport.Conn
	sh     *shard
	timer  loop.Timer // CONNECT timeout, then keep alive
	client *plugin.Client
	sess   *session.Session[tag]
	subs   map[string]*subscriber // by whole filter
	queue  session.Queue[tag]     // deliveries of QoS 1 and 2 that wait for the window
	kept   *kept                  // of a persistent session; nil for one that ends with its connection
	will   *store.Will
	login  *login // while connecting

	merge      *merged // of the fan-out at hand, where filters overlap
	next, prev *connection

	known  *plugin.Client // client, when serial was given
	serial uint64         // see rightsOf

	keepAlive int64  // nanoseconds until silence ends the connection; 0 = never
	rare      *rare  // nil until it is needed
	bound     *bound // nil where no rule of limits holds
	sent      int64  // bytes since the last look, while there is an overload

	state     state
	cause     plugin.Cause // why it ends
	hold      hold
	version   mqtt.Version
	linked    bool
	leaving   bool
	problem   bool // reason strings are welcome
	opening   bool // in shard.wins
	looking   bool // a look after the next flush is due
	willed    bool // the end calls for the will
	zero      bool // there is or was a subscription with QoS 0
	unplugged bool // the transport is done with it
}

// rare is what most connections never need; without it an idle one is small.
type rare struct {
	streams      []*stream  // retained messages on their way to new subscriptions
	full         []*member  // shared subscriptions that wait for room in the window
	heldBack     []*keeping // messages that wait for room on the disk
	waitsForRoom bool       // in the shard's list of those with heldBack
	unanswered   int        // retained messages of QoS 0 that wait for the store
	asked        int        // SUBSCRIBE and UNSUBSCRIBE that wait for the store
	reauth       *reauth
	loginEnd     loop.Timer // the login's, where it has one
	reference    string     // Server Reference of the DISCONNECT
}

// rarely gives what only few connections need, to be changed.
func (c *connection) rarely() *rare {
	if c.rare == nil {
		c.rare = new(rare)
	}
	return c.rare
}

// tidy lets go of it when nothing is left in it: most clients need it once, while they subscribe.
func (c *connection) tidy() {
	r := c.rare
	if len(r.streams)+len(r.full)+len(r.heldBack)+r.unanswered+r.asked == 0 && !r.waitsForRoom && r.reauth == nil && r.loginEnd.When() == 0 && r.reference == "" {
		c.rare = nil
	}
}

// hold says why a connection is not read.
type hold uint16

const (
	holdDecider    hold = 1 << iota // a decider is at work; Paused has the names in this order
	holdHandover                    // too much is on its way to another loop
	holdOut                         // the client does not read what it caused
	holdPending                     // too many publishes wait for the store
	holdAsked                       // too many other commands wait for the store
	holdUnanswered                  // too many retained messages of QoS 0 wait for the store
	holdStore                       // too much of all clients waits for the store
	holdFull                        // its messages wait for room on the disk
	holdOne                         // one is on its way while the disk is full
	holdRate                        // the next packet is beyond a rate
	holdOverload                    // it sends the most while there is too much
)

// stop keeps the connection from being read for a reason.
func (c *connection) stop(h hold) {
	if c.hold == 0 {
		c.sh.tally.add(ReadsPaused, 1)
	}
	if c.hold&h == 0 {
		c.sh.tally.paused[bits.TrailingZeros16(uint16(h))].Add(1)
	}
	c.hold |= h
}

// release takes a reason back that is there, and does no more.
func (c *connection) release(h hold) {
	c.hold &^= h
	c.sh.tally.paused[bits.TrailingZeros16(uint16(h))].Add(-1)
}

// resume takes a reason back, and reads on if it was the last.
func (c *connection) resume(h hold) {
	if c.hold&h == 0 {
		return
	}
	c.release(h)
	if c.hold == 0 && c.state != gone {
		if c.keepAlive != 0 && c.state == open {
			c.timer.Extend(c.sh.loop.Now() + c.keepAlive)
		}
		c.tc.Resume()
	}
}

// Feed takes packets from the bytes that arrived.
func (c *connection) Feed(b []byte) (eaten, need int, v transport.Verdict) {
	sh := c.sh // a granted CONNECT makes it another one, whose loop this is not
	cfg := sh.b.config.Load()
	for {
		if c.state >= ending {
			return len(b), 0, transport.GoOn // the transport was told to close
		}
		if c.hold != 0 || c.state == claiming {
			break
		}
		rest := b[eaten:]
		h, n, err := mqtt.DecodeHeader(rest, c.version)
		if err != nil {
			c.fail(err)
			continue
		}
		if n == 0 {
			break
		}
		size := n + h.Remaining
		if c.state != open && c.tooEarly(h, size, cfg) || c.state == open && size > c.lim(cfg).MaxPacket && c.tooLarge(h) {
			continue
		}
		if len(rest) < size {
			need = size
			break
		}
		if c.bound != nil && len(c.bound.in) > 0 && !c.mayTake(h, size) {
			continue
		}
		eaten += size
		c.sh.count(PacketsReceived, 1)
		if c.keepAlive != 0 && c.state == open {
			c.timer.Extend(c.sh.loop.Now() + c.keepAlive)
		}
		if err := c.receive(h, rest[n:size], cfg); err != nil {
			c.fail(err)
		}
	}
	sh.count(BytesReceived, eaten)
	if sh.quiet.on && c.sh == sh && c.state == open { // or else it moves
		sh.quiet.note(c, eaten)
	}
	if c.hold != 0 || c.state == claiming {
		return eaten, 0, transport.Pause
	}
	return eaten, need, transport.GoOn
}

// tooEarly checks the header of a packet before the session is open: only CONNECT is due [MQTT-3.1.0-1], or AUTH and
// DISCONNECT while an authentication is on its way, and small ones.
func (c *connection) tooEarly(h mqtt.Header, size int, cfg *config) bool {
	switch {
	case c.state == fresh && h.Type != mqtt.CONNECT:
		c.close(plugin.ProtocolError, "the first packet is "+h.Type.String()+", not CONNECT")
	case c.state == asking && h.Type != mqtt.AUTH && h.Type != mqtt.DISCONNECT:
		c.refuse(plugin.ProtocolError, mqtt.ProtocolError, h.Type.String()+" before the authentication ended")
	case size > cfg.limits.MaxConnectPacket:
		c.close(plugin.PacketTooLarge, "CONNECT is above the size limit")
	default:
		return false
	}
	return true
}

func (c *connection) tooLarge(h mqtt.Header) bool {
	c.fail(&mqtt.Error{Code: mqtt.PacketTooLarge, Op: h.Type.String(), Err: errors.New("above Maximum Packet Size")})
	return true
}

// Drained says that the client took what it was sent.
func (c *connection) Drained() {
	if c.state != open {
		return
	}
	c.resume(holdOut)
	c.pump()
}

// Closed says that the transport ended the connection.
func (c *connection) Closed(err error) {
	c.sh.tally.add(SocketsClosed, 1)
	switch {
	case c.state >= ending || err == nil:
		c.close(plugin.ClientClosed, "")
	case errors.Is(err, io.EOF):
		c.close(plugin.ClientClosed, "end of stream without DISCONNECT")
	default:
		c.close(plugin.NetworkError, err.Error())
	}
	c.unplugged = true
	c.depart()
}

// depart forgets a connection that neither the store nor the transport has to do with any more.
func (c *connection) depart() {
	if c.unplugged && c.state == gone {
		for h := hold(1); c.hold != 0; h <<= 1 {
			c.resume(h)
		}
		c.sh.unlink(c)
		c.sh.alive.Add(-1)
	}
}

// fail ends the connection for what the client did, and tells it where it can be told [MQTT-4.13.1-1].
func (c *connection) fail(err error) {
	code, detail := mqtt.MalformedPacket, err.Error()
	var e *mqtt.Error
	if errors.As(err, &e) {
		code = e.Code
	}
	cause := causeOf(code)
	if c.state == open {
		c.closeWith(cause, code, detail)
		return
	}
	c.refuse(cause, code, detail)
}

func causeOf(code mqtt.ReasonCode) plugin.Cause {
	switch code {
	case mqtt.MalformedPacket:
		return plugin.MalformedPacket
	case mqtt.PacketTooLarge:
		return plugin.PacketTooLarge
	case mqtt.ReceiveMaximumExceeded:
		return plugin.ReceiveMaximumExceeded
	case mqtt.TopicAliasInvalid:
		return plugin.TopicAliasInvalid
	case mqtt.TopicNameInvalid, mqtt.TopicFilterInvalid:
		return plugin.TopicInvalid
	case mqtt.QoSNotSupported:
		return plugin.QoSNotSupported
	case mqtt.RetainNotSupported:
		return plugin.RetainNotSupported
	case mqtt.NotAuthorized:
		return plugin.NotAuthorized
	case mqtt.QuotaExceeded:
		return plugin.QuotaExceeded
	case mqtt.UnsupportedProtocolVersion:
		return plugin.UnsupportedVersion
	case mqtt.ClientIdentifierNotValid:
		return plugin.ClientIDInvalid
	case mqtt.BadAuthenticationMethod:
		return plugin.AuthenticationMethod
	}
	return plugin.ProtocolError
}

// write queues a whole packet. One above the client's Maximum Packet Size is not sent [MQTT-3.1.2-24]; as it cannot go on without
// it, the connection ends.
func (c *connection) write(b []byte) {
	if limit := c.maxPacket(); limit != 0 && len(b) > limit {
		if c.state < ending {
			c.close(plugin.ReceiverTooSmall, "Maximum Packet Size is below that of a packet that is due")
		}
		return
	}
	c.sh.count(PacketsSent, 1)
	c.sh.count(BytesSent, len(b))
	c.tc.Out().Append(b)
	c.tc.Dirty()
	if c.state == open {
		c.checkOut()
	}
}

// sink counts what a session writes.
type sink struct {
	out    *transport.Out
	before int
}

func (c *connection) sink() sink { return sink{c.tc.Out(), c.tc.Out().Len()} }

// flushed counts and marks what was written since sink was made.
func (c *connection) flushed(s sink, packets int) {
	c.sh.count(PacketsSent, packets)
	c.sh.count(BytesSent, s.out.Len()-s.before)
	c.tc.Dirty()
	c.checkOut()
}

// checkOut stops reading from a client that does not take what it causes to be sent.
func (c *connection) checkOut() {
	if c.hold&holdOut != 0 || c.tc.Out().Len() <= c.sh.b.config.Load().limits.MaxOutBytes {
		return
	}
	c.stop(holdOut)
	c.lookAgain()
}

// connectTimeout ends a connection that was not granted in time.
type connectTimeout connection

func (t *connectTimeout) Run(*loop.Loop) {
	c := (*connection)(t)
	if c.state < open {
		c.close(plugin.ConnectTimeout, "no CONNECT was granted in time")
	}
}

// keepAliveTimeout ends a silent connection [MQTT-3.1.2-22, MQTT-3.1.2-24].
type keepAliveTimeout connection

func (t *keepAliveTimeout) Run(*loop.Loop) {
	c := (*connection)(t)
	switch {
	case c.state != open:
	case c.hold&^holdOut != 0: // it is us who do not listen
		c.sh.loop.At(&c.timer, c.sh.loop.Now()+c.keepAlive, t)
	default:
		c.closeWith(plugin.KeepAliveTimeout, mqtt.KeepAliveTimeout, "")
	}
}
