// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Progress is how far a run has come.
type Progress struct {
	Round, Rounds int
	Phase         string // working, draining, resting
	Totals        Totals
	Violations    int64
}

// How long a life of the broker and the pause after it last. In one of four rounds the pause is long, so that things expire meanwhile;
// in one of four the broker is killed once more while it starts.
const (
	minLife, maxLife       = 200 * time.Millisecond, 3 * time.Second
	maxPause               = 200 * time.Millisecond
	minLongPause, longMore = 2500 * time.Millisecond, 2500 * time.Millisecond
	maxStart               = 250 * time.Millisecond
	termPatience           = 30 * time.Second // for a broker that is told to end
)

// A run is one verification.
type run struct {
	*env
	o       Options
	rng     *rand.Rand
	cast    *cast
	process Process
	life    life
	rounds  int // begun
}

// Run verifies a broker: it returns what it found, or an error if it could not judge. When ctx ends it kills the broker and gives up.
// It owns the processes that it starts, and leaves none behind.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	address, username, password, err := o.target()
	if err != nil {
		return nil, err
	}
	e := &env{
		username: username, password: password, trace: newTrace(o.Ledger), began: time.Now(),
		runID: mix(o.Seed ^ uint64(time.Now().UnixNano())), restart: o.RestartTimeout, quiet: o.Quiet,
	}
	e.root = fmt.Sprintf("noctule-verify/%08x", uint32(e.runID))
	e.ledger = newLedger(e.runID, o.Tolerance, o.MaxPayload, e.trace)
	r := &run{env: e, o: o, rng: rand.New(rand.NewPCG(o.Seed, 0))}
	r.cast = newCast(e, &o)
	if e.host = o.Host; e.host == nil {
		if e.host, err = newProgram(o.Command, address, o.Output); err != nil {
			return nil, err
		}
	}
	stop := r.report(ctx)
	ended, err := r.all(ctx)
	stop()
	if r.process != nil {
		err = errors.Join(err, r.process.End(Kill, termPatience))
	}
	if err := errors.Join(err, e.trace.flush()); err != nil {
		return nil, err
	}
	return r.verdict(ended), nil
}

// report calls Progress until it is stopped.
func (r *run) report(ctx context.Context) (stop func()) {
	if r.o.Progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			r.o.Progress(r.ledger.progress(r.o.Rounds))
			sleep(ctx, 500*time.Millisecond)
		}
	})
	return func() { cancel(); done.Wait() }
}

// all plays all rounds and the end. ended says why it was cut short, if it was: the broker did not come back.
func (r *run) all(ctx context.Context) (ended string, err error) {
	if err := r.start(ctx); err != nil {
		return "", fmt.Errorf("start the broker: %w", err)
	}
	if err := r.prepare(ctx); err != nil {
		return "", fmt.Errorf("prepare: %w", err)
	}
	for round := 1; round <= r.o.Rounds && !r.finished(round); round++ {
		r.rounds = round
		r.enter(round, working)
		back, err := r.round(ctx)
		if err != nil || !back {
			return "the broker did not come back", err
		}
	}
	for _, p := range []phase{draining, resting} {
		r.enter(r.rounds, p)
		if err := r.play(ctx, nil); err != nil {
			return "", err
		}
		if p == draining {
			if err := r.kill(); err != nil {
				return "", err
			}
			if back, err := r.comeBack(ctx); err != nil || !back {
				return "the broker did not come back", err
			}
		}
	}
	return "", nil
}

// finished says whether no further round is to begin; there is one at least.
func (r *run) finished(round int) bool {
	select {
	case <-r.o.Finish:
		return true
	default:
		return round > 1 && r.o.Time > 0 && r.now() > r.o.Time
	}
}

func (r *run) enter(round int, p phase) {
	r.ledger.enter(round, p)
	r.life.phase = p
	r.life.number++
	r.trace.write(r.now(), "", "ROUND %d %v", round, p)
}

