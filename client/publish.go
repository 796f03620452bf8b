// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
)

// Token is the future of a message that was published.
type Token struct {
	c    *Client
	o    *outgoing // until it is done
	done chan struct{}
	code mqtt.ReasonCode
	prop mqtt.Properties
	err  error
}

// Done is closed when the message is acknowledged, or has failed. In a handler use Wait, which keeps the client reading
// whatever the inbox holds.
func (t *Token) Done() <-chan struct{} { return t.done }

// Wait waits for Done and returns Err, or the cause of ctx if that ends first.
func (t *Token) Wait(ctx context.Context) error {
	if err := t.c.wait(ctx, t.done); err != nil {
		return err
	}
	return t.err
}

// Err is nil if the message was handed over: written at QoS 0, acknowledged wholly at QoS 1 and 2. It is valid after Done.
func (t *Token) Err() error { return t.err }

// Ack returns reason code and properties of the PUBACK, PUBREC or PUBCOMP that ended it. Valid after Done.
func (t *Token) Ack() (mqtt.ReasonCode, mqtt.Properties) { return t.code, t.prop }

// outgoing is a message on its way to the server.
type outgoing struct {
	msg   *mqtt.Message
	size  int64
	token *Token
	place *list.Element // in the queue; nil if it is not there
	seq   uint64        // in the journal; 0 if it is not kept
}

func (o *outgoing) complete(a *mqtt.Ack, err error) {
	if o.token == nil { // of an earlier run of the program
		return
	}
	if a != nil {
		o.token.code, o.token.prop = a.Code, slices.Clone(a.Properties)
	}
	o.token.err, o.token.o = err, nil
	close(o.token.done)
}

// Publish sends a message and waits: at QoS 0 until it was handed to the connection, at QoS 1 and 2 until it is acknowledged. If ctx
// ends before the message was sent it is withdrawn; if ctx ends later, whether it arrived is not known. A refusal by the
// server is a *ReasonError.
func (c *Client) Publish(ctx context.Context, m Message) error {
	t, err := c.PublishAsync(ctx, m)
	if err != nil {
		return err
	}
	if err := c.wait(ctx, t.done); err != nil {
		c.withdraw(t)
		return err
	}
	return t.err
}

// PublishAsync puts a message into the queue and returns its future. It waits only where the queue is full and
// Options.Overflow is Block; ctx bounds that wait. With Options.Directory a message of QoS 1 or 2 is on disk when
// PublishAsync returns. Messages leave in the order of the calls.
func (c *Client) PublishAsync(ctx context.Context, m Message) (*Token, error) {
	if err := m.check(c.opt.Version); err != nil {
		return nil, fmt.Errorf("client: publish: %w", err)
	}
	msg := m.encode(c.opt.Version, time.Now())
	o := &outgoing{msg: msg, size: int64(msg.Size()), token: &Token{c: c, done: make(chan struct{})}}
	o.token.o = o
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.makeRoom(ctx, o); err != nil {
		return nil, err
	}
	if m.QoS > 0 {
		if err := c.journal.message(o); err != nil {
			return nil, fmt.Errorf("client: publish: %w", err)
		}
	}
	c.queue.push(o)
	c.flush()
	return o.token, nil
}

