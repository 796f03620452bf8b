// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A Host is where the broker under test runs. One goroutine calls its methods, but Dial, which any actor calls.
type Host interface {
	// Start starts the broker. It need not let clients in at once.
	Start() (Process, error)
	// Dial opens a connection to the broker that was started last.
	Dial(ctx context.Context) (net.Conn, error)
	// Play is told that the actors begin: with all they can, or, at the end, only with what they have left to do. Faults belong into
	// what follows the former.
	Play(working bool)
}

// A Process is one start of the broker.
type Process interface {
	// Ended is closed when it has ended, by itself or by End.
	Ended() <-chan struct{}
	// Why says how it came to end by itself, after Ended. nil: its host had planned it, as another kill.
	Why() error
	// End ends it and waits until it has ended; one that does not heed the signal within patience is killed.
	End(s Signal, patience time.Duration) error
}

// A program is the host of a command, which listens on a port of this host.
type program struct {
	command []string
	address string
	output  io.Writer
}

var errEscaped = errors.New("the broker still listens after its process group was killed: the command has to keep it in the foreground")

// free says whether nobody listens.
func (p *program) free() bool {
	c, err := net.DialTimeout("tcp", p.address, time.Second)
	if err == nil {
		c.Close()
	}
	return err != nil
}

// Start implements Host.
func (p *program) Start() (Process, error) {
	if !p.free() {
		return nil, errEscaped
	}
	return start(p.command, p.output)
}

// Dial implements Host.
func (p *program) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", p.address)
}

// Play implements Host.
func (p *program) Play(bool) {}

// newProgram refuses an address on which somebody listens.
func newProgram(command []string, address string, output io.Writer) (*program, error) {
	p := &program{command: command, address: address, output: output}
	if !p.free() {
		return nil, fmt.Errorf("something listens on %s before the broker was started", address)
	}
	return p, nil
}
