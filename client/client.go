// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
)

// Client keeps a session with a server. New or Dial makes one; Close ends it.
type Client struct {
	opt     Options
	servers []*url.URL
	ctx     context.Context // ends everything that waits
	cancel  context.CancelFunc
	ended   chan struct{} // closed when all goroutines have ended

	mu       sync.Mutex
	started  bool
	first    bool          // Dial: the first attempt has to succeed
	closing  bool          // Close was called, or the client has given up
	err      error         // why the client ended
	last     error         // of the last attempt or connection
	link     *link         // nil while there is no connection
	up       chan struct{} // closed while there is a connection
	everUp   bool          // there was a connection
	clientID string

	// The session. It outlives connections, but for sess, which begins anew with each.
	sess     *session.Session[*outgoing]
	resend   []session.Inflight[*outgoing] // of earlier connections, still to be repeated on this one
	next     uint16                        // hint for the next packet identifier
	queue    outbox                        // waits for the connection or its quota
	inflight int                           // sent and not acknowledged, resend included
	idle     chan struct{}                 // closed when nothing is queued and inflight; nil if nobody waits
	journal  *journal                      // nil without Options.Directory

	subs      []*subscribed
	requests  []*request          // SUBSCRIBE and UNSUBSCRIBE without an answer, in their order
	asked     map[uint16]*request // those of them that were sent on this connection
	lastAsked uint16              // packet identifier
	nextIdent uint32              // subscription identifier
	replies   replies
	ownReply  string // response topic that the client has chosen; empty before the first request

	inbox   inbox
	acks    []*pendingAck // of received messages, in their order
	held    []uint16      // identifiers of QoS 2 messages that wait for PUBREL, while there is no connection
	callers int           // calls that wait for an answer of the server
	stats   Stats
}

// Stats are counters and gauges of a client.
type Stats struct {
	Connections int // that came about
	Queued      int // messages that wait for the connection or its quota
	QueuedBytes int64
	Inflight    int // messages sent and not acknowledged
	Inbox       int // messages that wait for handlers

	Dropped   uint64 // to make room in the queue
	Expired   uint64 // in the queue
	Missed    uint64 // received at QoS 0, dropped because the inbox was full
	Unhandled uint64 // received without a handler
}

// New checks the options and opens the queue on disk, if there is one. It connects to nobody: that is for Start. A
// client that is not wanted any more is closed, started or not.
func New(o Options) (*Client, error) {
	servers, err := o.fill()
	if err != nil {
		return nil, err
	}
	c := &Client{
		opt: o, servers: servers, ended: make(chan struct{}), up: make(chan struct{}),
		clientID: o.ClientID, next: 1, asked: make(map[uint16]*request),
	}
	c.inbox.init(&c.mu)
	c.replies.init()
	if o.Directory != "" {
		if err := c.openJournal(); err != nil {
			return nil, err
		}
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if len(o.Subscriptions) > 0 {
		c.addRequest(c.newSubscribe(o.Subscriptions))
	}
	return c, nil
}

// Dial makes a client and connects it. ctx bounds the attempt, not the client. If the first attempt fails, so does
// Dial; later connections are made again as Options.Reconnect says.
func Dial(ctx context.Context, o Options) (*Client, error) {
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	c.first = true
	c.Start()
	if err := c.Connected(ctx); err != nil {
		c.cancel()
		<-c.ended
		if last := c.lastError(); last != nil && ctx.Err() == nil {
			err = last
		}
		return nil, err
	}
	return c, nil
}

// Start begins to connect, in the background and until Close. It does nothing if it was called before.
func (c *Client) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started || c.closing {
		return
	}
	c.started = true
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		c.dispatch()
	}()
	go func() {
		defer close(c.ended)
		c.run()
		<-delivered
	}()
}

// Connected waits until there is a connection.
func (c *Client) Connected(ctx context.Context) error {
	for {
		c.mu.Lock()
		up := c.up
		c.mu.Unlock()
		select {
		case <-up:
			return nil
		case <-c.ended:
			return c.Err()
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), c.lastError())
		}
	}
}

// ClientID is the client identifier, which the server may have assigned; empty before that.
func (c *Client) ClientID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clientID
}

// Stats returns the present figures.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Queued, s.QueuedBytes = c.queue.len(), c.queue.bytes
	s.Inflight, s.Inbox = c.inflight, c.inbox.len()
	return s
}

// Done is closed when the client has ended: closed by Close, or given up by Options.Reconnect.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Err returns nil until Done is closed; then ErrClosed, joined with the cause if the client gave up.
func (c *Client) Err() error {
	select {
	case <-c.ended:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.err
	default:
		return nil
	}
}

func (c *Client) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Close is CloseWith a normal disconnection, which has the server discard the will.
func (c *Client) Close(ctx context.Context) error { return c.CloseWith(ctx, mqtt.Disconnect{}) }