// makeRoom waits for a place in the queue, or makes one, as Options.Overflow says. The mutex is held, but not while it waits.
func (c *Client) makeRoom(ctx context.Context, o *outgoing) error {
	for {
		switch {
		case c.closing:
			return ErrClosed
		case c.queue.len() < c.opt.MaxQueue && c.queue.bytes+o.size <= c.opt.MaxQueueBytes:
			return nil
		case c.queue.len() == 0 || c.opt.Overflow == Refuse: // it alone is more than the queue holds
			return ErrQueueFull
		case c.opt.Overflow == DropOldest:
			c.stats.Dropped++
			c.abandon(c.queue.pop(), ErrDropped)
			continue
		}
		room := c.queue.room()
		c.mu.Unlock()
		err := c.wait(ctx, room)
		c.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// wait waits for done on behalf of a caller, and meanwhile keeps the reader from waiting for handlers.
func (c *Client) wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	c.mu.Lock()
	c.callers++
	c.inbox.stir()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.callers--
		c.mu.Unlock()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// withdraw takes a message back that was not sent.
func (c *Client) withdraw(t *Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := t.o; o != nil && o.place != nil {
		c.queue.remove(o)
		c.abandon(o, context.Canceled)
	}
}

// abandon ends a message that is in neither queue nor window.
func (c *Client) abandon(o *outgoing, err error) {
	c.journal.done(o)
	o.complete(nil, err)
	c.settle()
}

// Flush waits until nothing is queued or unacknowledged.
func (c *Client) Flush(ctx context.Context) error {
	c.mu.Lock()
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.settle()
	c.mu.Unlock()
	if err := c.wait(ctx, idle); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// settle wakes Flush when there is nothing left, or nothing will happen any more.
func (c *Client) settle() {
	if c.idle != nil && (c.err != nil || c.queue.len() == 0 && c.inflight == 0) {
		close(c.idle)
		c.idle = nil
	}
}

// flush sends what waits in the queue, as far as the connection takes it. The mutex is held.
func (c *Client) flush() {
	l := c.link
	if l == nil || l.closing || c.sess == nil || len(c.resend) > 0 {
		return
	}
	for o := c.queue.first(); o != nil && l.out.Len() < highWater; o = c.queue.first() {
		if o.msg.QoS > 0 && (c.sess.Out.Free() == 0 || c.asked[c.sess.Out.NextID()] != nil) {
			break
		}
		c.queue.remove(o)
		mark := l.mark()
		c.sendMessage(l, o)
		l.sent(mark)
	}
	c.settle()
}

// sendMessage sends one message, or ends it if the server would not take it.
func (c *Client) sendMessage(l *link, o *outgoing) {
	if err := l.refuses(o.msg); err != nil {
		c.abandon(o, err)
		return
	}
	now := time.Now().UnixNano()
	d := session.Delivery[*outgoing]{Message: o.msg, QoS: o.msg.QoS, Retain: o.msg.Retain, Tag: o}
	var result session.SendResult
	var id uint16
	if d.QoS == 0 {
		result = c.sess.SendQoS0(&d, now, &l.out)
	} else {
		id = c.sess.Out.Add(d)
		c.journal.sent(o, id) // before the server can know of it
		result = c.sess.Open(id, now, &l.out)
	}
	switch {
	case result == session.TooLarge:
		c.abandon(o, errTooLarge)
	case result == session.TooOld:
		c.stats.Expired++
		c.abandon(o, ErrExpired)
	case d.QoS == 0:
		o.complete(nil, nil)
	default:
		c.inflight++
	}
}

var errTooLarge = limitError(mqtt.PacketTooLarge, "PUBLISH", "the server's Maximum Packet Size is less")

// refuses tells what the server said it does not take.
func (l *link) refuses(m *mqtt.Message) error {
	switch {
	case m.QoS > l.maxQoS: // [MQTT-3.2.2-11]
		return limitError(mqtt.QoSNotSupported, "PUBLISH", "the server's Maximum QoS is less")
	case m.Retain && !l.retain: // [MQTT-3.2.2-14]
		return limitError(mqtt.RetainNotSupported, "PUBLISH", "the server keeps no retained messages")
	}
	return nil
}

// startSession begins the session's state on a new connection: what is under way is to be repeated, or was lost.
func (c *Client) startSession(l *link) {
	c.sess = session.New[*outgoing](l.limits)
	if l.connack.SessionPresent {
		c.resumeInflow()
		return
	}
	c.forgetInflow()
	c.journal.lost()
	lost := c.resend
	c.resend, c.next, c.inflight = nil, 1, 0
	for _, e := range slices.Backward(lost) {
		if hadPubrec(&e) {
			c.abandon(e.Tag, nil)
		} else {
			c.queue.pushFront(e.Tag) // whether the server had it went with the session
		}
	}
}

// hadPubrec reports whether the server has taken the message over.
func hadPubrec(e *session.Inflight[*outgoing]) bool {
	return e.State == session.Received || e.State == session.Released
}

// stopSession keeps what a lost connection leaves, for the next one.
func (c *Client) stopSession() {
	left := c.resend
	c.resend = nil
	for e := range c.sess.Out.Window {
		kept := *e
		if !hadPubrec(e) {
			kept.State = session.Sent
		}
		c.resend = append(c.resend, kept)
	}
	c.resend = append(c.resend, left...)
	c.next = c.sess.Out.NextID()
	c.keepInflow()
	c.sess = nil
}

// window yields the entries that are not acknowledged, on any connection.
func (c *Client) window(yield func(*session.Inflight[*outgoing]) bool) {
	if c.sess != nil {
		for e := range c.sess.Out.Window {
			if !yield(e) {
				return
			}
		}
	}
	for i := range c.resend {
		if !yield(&c.resend[i]) {
			return
		}
	}
}

// sendResends repeats what earlier connections left, as much at once as the server's Receive Maximum allows
// [MQTT-4.4.0-1]. New messages wait until all of it was repeated.
func (c *Client) sendResends() {
	for len(c.resend) > 0 && c.sess.Out.Len() == 0 {
		n := min(len(c.resend), int(c.link.limits.ReceiveMaximum))
		c.sess.Out.Resume(c.resend[:n], c.next)
		c.resend = c.resend[n:]
		mark := c.link.mark()
		all := func() bool { return true } // they are as many as the window holds, and in memory already
		c.sess.Resend(time.Now().UnixNano(), &c.link.out, all, func(e session.Inflight[*outgoing]) {
			c.inflight--
			c.abandon(e.Tag, errTooLarge)
		})
		c.link.sent(mark)
	}
}

// receiveAck takes PUBACK, PUBREC or PUBCOMP.
func (c *Client) receiveAck(l *link, a *mqtt.Ack) {
	result, e := c.sess.Out.Acknowledge(a.Type, a.ID, a.Code)
	switch result {
	case session.ToRelease:
		c.journal.received(e.Tag)
		mark := l.mark()
		c.sess.Release(a.ID, &l.out)
		l.sent(mark)
	case session.Done, session.Refused:
		c.inflight--
		c.journal.done(e.Tag)
		var err error
		if result == session.Refused {
			err = &ReasonError{Packet: a.Type, Code: a.Code, Properties: slices.Clone(a.Properties)}
		}
		e.Tag.complete(a, err)
		c.sendResends()
		c.settle()
	case session.Ignored:
		if a.Type == mqtt.PUBREC && !a.Code.IsError() { // the server has to be told, or asks forever
			l.send(&mqtt.Ack{Type: mqtt.PUBREL, ID: a.ID, Code: mqtt.PacketIdentifierNotFound})
		}
	}
}
