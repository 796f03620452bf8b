// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bufio"
	"fmt"
	"io"
	"sync"
	"time"
)

// A trace writes what happened, a line each: seconds since the start, client, event. A nil trace writes nothing. Any goroutine uses it.
type trace struct {
	mu  sync.Mutex
	w   *bufio.Writer
	err error // the first one
}

// newTrace returns nil if there is nowhere to write to.
func newTrace(w io.Writer) *trace {
	if w == nil {
		return nil
	}
	return &trace{w: bufio.NewWriterSize(w, 64<<10)}
}

func (t *trace) write(at time.Duration, client, format string, args ...any) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if client == "" {
		client = "-"
	}
	_, err := fmt.Fprintf(t.w, "%.6f\t%s\t%s\n", at.Seconds(), client, fmt.Sprintf(format, args...))
	if t.err == nil {
		t.err = err
	}
}

// flush writes what is buffered and gives the first error of all writing.
func (t *trace) flush() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.w.Flush(); t.err == nil {
		t.err = err
	}
	return t.err
}
