// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"log/slog"
	"sync"
	"time"
)

// outcome of one question.
type outcome byte

const (
	neutral outcome = iota // says nothing about who was asked
	success
	failure
)

// breaker counts failures in a row.
//
//	closed --max failures--> open --pause over--> trial --success--> closed
//	                          ^                     |
//	                          +------ failure ------+
type breaker struct {
	max   int
	pause time.Duration
	log   *slog.Logger

	mu       sync.Mutex
	failures int
	until    time.Time // open until then; zero is closed
	trying   bool      // the trial is on its way
}

// enter says whether a question may be asked, and whether it is the trial. Who is let in calls leave.
func (b *breaker) enter(now time.Time) (trial, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return false, true
	case now.Before(b.until) || b.trying:
		return false, false
	}
	b.trying = true
	return true, true
}

// leave tells how it went.
func (b *breaker) leave(trial bool, o outcome, now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if trial {
		b.trying = false
	}
	switch o {
	case success:
		if !b.until.IsZero() {
			b.log.Info("it answers again; logins are asked about as before")
		}
		b.failures, b.until = 0, time.Time{}
	case failure:
		b.failures++
		if trial || b.failures >= b.max && b.until.IsZero() {
			if !trial {
				b.log.Warn("it does not answer; logins are refused without asking until one that is tried succeeds", "failures", b.failures,
					"tried_every", b.pause, "err", err)
			}
			b.until = now.Add(b.pause)
		}
	}
}
