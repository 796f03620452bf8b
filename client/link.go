// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/internal/invariants"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/transport"
)

// link is one connection. The run goroutine reads, a second one writes; what is not marked is guarded by Client.mu.
type link struct {
	conn    net.Conn
	server  *url.URL
	version mqtt.Version
	trace   func(sent bool, v mqtt.Version, h mqtt.Header, body []byte)

	// What the server granted; never changes after the handshake.
	connack   mqtt.Connack
	clientID  string
	limits    session.Limits
	keepAlive time.Duration
	expiry    time.Duration
	maxQoS    mqtt.QoS
	retain    bool
	wildcards bool
	shared    bool
	ids       bool // subscription identifiers are available

	in   inBuffer // of the goroutine that reads
	out  transport.Out
	wake chan struct{} // has room for one

	closing bool          // write what waits, then close
	cause   error         // the first reason for closing
	gone    chan struct{} // closed when reading has ended
	written chan struct{} // closed when the writer has ended

	reauth              chan error // waits for the end of a re-authentication
	pinger              *time.Timer
	pinged              time.Time // since when an answer to PINGREQ is awaited; zero if none is
	pingHeld            bool      // that PINGREQ is not written yet
	lastSent            time.Time
	lastRead, lastWrote atomic.Int64 // unix nanoseconds
	stalled             bool         // the reader waits for handlers
}

// highWater is how many bytes wait for the writer before messages stay in the queue.
const highWater = 256 << 10

// packet is what can be sent.
type packet interface {
	Append(dst []byte, v mqtt.Version) []byte
}

// send puts a packet into the queue of the writer.
func (l *link) send(p packet) {
	from := l.mark()
	l.out.Set(p.Append(l.out.Buf(), l.version))
	l.sent(from)
}

// mark says where the next packet will begin.
func (l *link) mark() int { return len(l.out.Buf()) }

// sent wakes the writer and shows what was put into its queue since mark.
func (l *link) sent(mark int) {
	if l.trace != nil {
		l.traceSent(l.out.Buf()[mark:])
	}
	l.wakeWriter()
}

// traceSent shows packets that are sent. The payload of the last one may be missing, where it lies by reference.
func (l *link) traceSent(b []byte) {
	for len(b) > 0 && l.trace != nil {
		h, n, err := mqtt.DecodeHeader(b, l.version)
		if err != nil || n == 0 {
			return // only packets that this package made are here
		}
		end := min(n+h.Remaining, len(b))
		l.trace(true, l.version, h, b[n:end])
		b = b[end:]
	}
}

func (l *link) traceReceived(h mqtt.Header, body []byte) {
	if l.trace != nil {
		l.trace(false, l.version, h, body)
	}
}

func (l *link) wakeWriter() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// end closes the connection after what waits was written. The first cause stays.
func (l *link) end(cause error) {
	if !l.closing {
		l.closing, l.cause = true, cause
		l.wakeWriter()
	}
}

// abort closes the connection at once: deadlines in the past end reading and writing, and never block.
func (l *link) abort(cause error) {
	l.end(cause)
	l.conn.SetDeadline(time.Unix(1, 0)) // fails only where the connection has failed
}

// farewell bounds how long the last bytes and the server's own closing may take.
const farewell = 2 * time.Second

// write is the goroutine that writes.
func (c *Client) write(l *link) {
	defer close(l.written)
	var mine transport.Out
	var slices [][]byte
	ping, began := false, time.Time{} // mine has a PINGREQ; when its writing began
	for {
		<-l.wake
		for {
			c.mu.Lock()
			if ping {
				l.pingHeld = false
				if l.lastRead.Load() < began.UnixNano() { // else it may have been answered already
					l.pinged = time.Now()
				}
			}
			c.flush()
			l.out.Take(&mine)
			ping, began = l.pingHeld, time.Now()
			last := l.closing
			if mine.Len() > 0 {
				l.lastSent = began
			}
			c.mu.Unlock()
			if mine.Len() == 0 {
				if last {
					c.leave(l)
					return
				}
				break
			}
			slices = mine.Slices(slices[:0])
			err := l.writeSlices(slices, mine.Len())
			mine.Reset()
			if err != nil {
				c.mu.Lock()
				l.abort(err)
				c.mu.Unlock()
			}
		}
	}
}

// chunk is how much is written at once, so that progress shows on a slow connection.
const chunk = 256 << 10

