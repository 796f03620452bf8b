// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// A Signal is how the broker is killed.
type Signal string

// The signals. Kill cannot be caught; after Terminate the broker may put things in order.
const (
	Kill      Signal = "KILL"
	Terminate Signal = "TERM"
)

// A process is one start of the broker, with all processes of its group.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // why; read it after ended
	tail  *tail
}

// start starts the command in a process group of its own. Its output goes to w, which may be nil.
func start(command []string, w io.Writer) (*process, error) {
	p := &process{cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{}), tail: &tail{w: w}}
	p.cmd.Stdout, p.cmd.Stderr = p.tail, p.tail
	p.cmd.WaitDelay = time.Second
	ownGroup(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Ended implements Process.
func (p *process) Ended() <-chan struct{} { return p.ended }

// End sends the signal to the group and waits until the process has ended; one that does not heed it within patience is killed.
func (p *process) End(s Signal, patience time.Duration) error {
	if err := signalGroup(p.cmd.Process, s); err != nil {
		return fmt.Errorf("signal %s: %w", s, err)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		if err := signalGroup(p.cmd.Process, Kill); err != nil {
			return fmt.Errorf("signal %s: %w", Kill, err)
		}
		<-p.ended
	}
	if s == Terminate { // children may be left
		return signalGroup(p.cmd.Process, Kill)
	}
	return nil
}

// Why says how a process ended by itself, and what it said last.
func (p *process) Why() error {
	how := "it ended"
	if p.err != nil {
		how = p.err.Error()
	}
	if said := p.tail.last(); said != "" {
		how += "; it said last: " + said
	}
	return errors.New(how)
}

// A tail passes output on and keeps the end of it.
type tail struct {
	mu   sync.Mutex
	w    io.Writer
	kept []byte
}

const maxTail = 1000

// Write never fails: the broker must not notice what becomes of its words.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w != nil {
		if _, err := t.w.Write(b); err != nil {
			t.w = nil
		}
	}
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-maxTail):]
	return len(b), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
