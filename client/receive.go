// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
)

// packets are reused from one packet to the next, by the goroutine that reads.
type packets struct {
	publish  mqtt.Publish
	ack      mqtt.Ack
	suback   mqtt.Suback
	unsuback mqtt.Unsuback
	auth     mqtt.Auth
}

// readAll receives packets until the connection ends, and returns why it did.
func (c *Client) readAll(l *link) error {
	var p packets
	for {
		for {
			h, body, ok, err := l.in.next(l.version, c.opt.MaxPacket)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := c.receive(l, &p, h, body); err != nil {
				return err
			}
		}
		if err := l.in.fill(l.conn); err != nil {
			return err
		}
		l.lastRead.Store(time.Now().UnixNano())
	}
}

// receive takes one packet.
func (c *Client) receive(l *link, p *packets, h mqtt.Header, body []byte) error {
	if h.Type == mqtt.AUTH {
		return c.receiveReauth(l, p, h, body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l.traceReceived(h, body)
	if l.closing { // nothing follows our DISCONNECT [MQTT-3.14.4-2]
		return nil
	}
	switch h.Type {
	case mqtt.PUBLISH:
		if err := p.publish.Decode(h, body, l.version); err != nil {
			return err
		}
		return c.receivePublish(l, &p.publish)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP:
		if err := p.ack.Decode(h, body, l.version); err != nil {
			return err
		}
		c.receiveAck(l, &p.ack)
		c.flush()
	case mqtt.PUBREL:
		if err := p.ack.Decode(h, body, l.version); err != nil {
			return err
		}
		c.receivePubrel(l, p.ack.ID)
	case mqtt.SUBACK:
		if err := p.suback.Decode(h, body, l.version); err != nil {
			return err
		}
		return c.receiveAnswer(mqtt.SUBSCRIBE, p.suback.ID, p.suback.Codes, p.suback.Properties)
	case mqtt.UNSUBACK:
		if err := p.unsuback.Decode(h, body, l.version); err != nil {
			return err
		}
		return c.receiveAnswer(mqtt.UNSUBSCRIBE, p.unsuback.ID, p.unsuback.Codes, p.unsuback.Properties)
	case mqtt.PINGRESP: // it was read, that is all
	case mqtt.DISCONNECT:
		return l.receiveDisconnect(h, body)
	default:
		return limitError(mqtt.ProtocolError, h.Type.String(), "a server does not send it")
	}
	return nil
}

func (c *Client) receiveReauth(l *link, p *packets, h mqtt.Header, body []byte) error {
	if l.version < mqtt.V5 {
		return limitError(mqtt.ProtocolError, "AUTH", "it does not exist before 5.0")
	}
	if err := p.auth.Decode(h, body, l.version); err != nil {
		return err
	}
	l.traceReceived(h, body)
	return c.receiveAuth(l, &p.auth)
}

// receivePublish takes a message, or answers one that came before.
func (c *Client) receivePublish(l *link, p *mqtt.Publish) error {
	if err := c.sess.ResolveAlias(p); err != nil {
		return err
	}
	if p.QoS > 0 {
		arrival, err := c.sess.In.Begin(p.QoS, p.ID)
		switch {
		case err != nil:
			return err
		case arrival == session.Repeat:
			l.send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
			return nil
		case arrival == session.Wait:
			return nil
		}
	}
	m := received(p)
	m.c = c
	if p.QoS > 0 {
		m.ack = &pendingAck{qos: p.QoS, id: p.ID}
		c.acks = append(c.acks, m.ack)
	}
	if c.waitForRoom(l, p.QoS) {
		c.inbox.put(item{message: m})
	}
	return nil
}

// waitForRoom keeps the reader until the inbox has room, and with it the server's messages in the network. It does not wait while a call
// waits for the server, whose answer would not be read: the call may be that of a handler. It reports whether the message
// is to be kept.
func (c *Client) waitForRoom(l *link, qos mqtt.QoS) bool {
	if qos > 0 && l.version == mqtt.V5 { // bounded by our Receive Maximum
		return true
	}
	l.stalled = true
	for c.inbox.len() >= c.opt.MaxInbox && c.callers == 0 && !l.closing {
		c.inbox.changed.Wait()
	}
	l.stalled = false
	if qos == 0 && c.inbox.len() >= c.opt.MaxInbox {
		c.stats.Missed++
		return false
	}
	return true
}

// receivePubrel ends a received message of QoS 2.
func (c *Client) receivePubrel(l *link, id uint16) {
	code := mqtt.Success
	if c.sess.In.Release(id) {
		c.journal.release(id)
	} else {
		code = mqtt.PacketIdentifierNotFound
	}
	l.send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: id, Code: code})
}

// pendingAck is the acknowledgement that a received message of QoS 1 or 2 is due.
type pendingAck struct {
	qos  mqtt.QoS
	id   uint16
	done bool // the handler has finished, or has acknowledged; or nobody waits for it any more
	code mqtt.ReasonCode
}

// acknowledge marks a message as done with and sends the acknowledgements that are due, in the order in which
// messages came [MQTT-4.6.0-2].
func (c *Client) acknowledge(a *pendingAck, code mqtt.ReasonCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.done {
		return
	}
	a.done, a.code = true, code
	c.sendAcks()
}

func (c *Client) sendAcks() {
	l := c.link
	if l == nil || l.closing || c.sess == nil {
		return
	}
	n := 0
	mark := l.mark()
	for ; n < len(c.acks) && c.acks[n].done; n++ {
		a := c.acks[n]
		if a.qos == 2 && !a.code.IsError() {
			c.journal.hold(a.id)
		}
		c.sess.In.Accepted(a.qos, a.id, a.code, l.version, &l.out)
	}
	if n > 0 {
		clear(c.acks[:n])
		c.acks = c.acks[n:]
		l.sent(mark)
	}
}

// keepInflow keeps what the receiving half has to remember without a connection: messages of QoS 2. Those of QoS 1 the server
// sends again, under an identifier of its choice.
func (c *Client) keepInflow() {
	c.held = c.sess.In.Held()
	kept := c.acks[:0]
	for _, a := range c.acks {
		if a.qos == 2 {
			kept = append(kept, a)
		} else {
			a.done = true
		}
	}
	clear(c.acks[len(kept):])
	c.acks = kept
}

// resumeInflow puts it back: a message whose handler is still at work is not delivered twice.
func (c *Client) resumeInflow() {
	c.sess.In.Resume(c.held)
	for _, a := range c.acks {
		c.sess.In.Begin(2, a.id) // within the maximum that the last connection kept to
	}
	c.sendAcks()
}

// forgetInflow ends it, for the server has.
func (c *Client) forgetInflow() {
	c.held = nil
	for _, a := range c.acks {
		a.done = true
	}
	c.acks = nil
}
