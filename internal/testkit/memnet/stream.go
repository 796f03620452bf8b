// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A stream is one direction of a connection.
type stream struct {
	mu   sync.Mutex
	cond *sync.Cond // any change, on mu

	segments []segment // in order of arrival
	waiting  int       // bytes in segments
	size     int       // most bytes that may wait
	latency  time.Duration
	frozen   bool

	readErr  error // reads fail with it at once
	writeErr error // writes fail with it at once
	ended    bool  // the writer is gone: io.EOF when all was read

	readBy, writeBy deadline
	arrival         *time.Timer // wakes the reader when the first segment arrives
}

// A segment is a run of bytes that arrives at one time.
type segment struct {
	at time.Time // zero: it has arrived
	b  []byte
}

// A deadline wakes the stream when it passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newStream(size int) *stream {
	s := &stream{size: size}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readErr != nil:
			return 0, s.readErr
		case s.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case s.arrived():
			return s.take(b), nil
		case s.ended && s.waiting == 0 && !s.frozen:
			return 0, io.EOF
		}
		s.cond.Wait()
	}
}

// arrived reports whether there are bytes to be read. If they are on their way it sees to being woken.
func (s *stream) arrived() bool {
	if s.frozen || s.waiting == 0 {
		return false
	}
	left := time.Until(s.segments[0].at)
	if left <= 0 {
		return true
	}
	if s.arrival == nil {
		s.arrival = time.AfterFunc(left, s.wake)
	} else {
		s.arrival.Reset(left)
	}
	return false
}

// take reads what has arrived.
func (s *stream) take(b []byte) (n int) {
	now := time.Now()
	for n < len(b) && len(s.segments) > 0 && !s.segments[0].at.After(now) {
		first := &s.segments[0]
		k := copy(b[n:], first.b)
		first.b = first.b[k:]
		n += k
		if len(first.b) == 0 {
			s.segments = s.segments[1:]
		}
	}
	s.waiting -= n
	if s.waiting == 0 {
		s.segments = nil
	}
	s.cond.Broadcast()
	return n
}

func (s *stream) write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writeErr != nil:
			return n, s.writeErr
		case s.writeBy.passed():
			return n, os.ErrDeadlineExceeded
		case n == len(b):
			return n, nil
		}
		if k := min(len(b)-n, s.size-s.waiting); k > 0 {
			s.put(b[n : n+k])
			n += k
			continue
		}
		s.cond.Wait()
	}
}

// put adds a copy of b.
func (s *stream) put(b []byte) {
	var at time.Time
	if s.latency > 0 {
		at = time.Now().Add(s.latency)
	}
	if last := len(s.segments) - 1; last >= 0 && s.segments[last].at.Equal(at) {
		s.segments[last].b = append(s.segments[last].b, b...)
	} else {
		if last >= 0 && s.segments[last].at.After(at) {
			at = s.segments[last].at // never overtakes
		}
		s.segments = append(s.segments, segment{at: at, b: append([]byte(nil), b...)})
	}
	s.waiting += len(b)
	s.cond.Broadcast()
}

// closeRead ends the reader's side. It reports false if that has been done before.
func (s *stream) closeRead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr == net.ErrClosed {
		return false
	}
	s.readErr = net.ErrClosed
	if s.writeErr == nil {
		s.writeErr = syscall.EPIPE
	}
	s.drop()
	return true
}

// closeWrite ends the writer's side; its further writes fail with err.
func (s *stream) closeWrite(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.writeErr = true, err
	s.writeBy.stop()
	s.cond.Broadcast()
}

func (s *stream) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr == nil {
		s.readErr = syscall.ECONNRESET
	}
	if s.writeErr == nil {
		s.writeErr = syscall.ECONNRESET
	}
	s.drop()
}

// drop forgets what waits.
func (s *stream) drop() {
	s.segments, s.waiting = nil, 0
	s.readBy.stop()
	s.writeBy.stop()
	if s.arrival != nil {
		s.arrival.Stop()
	}
	s.cond.Broadcast()
}

func (s *stream) freeze(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = on
	s.cond.Broadcast()
}

func (s *stream) setLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

func (s *stream) setReadDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy.set(t, s.wake)
	s.cond.Broadcast()
}

func (s *stream) setWriteDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy.set(t, s.wake)
	s.cond.Broadcast()
}

// wake has everybody look again; timers call it.
func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cond.Broadcast()
}

func (d *deadline) set(t time.Time, wake func()) {
	d.stop()
	d.at = t
	if left := time.Until(t); !t.IsZero() && left > 0 {
		d.timer = time.AfterFunc(left, wake)
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