// prepare lets all actors make their subscriptions while nothing else happens.
func (r *run) prepare(ctx context.Context) error {
	for _, a := range append(r.cast.publishers[:len(r.cast.publishers):len(r.cast.publishers)], r.cast.others...) {
		if err := a.prepare(ctx); err != nil {
			return err
		}
	}
	for _, a := range r.cast.shared {
		if err := a.prepare(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			r.trace.write(r.now(), "", "shared subscriptions are not verified: %v", err)
			r.cast.shared = nil
			r.ledger.forgo(DeliveredShared)
			break
		}
	}
	return nil
}

// round lets the actors work until the broker is killed, and starts it again. back is false if it did not come back.
func (r *run) round(ctx context.Context) (back bool, err error) {
	span := minLife + r.chance(maxLife-minLife)
	if err := r.play(ctx, func() error { return r.killAfter(ctx, span) }); err != nil {
		return false, err
	}
	pause := r.chance(maxPause)
	if r.rounds%4 == 3 {
		pause = minLongPause + r.chance(longMore)
	}
	sleep(ctx, pause)
	if r.rounds%4 == 1 && r.rounds > 1 {
		if err := r.stumble(ctx); err != nil {
			return false, err
		}
	}
	return r.comeBack(ctx)
}

// play runs all actors in the life at hand. end, if there is one, ends the life; without it they go when they have nothing more to do.
func (r *run) play(ctx context.Context, end func() error) error {
	alive, dead := context.WithCancel(ctx)
	defer dead()
	var publishers, others sync.WaitGroup
	l := r.life
	l.published = make(chan struct{})
	r.host.Play(l.phase == working)
	for _, a := range r.cast.publishers {
		publishers.Go(func() { a.live(alive, &l) })
	}
	for _, a := range append(r.cast.others[:len(r.cast.others):len(r.cast.others)], r.cast.shared...) {
		others.Go(func() { a.live(alive, &l) })
	}
	var err error
	if end != nil {
		err = end()
		dead()
	}
	publishers.Wait()
	close(l.published)
	others.Wait()
	return errors.Join(err, ctx.Err())
}

// killAfter kills the broker after a while. One that ends by itself before is noted.
func (r *run) killAfter(ctx context.Context, d time.Duration) error {
	select {
	case <-r.process.Ended():
		if why := r.process.Why(); why != nil {
			r.ledger.started(r.now(), fmt.Errorf("the broker ended by itself: %w", why))
		}
	case <-time.After(d):
	case <-ctx.Done():
	}
	return r.kill()
}

// kill kills the broker and notes when.
func (r *run) kill() error {
	r.trace.write(r.now(), "", "KILL %s", r.o.Signal)
	at := r.now()
	err := r.process.End(r.o.Signal, termPatience)
	r.ledger.death(at)
	r.process = nil
	return err
}

// stumble starts the broker and kills it before or soon after it is ready.
func (r *run) stumble(ctx context.Context) error {
	p, err := r.host.Start()
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	r.trace.write(r.now(), "", "START, to be killed at once")
	sleep(ctx, r.chance(maxStart))
	at := r.now()
	err = p.End(Kill, termPatience)
	r.ledger.death(at)
	return err
}

// comeBack starts the broker again and judges whether it does.
func (r *run) comeBack(ctx context.Context) (bool, error) {
	err := r.start(ctx)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if errors.Is(err, errEscaped) {
		return false, err
	}
	r.ledger.started(r.now(), err)
	return err == nil, nil
}

// start starts the broker and waits until it lets a client in.
func (r *run) start(ctx context.Context) error {
	p, err := r.host.Start()
	if err != nil {
		return err
	}
	r.process = p
	r.trace.write(r.now(), "", "START")
	probe := client{env: r.env, id: fmt.Sprintf("nv-%08x-ready", uint32(r.runID)), v: r.o.Protocols[0], holds: gone}
	for began := r.now(); ; {
		n, _, err := probe.attempt(ctx, true, nil)
		if err == nil {
			n.disconnect()
			r.life.ready = r.now()
			return nil
		}
		select {
		case <-p.Ended():
			return p.Why()
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(connectPause):
		}
		if r.now()-began > r.restart {
			return fmt.Errorf("no client is let in within %v: %w", r.restart, err)
		}
	}
}

// chance is a random part of a time.
func (r *run) chance(d time.Duration) time.Duration { return time.Duration(r.rng.Int64N(int64(d))) }
