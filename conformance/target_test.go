// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"crypto/rand"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

var (
	addr   = flag.String("addr", "", "test the broker at this `host:port` instead of one in memory")
	wsAddr = flag.String("ws", "", "with -addr: where that broker speaks WebSocket, `host:port`")
	user   = flag.String("user", "", "with -addr: user `name` to connect with")
	pass   = flag.String("pass", "", "with -addr: `password` to connect with")
	update = flag.Bool("update", false, "write docs/conformance.md anew")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *addr != "" { // these tests mostly wait
		if err := flag.Set("test.parallel", "48"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// T is one test of one statement in one version, with the broker that it is about. The test's goroutine uses it.
type T struct {
	*testing.T
	V      mqtt.Version
	broker *brokertest.Broker // in memory, made when it is first needed; nil with -addr
	prefix string             // of client identifiers and topics
	conns  []net.Conn         // all that were opened in memory
}

// run runs a test in its version: in a bubble with virtual time if the broker is in memory.
func run(t *testing.T, v mqtt.Version, test func(*T)) {
	if *addr != "" {
		test(&T{T: t, V: v, prefix: unique()})
		return
	}
	synctest.Test(t, func(t *testing.T) { test(&T{T: t, V: v, prefix: "c"}) })
}

var (
	nonce   = strings.ToLower(rand.Text()[:4])
	counter atomic.Uint32
)

// unique gives a prefix that no other test, now or in another run, has: 9 letters and digits.
func unique() string { return fmt.Sprintf("c%s%04d", nonce, counter.Add(1)) }

// Limits starts the broker with limits other than the usual ones.
func (t *T) Limits(set func(*broker.Limits)) {
	t.Helper()
	l := broker.DefaultLimits()
	set(&l)
	t.Options(broker.Options{Limits: &l})
}

// Options starts the broker with these options. With -addr nobody can set them: the test is skipped.
func (t *T) Options(o broker.Options) {
	t.Helper()
	if *addr != "" {
		t.Skip("needs a broker with a configuration of its own; it runs without -addr")
	}
	t.broker = brokertest.New(t.T, o)
}

// own reports whether the broker is ours. It has to give the reason codes that the standard lets others leave out.
func own() bool { return *addr == "" }

// conn opens a connection.
func (t *T) conn() net.Conn {
	t.Helper()
	if own() {
		if t.broker == nil {
			t.broker = brokertest.New(t.T, broker.Options{})
		}
		conn := t.broker.Dial()
		t.conns = append(t.conns, conn)
		return conn
	}
	return dial(t, *addr)
}

func dial(t *T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Dial opens a connection on which nothing was sent.
func (t *T) Dial() *wire.Client {
	t.Helper()
	return t.inspected(wire.New(t.T, t.conn(), t.V))
}

// inspected has every packet to come looked at.
func (t *T) inspected(c *wire.Client) *wire.Client {
	f := form{t: t.T, v: t.V}
	c.Inspect = f.look
	return c
}

// ID makes a client identifier that only this test uses.
func (t *T) ID(name string) string { return t.prefix + name }

// Topic makes a topic name or filter that only this test uses.
func (t *T) Topic(name string) string { return t.prefix + "/" + name }

// option changes a CONNECT.
type option func(*mqtt.Connect)

// persistent has the session outlive its connection, and resumes it if there is one.
func persistent(p *mqtt.Connect) {
	p.CleanStart = false
	if p.Version == mqtt.V5 {
		p.Properties = mqtt.AppendPropUint32(p.Properties, mqtt.PropSessionExpiryInterval, 3600)
	}
}

// expiring is persistent with a Session Expiry Interval of its own.
func expiring(seconds uint32) option {
	return func(p *mqtt.Connect) {
		p.CleanStart = false
		p.Properties = mqtt.AppendPropUint32(p.Properties, mqtt.PropSessionExpiryInterval, seconds)
	}
}

// resuming takes up a session without asking for more than the connection's time.
func resuming(p *mqtt.Connect) { p.CleanStart = false }

func keepAlive(seconds uint16) option {
	return func(p *mqtt.Connect) { p.KeepAlive = seconds }
}

func withWill(w mqtt.Will) option {
	return func(p *mqtt.Connect) { p.HasWill, p.Will = true, w }
}

func withProps(props mqtt.Properties) option {
	return func(p *mqtt.Connect) { p.Properties = append(p.Properties, props...) }
}

func maxPacket(n uint32) option {
	return withProps(mqtt.AppendPropUint32(nil, mqtt.PropMaximumPacketSize, n))
}

// connect makes a CONNECT for a client of this test, with a clean session unless an option says otherwise.
func (t *T) connect(id string, options ...option) mqtt.Connect {
	p := mqtt.Connect{Version: t.V, CleanStart: true, KeepAlive: 60, ClientID: []byte(t.ID(id))}
	if *user != "" {
		p.HasUsername, p.Username = true, []byte(*user)
		p.HasPassword, p.Password = *pass != "", []byte(*pass)
	}
	for _, o := range options {
		o(&p)
	}
	return p
}

// Connect connects a client.
func (t *T) Connect(id string, options ...option) *wire.Client {
	t.Helper()
	c, _ := t.Connack(id, options...)
	return c
}

// Connack connects a client and gives the CONNACK too.
func (t *T) Connack(id string, options ...option) (*wire.Client, *mqtt.Connack) {
	t.Helper()
	c := t.Dial()
	return c, c.Connect(t.connect(id, options...))
}

// quiet is how long nothing has to come before we believe that nothing will.
func quiet() time.Duration {
	if own() {
		return 2 * time.Second // of virtual time
	}
	return 700 * time.Millisecond
}

// Nothing checks that nothing comes.
func (t *T) Nothing(cs ...*wire.Client) {
	t.Helper()
	for _, c := range cs {
		c.WantSilence(quiet())
	}
}

// Cut breaks a connection without DISCONNECT, and waits until the server knows.
func (t *T) Cut(c *wire.Client) {
	t.Helper()
	c.Conn.Close()
	t.settle()
}

// Leave ends a connection with DISCONNECT, and waits until the server knows.
func (t *T) Leave(c *wire.Client) {
	t.Helper()
	c.Disconnect()
	t.settle()
}

// settle waits until the server has nothing to do.
func (t *T) settle() {
	if own() {
		synctest.Wait()
		return
	}
	time.Sleep(200 * time.Millisecond)
}

// Closed checks that the server closes the connection, and tells a 5.0 client one of these reasons. Only our own server has
// to say why. 3.1 and 3.1.1 have no words for it.
func (t *T) Closed(c *wire.Client, codes ...mqtt.ReasonCode) {
	t.Helper()
	got := c.WantClosed()
	if t.V != mqtt.V5 {
		if got != mqtt.Success {
			t.Fatalf("a code came before the end: %v", got)
		}
		return
	}
	t.among(got, codes...)
}

// among checks the code of a last word; a server that is not ours may be silent.
func (t *T) among(got mqtt.ReasonCode, codes ...mqtt.ReasonCode) {
	t.Helper()
	if got == mqtt.Success && (!own() || len(codes) == 0) {
		return
	}
	for _, code := range codes {
		if got == code {
			return
		}
	}
	t.Fatalf("the server closes with %#02x (%v), want one of %x", byte(got), got, codes)
}

// Subscribe subscribes to filters with one QoS.
func (t *T) Subscribe(c *wire.Client, q mqtt.QoS, filters ...string) {
	t.Helper()
	c.Subscribe(0x5001, q, filters...)
}

// SubscribeWith subscribes with options and, if not 0, a subscription identifier.
func (t *T) SubscribeWith(c *wire.Client, identifier uint32, subs ...mqtt.Subscription) *mqtt.Suback {
	t.Helper()
	p := &mqtt.Subscribe{ID: 0x5002, Subscriptions: subs}
	if identifier != 0 {
		p.Properties = mqtt.AppendPropVarInt(nil, mqtt.PropSubscriptionIdentifier, identifier)
	}
	c.Send(p)
	return c.WantSuback(p.ID)
}

// Publish publishes and goes through the acknowledgements.
func (t *T) Publish(c *wire.Client, q mqtt.QoS, topic, payload string) {
	t.Helper()
	t.publish(c, mqtt.Publish{QoS: q, Topic: []byte(topic), Payload: []byte(payload)})
}

// Retain publishes with RETAIN and goes through the acknowledgements.
func (t *T) Retain(c *wire.Client, q mqtt.QoS, topic, payload string) {
	t.Helper()
	t.publish(c, mqtt.Publish{QoS: q, Retain: true, Topic: []byte(topic), Payload: []byte(payload)})
	if q == 0 {
		t.settle() // nothing else says that it is stored
	}
	if payload != "" && !own() { // leave nothing behind at somebody else's
		v := t.V
		t.Cleanup(func() {
			conn, err := net.Dial("tcp", *addr)
			if err != nil {
				return
			}
			last := wire.New(t.T, conn, v)
			last.Connect(t.connect("tidy"))
			last.Send(&mqtt.Publish{Retain: true, Topic: []byte(topic)})
			last.WantQuiet()
		})
	}
}

func (t *T) publish(c *wire.Client, p mqtt.Publish) {
	t.Helper()
	if p.QoS > 0 && p.ID == 0 {
		p.ID = 0x7001
	}
	c.Publish(p)
}

// Take gives the next packet, which has to be this message, and acknowledges it to the end.
func (t *T) Take(c *wire.Client, topic, payload string) *mqtt.Publish {
	t.Helper()
	p := c.WantPublish(topic, payload)
	t.ack(c, p)
	return p
}

// ack goes through the acknowledgements of a received message.
func (t *T) ack(c *wire.Client, p *mqtt.Publish) {
	t.Helper()
	t.begin(c, p)
	if p.QoS == 2 {
		c.WantAck(mqtt.PUBREL, p.ID)
		c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
	}
}

// begin sends PUBACK or PUBREC.
func (t *T) begin(c *wire.Client, p *mqtt.Publish) {
	t.Helper()
	switch p.QoS {
	case 1:
		c.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID})
	case 2:
		c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
	}
}

// Collect gives the next n messages, and acknowledges each of them while others arrive. Nothing is unfinished when it returns.
func (t *T) Collect(c *wire.Client, n int) (got []*mqtt.Publish) {
	t.Helper()
	for open := 0; len(got) < n || open > 0; {
		switch p := c.Next().(type) {
		case *mqtt.Publish:
			if len(got) == n {
				t.Fatalf("got %v after the %d messages that were due", p, n)
			}
			got = append(got, p)
			t.begin(c, p)
			open += int(p.QoS) / 2
		case *mqtt.Ack:
			equal(t, "packet", p.Type, mqtt.PUBREL)
			c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
			open--
		default:
			t.Fatalf("got %v, want PUBLISH or PUBREL", p)
		}
	}
	return got
}

// equal compares what a test is about.
func equal[V comparable](t *T, what string, got, want V) {
	t.Helper()
	if got != want {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}
