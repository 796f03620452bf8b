// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progressWords tells how many bytes something long has come: on a terminal one line, again and again, elsewhere a line now
// and then. What is done at once says nothing.
type progressWords struct {
	w        io.Writer
	terminal bool
	every    time.Duration

	mu   sync.Mutex
	next time.Time
	told bool
}

func newProgress(w io.Writer, terminal bool) *progressWords {
	p := &progressWords{w: w, terminal: terminal, every: 30 * time.Second}
	if terminal {
		p.every = time.Second / 4
	}
	p.next = time.Now().Add(p.every)
	return p
}

// tell may be called often, and on any goroutine.
func (p *progressWords) tell(bytes int64, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	p.next, p.told = now.Add(p.every), true
	if p.terminal {
		fmt.Fprintf(p.w, "\r%s %s\x1b[K", sizeText(bytes), what)
	} else {
		fmt.Fprintln(p.w, sizeText(bytes), what)
	}
}

// end makes room for what is said next.
func (p *progressWords) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.told {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
