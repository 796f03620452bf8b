// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// env is what all actors share. It does not change.
type env struct {
	host               Host
	username, password string
	ledger             *ledger
	trace              *trace
	runID              uint64
	root               string // the first levels of every topic
	began              time.Time
	restart            time.Duration // how long the broker may take to let a client in
	quiet              time.Duration // how long nothing may come before what is missing counts as lost
}

func (e *env) now() time.Duration { return time.Since(e.began) }

// sleep returns early when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// How long CONNACK, SUBACK and UNSUBACK may take, what pause comes between two attempts to connect, and the keep alive in seconds: so
// long that it plays no part.
const (
	answerPatience = 10 * time.Second
	connectPause   = 20 * time.Millisecond
	keepAlive      = 600
)

// A client is one client identifier. One goroutine uses it.
type client struct {
	*env
	id     string
	v      mqtt.Version
	expiry uint32   // seconds; 5.0
	holds  presence // whether the broker has a session for it
}

func (c *client) tell(format string, args ...any) { c.trace.write(c.now(), c.id, format, args...) }

// connect tries until it has a CONNACK, ctx ends, or the broker has had its time. will may be nil.
func (c *client) connect(ctx context.Context, clean bool, will *mqtt.Will) (*conn, *mqtt.Connack, error) {
	began := c.now()
	for {
		n, ack, err := c.attempt(ctx, clean, will)
		if err == nil {
			return n, ack, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if c.now()-began > c.restart {
			c.ledger.lockedOut(c.id, c.now(), err)
			return nil, nil, err
		}
		sleep(ctx, connectPause)
	}
}

var errNoConnack = errors.New("the connection was closed before CONNACK")

// attempt connects once. What the broker holds afterwards is known only with the CONNACK, unless the session was to be resumed.
func (c *client) attempt(ctx context.Context, clean bool, will *mqtt.Will) (*conn, *mqtt.Connack, error) {
	dial, cancel := context.WithTimeout(ctx, answerPatience)
	nc, err := c.host.Dial(dial)
	cancel()
	if err != nil {
		return nil, nil, err
	}
	n := newConn(ctx, nc, c.v)
	before := c.holds
	if clean || before != there {
		c.holds = unknown
	}
	c.tell("CONNECT clean=%t expiry=%d", clean, c.expiry)
	n.write(c.packet(clean, will))
	ack, err := connack(n, min(answerPatience, c.restart))
	if err != nil {
		n.close()
		return nil, nil, err
	}
	c.tell("CONNACK present=%t code=%v", ack.SessionPresent, ack.Code)
	if ack.Code.IsError() {
		n.close()
		return nil, nil, fmt.Errorf("the broker refuses the client: %v", ack.Code)
	}
	c.ledger.greeted(c.id, c.now(), clean, before, ack.SessionPresent)
	c.holds = there
	if c.v == mqtt.V5 && c.expiry == 0 || c.v != mqtt.V5 && clean {
		c.holds = gone // when the connection ends
	}
	return n, ack, nil
}

// packet is the CONNECT.
func (c *client) packet(clean bool, will *mqtt.Will) []byte {
	p := mqtt.Connect{
		Version: c.v, CleanStart: clean, KeepAlive: keepAlive, ClientID: []byte(c.id),
		HasUsername: c.username != "", Username: []byte(c.username), HasPassword: c.password != "", Password: []byte(c.password),
	}
	if c.v == mqtt.V5 && c.expiry > 0 {
		p.Properties = mqtt.AppendPropUint32(nil, mqtt.PropSessionExpiryInterval, c.expiry)
	}
	if will != nil {
		p.HasWill, p.Will = true, *will
	}
	return p.Append(nil)
}

// connack waits for the first packet of a connection.
func connack(n *conn, patience time.Duration) (*mqtt.Connack, error) {
	select {
	case p, ok := <-n.in:
		if ack, is := p.(*mqtt.Connack); is {
			return ack, nil
		}
		if ok {
			return nil, errors.New("the broker does not begin with CONNACK")
		}
		return nil, errNoConnack
	case <-time.After(patience):
		return nil, fmt.Errorf("no CONNACK came within %v", patience)
	}
}

// A recipient is a client that receives messages.
type recipient struct {
	client
	inbox   inbox
	deliver func(d delivery) // is told each message once at QoS 2
	nextID  uint16           // of SUBSCRIBE and UNSUBSCRIBE
}

// join connects; a session that the broker lost is forgotten here, too.
func (r *recipient) join(ctx context.Context, clean bool) (*conn, *mqtt.Connack, error) {
	n, ack, err := r.connect(ctx, clean, nil)
	if err == nil && !ack.SessionPresent {
		r.inbox = inbox{}
	}
	return n, ack, err
}

// take works a packet off and returns what to answer; others than PUBLISH and PUBREL are left to the caller.
func (r *recipient) take(p any) []byte {
	switch p := p.(type) {
	case *mqtt.Publish:
		d := delivery{
			client: r.id, topic: string(p.Topic), qos: p.QoS, dup: p.Dup, retain: p.Retain,
			payload: p.Payload, properties: p.Properties, at: r.now(),
		}
		a, answer := r.inbox.publish(p, r.v)
		if r.trace != nil {
			t, _ := parse(r.runID, p.Payload) // what does not parse is the ledger's to judge
			r.tell("<PUBLISH %s %d qos=%d id=%d dup=%t retain=%t", p.Topic, t.seq, p.QoS, p.ID, p.Dup, p.Retain)
		}
		switch a {
		case reused:
			r.ledger.reuse(d, p.ID)
			fallthrough
		case fresh:
			r.deliver(d)
		}
		return answer
	case *mqtt.Ack:
		if p.Type == mqtt.PUBREL {
			r.tell("<PUBREL id=%d", p.ID)
			return r.inbox.release(p, r.v)
		}
	}
	return nil
}

// outcome is how a wait ended.
type outcome byte

const (
	found outcome = iota
	timeout
	lost // the connection
)

// await works packets off until want says that one is it.
func (r *recipient) await(n *conn, patience time.Duration, want func(p any) bool) outcome {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case p, ok := <-n.in:
			if !ok {
				return lost
			}
			n.write(r.take(p))
			if want(p) {
				return found
			}
		case <-timer.C:
			return timeout
		}
	}
}