func (l *link) writeSlices(slices net.Buffers, size int) error {
	defer l.wrote()
	if size <= chunk {
		_, err := slices.WriteTo(l.conn)
		return err
	}
	for _, b := range slices {
		for len(b) > 0 {
			n, err := l.conn.Write(b[:min(chunk, len(b))])
			if err != nil {
				return err
			}
			b = b[n:]
			l.wrote()
		}
	}
	return nil
}

func (l *link) wrote() { l.lastWrote.Store(time.Now().UnixNano()) }

// leave closes the connection. The server closes first after a DISCONNECT; closing before that, with bytes still to be
// read, could reset the connection and lose the DISCONNECT.
func (c *Client) leave(l *link) {
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-l.gone:
	case <-timer.C:
	case <-c.ctx.Done():
	}
	l.conn.Close() // nothing is left that an error could spoil
}

// inBuffer collects bytes until a packet is whole. It grows as they arrive, never ahead of them.
type inBuffer struct {
	buf  []byte
	from int // first byte not taken
}

// inStart is the size of a fresh buffer; inKeep the largest that is kept when it is empty.
const (
	inStart = 4 << 10
	inKeep  = 64 << 10
)

// next takes a whole packet out of what has arrived. ok is false if more is needed. body is lent until fill.
func (b *inBuffer) next(v mqtt.Version, limit uint32) (h mqtt.Header, body []byte, ok bool, err error) {
	h, n, err := mqtt.DecodeHeader(b.buf[b.from:], v)
	if err != nil || n == 0 {
		return h, nil, false, err
	}
	if limit != 0 && n+h.Remaining > int(limit) {
		return h, nil, false, limitError(mqtt.PacketTooLarge, h.Type.String(), "the packet is larger than Maximum Packet Size")
	}
	if len(b.buf)-b.from < n+h.Remaining {
		return h, nil, false, nil
	}
	body = b.buf[b.from+n : b.from+n+h.Remaining]
	b.from += n + h.Remaining
	return h, body, true, nil
}

// fill reads once.
func (b *inBuffer) fill(conn net.Conn) error {
	invariants.Poison(b.buf[:b.from]) // the loan has ended
	all := b.buf
	b.buf = b.buf[:copy(b.buf, b.buf[b.from:])]
	invariants.Poison(all[len(b.buf):])
	b.from = 0
	if len(b.buf) == 0 && (b.buf == nil || cap(b.buf) > inKeep) {
		b.buf = make([]byte, 0, inStart)
	}
	if len(b.buf) == cap(b.buf) {
		b.buf = append(make([]byte, 0, 2*cap(b.buf)), b.buf...)
	}
	n, err := conn.Read(b.buf[len(b.buf):cap(b.buf)])
	b.buf = b.buf[:len(b.buf)+n]
	if n > 0 {
		return nil // the error comes again
	}
	return err
}

// pingInterval is the silence after which PINGREQ is sent: before the keep alive has passed [MQTT-3.1.2-20].
func (l *link) pingInterval() time.Duration { return l.keepAlive * 3 / 4 }

// checkAlive is the timer of a connection: it sends PINGREQ after silence in either direction, and gives up a server that
// does not answer.
func (c *Client) checkAlive(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return
	}
	now, heard := time.Now(), time.Unix(0, l.lastRead.Load())
	timeout := min(c.opt.PingTimeout, l.keepAlive)
	if !l.pinged.IsZero() {
		switch {
		case !heard.Before(l.pinged):
			l.pinged = time.Time{}
		case l.stalled: // the answer may be there, but nobody reads
			l.pinged = now
		case l.pingHeld && time.Unix(0, l.lastWrote.Load()).After(l.pinged): // behind bytes that make their way
			l.pinged = time.Unix(0, l.lastWrote.Load())
		case now.Sub(l.pinged) >= timeout:
			l.abort(ErrKeepAlive)
			return
		}
	}
	due := l.lastSent
	if heard.Before(due) {
		due = heard
	}
	due = due.Add(l.pingInterval())
	if l.pinged.IsZero() && !due.After(now) {
		if !l.closing { // nothing follows a DISCONNECT, but the server has to take it
			l.send(pingreq{})
		}
		l.pinged, l.pingHeld = now, true
	}
	if !l.pinged.IsZero() {
		due = l.pinged.Add(timeout)
	}
	l.pinger.Reset(max(due.Sub(now), time.Millisecond))
}

// pingreq makes a packet of PINGREQ.
type pingreq struct{}

func (pingreq) Append(dst []byte, _ mqtt.Version) []byte { return mqtt.AppendPingreq(dst) }
func (pingreq) String() string                           { return "PINGREQ" }
