// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	mqttclient "github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

// clientDriver plays the clients with the client library. Its lock is held by the run, but for the time that step waits; what
// the library's goroutines have to tell, they tell under it.
type clientDriver struct {
	mu     sync.Mutex
	o      *Options
	p      publication
	ctx    context.Context // of the clients
	cancel context.CancelFunc
	wake   chan struct{} // holds one
	tasks  sync.WaitGroup
	links  []*clientLink
}

func newClientDriver(o *Options, p publication) *clientDriver {
	d := &clientDriver{o: o, p: p, wake: make(chan struct{}, 1)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.mu.Lock()
	return d
}

// tell calls f under the lock, on a goroutine of the library.
func (d *clientDriver) tell(f func()) {
	d.mu.Lock()
	f()
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *clientDriver) open(c *client) error {
	l := &clientLink{client: c, driver: d, tokens: make(chan sentMessage, d.o.Window)}
	c.link = l
	d.links = append(d.links, l)
	d.tasks.Go(func() { l.connect(d.options(c)) })
	return nil
}

func (d *clientDriver) options(c *client) mqttclient.Options {
	server := *d.o.Server
	server.User = nil
	o := mqttclient.Options{
		Servers: []string{server.String()}, TLS: d.o.TLS, ClientID: c.id, Username: c.username, Password: d.o.Password, Version: d.o.Version,
		CleanStart: d.o.Clean, KeepAlive: d.o.KeepAlive, ConnectTimeout: d.o.Within, MaxInflight: uint16(d.o.Window), NoIdentifiers: true,
		Overflow:  mqttclient.Refuse,
		Reconnect: func(int, error) (time.Duration, bool) { return 0, false },
		Handler: func(_ context.Context, m *mqttclient.Message) {
			d.tell(func() { c.message(m.Payload, m.QoS) })
		},
	}
	if d.o.KeepAlive == 0 {
		o.KeepAlive = -1
	}
	if !d.o.Clean && d.o.Version == mqtt.V5 {
		o.SessionExpiry = mqttclient.Forever
	}
	return o
}

func (d *clientDriver) step(ctx context.Context, wait time.Duration) error {
	d.mu.Unlock()
	defer d.mu.Lock()
	if wait <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-d.wake:
	case <-t.C:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

func (d *clientDriver) now() time.Time { return time.Now() }

func (d *clientDriver) leave(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	d.mu.Unlock()
	defer d.mu.Lock()
	var all sync.WaitGroup
	for _, l := range d.links {
		if l.c != nil {
			all.Go(func() { l.c.Close(ctx) }) // it ends in any case
		}
	}
	all.Wait()
	return nil
}

func (d *clientDriver) close() {
	d.cancel()
	d.mu.Unlock()
	d.tasks.Wait()
}

// clientLink is one client of the library.
type clientLink struct {
	client *client
	driver *clientDriver
	c      *mqttclient.Client // nil until it is connected
	tokens chan sentMessage   // above QoS 0, in the order of sending; holds the window
}

// sentMessage is a message under way.
type sentMessage struct {
	id uint16
	t  *mqttclient.Token
}

// connect lives as long as the connection.
func (l *clientLink) connect(o mqttclient.Options) {
	d := l.driver
	c, err := mqttclient.Dial(d.ctx, o)
	if err == nil && len(l.client.filters) > 0 {
		err = l.subscribe(c)
	}
	if err != nil {
		d.tell(func() { l.client.ended(err) })
		return
	}
	d.tell(func() {
		l.c = c
		l.client.ready()
	})
	l.await(c)
	if err = c.Err(); err == nil {
		err = mqttclient.ErrClosed
	}
	d.tell(func() { l.client.ended(err) })
}

func (l *clientLink) subscribe(c *mqttclient.Client) error {
	subs := make([]mqttclient.Subscription, len(l.client.filters))
	for i, f := range l.client.filters {
		subs[i] = mqttclient.Subscription{Filter: f, QoS: l.driver.p.qos}
	}
	ctx, cancel := context.WithTimeout(l.driver.ctx, l.driver.o.Within)
	defer cancel()
	_, err := c.Subscribe(ctx, subs...)
	if err != nil {
		c.Close(ctx) // the error that matters is err
	}
	return err
}

// await tells of acknowledgements until the connection has ended.
func (l *clientLink) await(c *mqttclient.Client) {
	for {
		select {
		case m := <-l.tokens:
			select {
			case <-m.t.Done():
			case <-c.Done():
				return
			case <-l.driver.ctx.Done():
				return
			}
			l.acked(m)
		case <-c.Done():
			return
		case <-l.driver.ctx.Done():
			return
		}
	}
}

// acked tells of one message.
func (l *clientLink) acked(m sentMessage) {
	code, err := mqtt.Success, m.t.Err()
	if refusal, ok := errors.AsType[*mqttclient.ReasonError](err); ok {
		code, err = refusal.Code, nil
	}
	if err != nil {
		return // lost with the connection
	}
	l.driver.tell(func() {
		if m.id > 0 {
			l.client.acked(m.id, byte(code))
		}
		l.client.writable()
	})
}

func (l *clientLink) room() bool {
	return l.c != nil && len(l.tokens) < cap(l.tokens)
}

func (l *clientLink) quota() uint16 { return 0 } // the library waits for it

func (l *clientLink) publish(id uint16, s stamp) {
	m := mqttclient.Message{Topic: l.client.pub.topic, Payload: bytes.Clone(l.driver.p.payload), QoS: l.driver.p.qos, Retain: l.driver.p.retain}
	if l.driver.o.Message == nil {
		s.put(m.Payload)
	}
	t, err := l.c.PublishAsync(l.driver.ctx, m)
	if err != nil {
		return // it is closed, which is told elsewhere
	}
	l.tokens <- sentMessage{id, t} // there is room: see above
}