// linger works packets off for a while, and gives false if the connection ends meanwhile.
func (r *recipient) linger(n *conn, d time.Duration) bool {
	return r.await(n, d, func(any) bool { return false }) != lost
}

// identifier is a packet identifier for a request; one is on its way at a time, and none of them outlives the connection.
func (r *recipient) identifier() uint16 {
	r.nextID = r.nextID%1000 + 1
	return r.nextID
}

// subscribe sends SUBSCRIBE and waits for SUBACK. codes is nil if none came.
func (r *recipient) subscribe(n *conn, subs ...mqtt.Subscription) (codes []mqtt.ReasonCode) {
	s := mqtt.Subscribe{ID: r.identifier(), Subscriptions: subs}
	for _, sub := range subs {
		r.tell("SUBSCRIBE %s qos=%d", sub.Filter, sub.QoS)
	}
	n.write(s.Append(nil, r.v))
	r.await(n, answerPatience, func(p any) bool {
		a, ok := p.(*mqtt.Suback)
		if !ok || a.ID != s.ID {
			return false
		}
		codes = slices.Clone(a.Codes)
		r.tell("SUBACK %v", codes)
		return true
	})
	return codes
}

// unsubscribe sends UNSUBSCRIBE and waits for UNSUBACK. code is what it says (always success in 3.1.1).
func (r *recipient) unsubscribe(n *conn, filter string) (code mqtt.ReasonCode, acked bool) {
	u := mqtt.Unsubscribe{ID: r.identifier(), Filters: [][]byte{[]byte(filter)}}
	r.tell("UNSUBSCRIBE %s", filter)
	n.write(u.Append(nil, r.v))
	got := r.await(n, answerPatience, func(p any) bool {
		a, ok := p.(*mqtt.Unsuback)
		if !ok || a.ID != u.ID {
			return false
		}
		if len(a.Codes) > 0 {
			code = a.Codes[0]
		}
		r.tell("UNSUBACK %v", a.Codes)
		return true
	})
	return code, got == found
}

// errGrant says that the broker does not grant what the test needs.
func errGrant(subs []mqtt.Subscription, codes []mqtt.ReasonCode) error {
	if codes == nil {
		return errors.New("no SUBACK came")
	}
	for i, code := range codes {
		if i < len(subs) && code != mqtt.ReasonCode(subs[i].QoS) {
			return fmt.Errorf("the broker does not grant QoS %d for %s: %v", subs[i].QoS, subs[i].Filter, code)
		}
	}
	return nil
}
