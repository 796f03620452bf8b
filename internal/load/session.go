// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"fmt"
	"net"
	"time"
)

const (
	// sessionsAtOnce is how many clients are connected at the same time while sessions are made.
	sessionsAtOnce = 1000
	// greetPause is how long Greet waits after a failed attempt.
	greetPause = time.Millisecond
	// greetWithin bounds one attempt of Greet: a broker that accepts connections may not be ready to answer.
	greetWithin = 120 * time.Second
)

// Session is a persistent session.
type Session struct {
	ClientID string
	Filters  []string
}

// MakeSessions has persistent sessions made, with subscriptions at QoS 1, whose clients are offline when it returns.
func MakeSessions(ctx context.Context, addr string, sessions []Session) error {
	for len(sessions) > 0 {
		n := min(sessionsAtOnce, len(sessions))
		if err := makeSessions(ctx, addr, sessions[:n]); err != nil {
			return err
		}
		sessions = sessions[n:]
	}
	return nil
}

func makeSessions(ctx context.Context, addr string, sessions []Session) error {
	e, err := newEngine(addr, Wire{})
	if err != nil {
		return err
	}
	defer e.close()
	clients := make([]client, len(sessions))
	for i, s := range sessions {
		clients[i] = client{id: s.ClientID, filters: s.Filters, qos: 1, persistent: true}
	}
	if err := e.connect(ctx, clients, setupWithin); err != nil {
		return err
	}
	return e.leave(ctx, setupWithin)
}

// Greet connects as often as it takes until the broker at addr grants a connection, or ctx ends.
func Greet(ctx context.Context, addr string) error {
	for {
		err := greet(ctx, addr)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(greetPause):
		case <-ctx.Done():
			return fmt.Errorf("load: no connection granted: %w", err)
		}
	}
}

// greet connects once and leaves.
func greet(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, greetWithin)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })()
	if _, err := c.Write(appendConnect(nil, "greet", false)); err != nil {
		return err
	}
	answer := make([]byte, 256)
	for have := 0; ; {
		n, err := c.Read(answer[have:])
		if err != nil {
			return err
		}
		have += n
		p, size, err := cut(answer[:have])
		if err != nil {
			return err
		}
		if size == 0 {
			continue
		}
		if p.kind() != typeConnack || len(p.body) < 2 || p.body[1] != 0 {
			return fmt.Errorf("load: refused by a packet of type %d", p.kind())
		}
		_, err = c.Write([]byte{typeDisconnect << 4, 0})
		return err
	}
}
