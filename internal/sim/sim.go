// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package sim plays whole brokers with some thirty clients on faulty disks and networks, in virtual time: the cast and the judge are those of
// package verify, the broker runs in the same process on Pebble's crashable file system in memory, and everything happens inside one bubble of
// testing/synctest. A minute of slow disks, expiry and wills is over in a second.
//
// A seed decides the plan: how long each life of the broker lasts and how it ends (killed, stopped, the power cut at a time or at one change
// of a file, an fsync that fails), how often opening is cut short before, when the disk is slow or full, which share of what was not synced a
// power cut leaves, when connections break; and what clients choose to do and publish. It does not decide which of two goroutines runs first:
// synctest has no say in that. So a seed that found something finds it again in most cases, not in all.
//
// What happens at one instant of virtual time happens as a whole before time goes on. So that faults fall between the steps of the broker,
// and not only into its rest, each sync takes a while, and so does each byte on its way.
//
// A goroutine that waits for a mutex does not count as waiting for time. Whoever holds a mutex while a sync takes its time, and has
// others wait for it, would stop the clock for ever. Pebble does so while it is opened or closed (DB.mu): so the files of
// the state take no time then. A simulation in which it happens makes no progress, and its test ends with the stacks of all
// goroutines.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/verify"
)

// Options of a simulation.
type Options struct {
	Seed uint64
	// Forgetful is the control: no sync does anything, and what was not synced is gone after each power cut.
	Forgetful bool
	Trace     io.Writer // is written what happened, a line each; may be nil
}

// folder is where the store is, on a disk of its own.
const folder = "data"

// Run plays one seed. It is called inside a bubble, and has ended all that it started when it returns. An error says what is wrong that
// is not in the report.
func Run(ctx context.Context, o Options) (*Outcome, error) {
	if o.Trace != nil {
		o.Trace = &lines{w: o.Trace}
	}
	p := newPlan(o)
	h := newHost(p)
	v := verify.Defaults()
	v.Host, v.Seed, v.Rounds, v.Rate, v.Ledger, v.Time = h, o.Seed, p.rounds, p.rate, o.Trace, 0
	v.Protocols = []mqtt.Version{mqtt.V311, mqtt.V5}
	v.MaxPayload, v.Tolerance = 20_000, 1200*time.Millisecond // intervals are whole seconds, in the protocol
	rep, err := verify.Run(ctx, v)
	h.old.Wait()
	err = errors.Join(err, h.trouble())
	if !o.Forgetful {
		err = errors.Join(err, h.whole())
	}
	return &Outcome{rep, h.hits}, err
}

// An Outcome is what came of a seed.
type Outcome struct {
	*verify.Report
	Faults map[string]int // that came to pass, by name
}

// lines has one goroutine write at a time.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// whole verifies what is on the disk at the end, byte for byte.
func (h *host) whole() error {
	r, err := store.Verify(folder, store.VerifyOptions{FS: h.disk})
	if err != nil {
		return fmt.Errorf("verify the folder: %w", err)
	}
	if !r.Sound {
		return fmt.Errorf("the folder is damaged: %+v", r)
	}
	return nil
}