// CloseWith sends what was handed to the connection and then DISCONNECT, and waits until the client has ended. It does
// not wait for acknowledgements; Flush does. What is still queued fails with ErrClosed, or stays in Options.Directory.
// When ctx ends, the connection is cut. d is not looked at before 5.0. Closing twice is fine; never close in a handler.
func (c *Client) CloseWith(ctx context.Context, d mqtt.Disconnect) error {
	c.mu.Lock()
	if !c.closing {
		c.closing = true
		if l := c.link; l != nil && !l.closing {
			c.flush()
			l.send(&d)
			l.end(ErrClosed)
			c.inbox.stir()
		} else {
			c.cancel()
		}
		if !c.started {
			c.started = true
			c.finish(ErrClosed)
			close(c.ended)
		}
	}
	c.mu.Unlock()
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		c.cut()
		return context.Cause(ctx)
	}
}

// cut ends everything at once.
func (c *Client) cut() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		c.link.abort(ErrClosed)
		c.inbox.stir()
	}
}

// run makes connections and serves them until the client ends.
func (c *Client) run() {
	attempt, server := 0, 0
	var cause error
	for {
		at := c.servers[server%len(c.servers)]
		server++
		began := time.Now()
		l, err := c.connect(at)
		if err == nil {
			err = c.serve(l)
			server-- // it was good: try it first
		}
		e := Disconnected{Cause: err, Server: at.Redacted(), Was: l != nil}
		if l != nil && time.Since(began) >= steady {
			attempt = 0
		}
		attempt++
		var goOn bool
		if e, goOn = c.again(e, attempt); !goOn {
			cause = err
			break
		}
		timer := time.NewTimer(e.Wait)
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
		}
	}
	c.mu.Lock()
	if !c.closing {
		cause = errors.Join(ErrClosed, cause)
	} else {
		cause = ErrClosed
	}
	c.closing = true
	c.finish(cause)
	c.mu.Unlock()
	c.cancel()
}

// steady is how long a connection has to last for the pauses to begin small again: a server, or another client of the
// same identifier, that ends each connection at once is not called on at full speed.
const steady = 10 * time.Second

// again decides whether there is another attempt, and tells the world of the end of this one.
func (c *Client) again(e Disconnected, attempt int) (Disconnected, bool) {
	c.mu.Lock()
	over := c.closing || c.ctx.Err() != nil || c.first && !c.everUp
	c.mu.Unlock()
	if !over {
		e.Wait, e.Again = c.opt.Reconnect(attempt, e.Cause)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	over = over || c.closing
	e.Again = e.Again && !over
	c.last = e.Cause
	c.inbox.put(item{disconnected: &e})
	return e, e.Again
}

// finish fails everything that waits. The mutex is held; nothing else happens after it.
func (c *Client) finish(err error) {
	c.err = err
	for _, r := range c.requests {
		r.answer(nil, nil, ErrClosed)
	}
	c.requests = nil
	for e := range c.window {
		e.Tag.complete(nil, ErrClosed)
	}
	c.queue.each(func(o *outgoing) { o.complete(nil, ErrClosed) })
	c.queue.wakeAll()
	c.settle()
	c.journal.close()
	c.inbox.stop()
}

// serve runs an established connection and returns why it ended.
func (c *Client) serve(l *link) error {
	c.mu.Lock()
	if c.closing || c.ctx.Err() != nil {
		c.mu.Unlock()
		l.conn.SetWriteDeadline(time.Now().Add(farewell))
		l.conn.Write((&mqtt.Disconnect{}).Append(nil, l.version)) // so that there is no will; if it fails, there is nobody to tell
		l.conn.Close()
		return ErrClosed
	}
	c.establish(l)
	c.mu.Unlock()
	stop := context.AfterFunc(c.ctx, c.cut)
	go c.write(l)

	err := c.readAll(l)

	stop()
	c.mu.Lock()
	c.detach(l, err)
	cause := l.cause
	c.mu.Unlock()
	close(l.gone)
	<-l.written
	return cause
}

// establish makes l the connection: what was under way goes on.
func (c *Client) establish(l *link) {
	now := time.Now()
	l.lastSent = now
	l.lastRead.Store(now.UnixNano())
	if l.keepAlive > 0 {
		l.pinger = time.AfterFunc(l.pingInterval(), func() { c.checkAlive(l) })
	}
	c.link, c.clientID = l, l.clientID
	c.stats.Connections++
	c.inbox.put(item{connected: new(connected(l))})
	c.startSession(l)
	c.sendRequests(l.connack.SessionPresent)
	c.everUp = true
	c.sendResends()
	c.flush()
	close(c.up)
}

// detach ends the use of a connection that cannot be read any more.
func (c *Client) detach(l *link, err error) {
	var fault *mqtt.Error
	if errors.As(err, &fault) && l.version == mqtt.V5 && !l.closing && fault.Code.AllowedIn(mqtt.DISCONNECT) {
		l.send(&mqtt.Disconnect{Code: fault.Code}) // [MQTT-4.13.1-1]
		l.conn.SetWriteDeadline(time.Now().Add(farewell))
		l.end(err)
	} else {
		l.abort(err)
	}
	if l.pinger != nil {
		l.pinger.Stop()
	}
	l.endReauth(l.cause)
	c.link = nil
	c.up = make(chan struct{})
	c.stopSession()
	clear(c.asked)
	for _, r := range c.requests {
		r.id = 0
	}
}
